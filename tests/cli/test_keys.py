"""`deepseek-proxy keys`: a key is shown once, its digest is kept, and mistakes change nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from harness import environments

from deepseek_proxy import keyfile
from deepseek_proxy.cli import main
from deepseek_proxy.credentials import digest_of

OWN = '[{"key": "the-key-of-carol-01", "name": "carol"}]'


@pytest.fixture(autouse=True)
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    environments.bare(monkeypatch)
    path = tmp_path / "keys.json"
    monkeypatch.setenv("DEEPSEEK_PROXY_KEYS_FILE", str(path))
    return path


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["keys", *arguments], catch_exceptions=False)


def test_a_new_key_is_shown_once_and_nothing_else_on_its_line(path: Path) -> None:
    result = run("new", "alice")
    assert result.exit_code == 0
    key = result.stdout.strip()
    assert key.startswith("dsp-")
    assert "not shown again" in result.stderr
    (alice,) = keyfile.read(path)
    assert (alice.name, alice.digest) == ("alice", digest_of(key))
    assert key not in path.read_text()
    assert key not in run("list").output


def test_limits(path: Path) -> None:
    limits = ["--model", "deepseek-flash", "--model", "deepseek-chat", "--max-concurrency", "2"]
    limits += ["--requests-per-minute", "60", "--tokens-per-day", "1000000", "--budget-per-day", "2.5"]
    assert run("new", "alice", *limits, "--expires", "2026-12-31", "--no-store").exit_code == 0
    (alice,) = keyfile.read(path)
    assert alice.models == ("deepseek-flash", "deepseek-chat")
    assert (alice.max_concurrency, alice.requests_per_minute) == (2, 60)
    assert (alice.tokens_per_day, alice.budget_per_day, alice.store) == (1_000_000, 2.5, False)
    assert alice.expires is not None
    assert alice.expires.isoformat() == "2027-01-01T00:00:00+00:00"
    shown = run("list").output
    assert "alice  models=deepseek-flash,deepseek-chat max_concurrency=2 requests_per_minute=60" in shown
    assert "store=False" in shown


def test_who_has_a_key(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "Nobody has a key." in run("list").stderr
    monkeypatch.setenv("DEEPSEEK_PROXY_KEYS", OWN)
    assert "expired already" in run("new", "alice", "--expires", "2020-01-01").stderr
    carol, alice = run("list").stdout.splitlines()
    assert carol == "carol  no limits  (configuration)"
    assert alice.startswith("alice  expires=2020-01-02T00:00+00:00")
    assert alice.endswith(f"EXPIRED  ({path})")


def test_revoking(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run("new", "alice")
    run("new", "bob")
    result = run("revoke", "alice")
    assert (result.exit_code, result.stderr) == (0, "alice is let in no more.\n")
    assert [client.name for client in keyfile.read(path)] == ["bob"]
    again = run("revoke", "alice")
    assert (again.exit_code, again.stderr) == (1, f"Error: {path} has no key of the name alice\n")
    monkeypatch.setenv("DEEPSEEK_PROXY_KEYS", OWN)
    assert "it is in the configuration, remove it there" in run("revoke", "carol").stderr


def test_a_name_is_taken_once(monkeypatch: pytest.MonkeyPatch) -> None:
    run("new", "alice")
    monkeypatch.setenv("DEEPSEEK_PROXY_KEYS", OWN)
    for name in ("alice", "carol"):
        result = run("new", name)
        assert (result.exit_code, result.stdout) == (1, "")
        assert f"{name} has a key already" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["two words"], "name: a name is 1 to 64"),
        (["alice", "--max-concurrency", "0"], "max_concurrency: "),
        (["alice", "--expires", "soon"], "expires: "),
        (["alice", "--model", "gpt-5"], "gpt-5 is not a model"),
        (["alice", "--budget-per-day", "nan"], "budget_per_day: "),
    ],
)
def test_a_mistake_makes_no_key(path: Path, arguments: list[str], words: str) -> None:
    result = run("new", *arguments)
    assert (result.exit_code, result.stdout) == (1, "")
    assert words in result.stderr
    assert not path.exists()


def test_a_file_that_cannot_be_used_is_left_as_it_is(path: Path) -> None:
    path.write_text("{")
    for arguments in (["new", "alice"], ["list"], ["revoke", "alice"]):
        result = run(*arguments)
        assert result.exit_code == 2  # the settings, which name it, cannot be used
        assert str(path) in result.stderr
    assert path.read_text() == "{"


def test_without_a_file_it_says_what_to_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("DEEPSEEK_PROXY_KEYS_FILE")
    assert "put keys_file = " in run("new", "alice").stderr
    other = tmp_path / "other.json"
    result = run("new", "alice", "--file", str(other))
    assert f'its configuration needs keys_file = "{other}"' in result.stderr
    assert len(keyfile.read(other)) == 1
    other.write_text("{")
    assert run("list", "--file", str(other)).exit_code == 1
