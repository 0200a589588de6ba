"""`deepseek-proxy config`: what is in effect, where it comes from, and no secret."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from harness import environments

from deepseek_proxy.cli import main
from deepseek_proxy.settings import Settings


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    environments.bare(monkeypatch)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["config", *arguments], catch_exceptions=False)


def test_every_setting_with_its_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "gateway.toml"
    path.write_text('port = 9000\n[model_aliases]\n"my model" = "deepseek-v4-pro"\n')
    monkeypatch.setenv("DEEPSEEK_PROXY_WORKERS", "3")
    monkeypatch.setenv("DEEPSEEK_API_KEY", "sk-canary-0123456789")
    result = run("--config", str(path))
    assert result.exit_code == 0
    lines = result.output.splitlines()
    assert len(lines) == len(Settings.model_fields)
    assert "port = 9000  # file" in lines
    assert "workers = 3  # DEEPSEEK_PROXY_WORKERS" in lines
    assert 'host = "127.0.0.1"  # default' in lines
    assert "# log_dir =  # default" in lines
    assert any(
        line.startswith("deepseek_api_key = ") and line.endswith("# DEEPSEEK_API_KEY") for line in lines
    )
    assert "canary" not in result.output
    assert tomllib.loads(result.output)["model_aliases"] == {"my model": "deepseek-v4-pro"}


def test_the_printed_toml_is_a_configuration_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEEPSEEK_PROXY_PORT", "9001")
    first = run()
    monkeypatch.delenv("DEEPSEEK_PROXY_PORT")
    path = tmp_path / "again.toml"
    path.write_text(first.output)
    second = run("--config", str(path))
    assert second.exit_code == 0, second.output
    assert tomllib.loads(second.output) == tomllib.loads(first.output)


def test_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEEPSEEK_PROXY_UPSTREAM_PROXY", "http://user:canary@proxy:8080")
    result = run("--format", "json")
    values = json.loads(result.output)
    assert list(values) == list(Settings.model_fields)
    assert values["port"] == 8787
    assert values["deepseek_api_key"] is None
    assert "canary" not in result.output


def test_wrong_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEEPSEEK_PROXY_PORT", "high")
    result = run()
    assert result.exit_code == 2
    assert "port (DEEPSEEK_PROXY_PORT): " in result.output
