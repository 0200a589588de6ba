"""`deepseek-proxy setup codex`, as a person uses it."""

import json
import os
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from deepseek_proxy.cli import main

MINE = '# mine\nmodel = "gpt-5"\n'


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Codex's folder, of a user who has not installed it."""
    folder = tmp_path / "codex"
    folder.mkdir()
    monkeypatch.setenv("CODEX_HOME", str(folder))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    (folder / "config.toml").write_text(MINE)
    (folder / "auth.json").write_text("{}")
    return folder


def run(*arguments: str, answer: str = "") -> Result:
    return CliRunner().invoke(main, ["setup", "codex", *arguments], input=answer)


def config(home: Path) -> str:
    return (home / "config.toml").read_text()


def install(version: str) -> None:
    program = Path(os.environ["PATH"]) / "codex"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\necho codex-cli {version}\n")
    program.chmod(0o755)


def test_it_shows_the_change_and_asks(home: Path) -> None:
    result = run(answer="n\n")
    assert '-model = "gpt-5"' in result.output
    assert '+model = "deepseek-flash"' in result.output
    assert result.output.endswith("Nothing was changed.\n")
    assert config(home) == MINE
    assert sorted(path.name for path in home.iterdir()) == ["auth.json", "config.toml"]


def test_it_writes_what_was_agreed_and_undoes_it(home: Path) -> None:
    assert run(answer="y\n").exit_code == 0
    assert 'model_provider = "deepseek"' in config(home)
    undone = run("--undo", "--yes")
    assert undone.exit_code == 0
    assert config(home) == MINE
    assert (home / "auth.json").read_text() == "{}"
    assert sorted(path.name for path in home.iterdir()) == ["auth.json", "config.toml"]


def test_print_only_prints(home: Path) -> None:
    result = run("--print", "--yes")
    assert '+model_provider = "deepseek"' in result.output
    assert config(home) == MINE


def test_a_second_time_there_is_nothing_to_do(home: Path) -> None:
    run("--yes")
    assert "says all that already" in run("--yes").output


def test_options_reach_the_file(home: Path) -> None:
    run(
        "--yes",
        "--url",
        "https://gate.example/v1/",
        "--model",
        "deepseek-v4-pro",
        "--effort",
        "max",
        "--no-key",
    )
    text = config(home)
    assert 'base_url = "https://gate.example/v1"' in text
    assert 'model = "deepseek-v4-pro"' in text
    assert 'model_reasoning_effort = "max"' in text
    assert "env_key" not in text


def test_the_search_that_the_gateway_runs_is_left_on(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run("--yes")
    assert 'web_search = "disabled"' in config(home)
    run("--undo", "--yes")
    monkeypatch.setenv("DEEPSEEK_PROXY_WEB_SEARCH", "deepseek")
    run("--yes")
    assert "web_search" not in config(home)


def test_a_model_list_in_a_file_comes_and_goes_with_the_configuration(home: Path) -> None:
    assert run("--yes", "--catalog").exit_code == 0
    catalogue = home / "deepseek-proxy-models.json"
    assert tomllib.loads(config(home))["model_catalog_json"] == str(catalogue)
    written = catalogue.read_text()
    assert {entry["slug"] for entry in json.loads(written)["models"]} == {"deepseek-flash", "deepseek-v4-pro"}
    catalogue.write_text("of an older gateway")
    assert "says all that already" in run("--catalog").output
    assert catalogue.read_text() == written
    run("--undo", "--yes")
    assert config(home) == MINE
    assert sorted(path.name for path in home.iterdir()) == ["auth.json", "config.toml"]


@pytest.mark.parametrize(
    ("version", "options", "in_file"),
    [
        ("0.118.0", [], True),
        ("0.161.0", [], True),
        ("0.162.0", [], False),
        ("0.118.0", ["--no-catalog"], False),
        ("0.169.0", ["--catalog"], True),
    ],
)
def test_a_codex_that_does_not_ask_for_the_model_list_gets_it_in_a_file(
    home: Path, version: str, options: list[str], in_file: bool
) -> None:
    install(version)
    run("--yes", *options)
    assert ("model_catalog_json" in config(home)) == in_file
    assert (home / "deepseek-proxy-models.json").exists() == in_file


def test_an_effort_that_codex_does_not_know_is_not_written(home: Path) -> None:
    install("0.130.0")
    refused = run("--yes", "--effort", "max")
    assert refused.exit_code == 2
    assert "does not know the effort 'max'" in refused.output
    assert config(home) == MINE


def test_print_writes_no_model_list(home: Path) -> None:
    assert "+model_catalog_json = " in run("--print", "--catalog").output
    assert sorted(path.name for path in home.iterdir()) == ["auth.json", "config.toml"]


def test_without_a_backup_there_is_nothing_to_undo(home: Path) -> None:
    result = run("--undo")
    assert result.exit_code == 1
    assert "nothing to undo" in result.output


def test_a_broken_file_is_named_and_kept(home: Path) -> None:
    (home / "config.toml").write_text("model = ")
    result = run("--yes")
    assert result.exit_code == 1
    assert str(home / "config.toml") in result.output
    assert "not valid TOML" in result.output
    assert config(home) == "model = "
