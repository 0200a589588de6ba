"""`deepseek-proxy setup codex`, as a person uses it."""

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from deepseek_proxy.cli import main

MINE = '# mine\nmodel = "gpt-5"\n'


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CODEX_HOME", str(tmp_path))
    (tmp_path / "config.toml").write_text(MINE)
    (tmp_path / "auth.json").write_text("{}")
    return tmp_path


def run(*arguments: str, answer: str = "") -> Result:
    return CliRunner().invoke(main, ["setup", "codex", *arguments], input=answer)


def config(home: Path) -> str:
    return (home / "config.toml").read_text()


def test_it_shows_the_change_and_asks(home: Path) -> None:
    result = run(answer="n\n")
    assert '-model = "gpt-5"' in result.output
    assert '+model = "deepseek-flash"' in result.output
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
