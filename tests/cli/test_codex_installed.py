"""The version of the Codex on this machine, and what an old one can read."""

from __future__ import annotations

import json
from pathlib import Path

import click
import pytest

from deepseek_proxy import models
from deepseek_proxy.cli import codex_installed


def install(folder: Path, script: str) -> None:
    """Puts a `codex` there that does this."""
    program = folder / "codex"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)


@pytest.mark.parametrize(
    ("script", "version"),
    [
        ("echo codex-cli 0.142.0", "0.142.0"),
        ("echo codex-cli 0.169.0-alpha.3", "0.169.0-alpha.3"),
        ("echo codex, a bookkeeper of 2009", None),
        ("exit 1", None),
    ],
)
def test_codex_says_its_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, version: str | None
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert codex_installed.version() is None
    install(tmp_path, script)
    assert codex_installed.version() == version


def test_a_program_that_cannot_be_run_has_no_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    install(tmp_path, "")
    (tmp_path / "codex").write_bytes(b"\x7fELF\0")
    assert codex_installed.version() is None


@pytest.mark.parametrize(
    ("version", "efforts"),
    [
        (None, ["none", "low", "high"]),
        ("0.118.0", ["none", "low", "high"]),
        ("0.150.1", ["none", "low", "high", "max"]),
    ],
)
def test_the_file_is_what_the_gateway_would_say(version: str | None, efforts: list[str]) -> None:
    entries = json.loads(codex_installed.catalogue(version))["models"]
    assert [entry["slug"] for entry in entries] == list(models.MODELS)
    for entry in entries:
        assert [level["effort"] for level in entry["supported_reasoning_levels"]] == efforts


def test_an_effort_that_the_version_does_not_know_is_refused() -> None:
    for effort, version in [("max", "0.142.0"), ("max", None), ("high", "0.118.0")]:
        codex_installed.check_effort(effort, version)
    with pytest.raises(click.UsageError, match=r"Codex 0\.130\.0 does not know the effort 'max'"):
        codex_installed.check_effort("max", "0.130.0")
