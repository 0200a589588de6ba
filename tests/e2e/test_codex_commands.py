"""The commands that set Codex up, or run it without a configuration: with the real Codex."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final

import pytest
from e2e.backend import Backend
from e2e.codex import FREE, NEWEST, OLDEST, Codex
from e2e.terminal import ENTER, Terminal
from harness.gateway import Gateway

SECONDS: Final = 60
MINE: Final = '# mine\nmodel = "gpt-5"\n\n[tui]\nnotifications = false\n'
EXEC: Final = ("exec", "--skip-git-repo-check", "--json")

# One that asks the gateway for the models, and one that has them in a file.
both_versions = pytest.mark.parametrize("version", [NEWEST, OLDEST])


def start(codex: Codex, *arguments: str) -> subprocess.Popen[str]:
    """`deepseek-proxy` as Codex's user runs it."""
    return subprocess.Popen(
        [sys.executable, "-m", "deepseek_proxy", *arguments],
        cwd=codex.work,
        env=codex.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def run(codex: Codex, *arguments: str) -> tuple[int, str]:
    """The exit code, and what was written to stdout."""
    with start(codex, *arguments) as process:
        output, _ = process.communicate(timeout=SECONDS)
    return process.returncode, output


def files(codex: Codex) -> set[str]:
    return {path.name for path in codex.codex_home.iterdir()}


# -- setup ----------------------------------------------------------------------------------------


@both_versions
def test_setup(tmp_path: Path, gateway: Gateway, backend: Backend, version: str) -> None:
    """What it writes is all that Codex needs; what was there comes back."""
    codex = Codex(tmp_path, gateway, version, configured=True)
    config = codex.codex_home / "config.toml"
    config.write_text(MINE)
    url = f"http://127.0.0.1:{gateway.port}"
    assert run(codex, "setup", "codex", "--yes", "--url", url, "--effort", "low")[0] == 0
    answer = codex.exec("Say hello")
    assert (answer.answer, answer.warnings) == ("hello", [])
    (body,) = backend.bodies()
    assert (body["model"], body["reasoning_effort"]) == ("deepseek-flash", "low")
    assert run(codex, "setup", "codex", "--undo", "--yes")[0] == 0
    assert config.read_text() == MINE
    assert not [name for name in files(codex) if "deepseek" in name]


# -- codex ----------------------------------------------------------------------------------------


@both_versions
def test_run(tmp_path: Path, gateway: Gateway, version: str) -> None:
    codex = Codex(tmp_path, gateway, version)
    code, output = run(codex, "codex", "--simulate", "--", *EXEC, "Say hello")
    assert code == 0
    items = [event["item"] for event in events(output) if event["type"] == "item.completed"]
    assert [item["text"] for item in items if item["type"] == "agent_message"] == ["hello"]
    assert [item for item in items if item["type"] == "error"] == [], "the catalogue was not read"
    assert "config.toml" not in files(codex)


def test_exit_codes_pass_through(codex: Codex) -> None:
    assert run(codex, "codex", "--simulate", "--", "exec", "--nonsense")[0] == 2
    code, output = run(codex, "codex", "--simulate", "--", *EXEC, "Say it [[simulate: fault 402]]")
    assert code == 1
    assert "Quota exceeded" in events(output)[-1]["error"]["message"]


def test_ctrl_c(codex: Codex) -> None:
    """The terminal sends it to everybody. Codex ends by it, and then the gateway does."""
    slow = (
        "[[simulate: pace 0.3]] [[simulate: reason 1]] Say one two three four five six seven eight nine ten"
    )
    with start(codex, "codex", "--simulate", "--", *EXEC, slow) as process:
        assert process.stdout is not None
        while '"reasoning"' not in (line := process.stdout.readline()):
            assert line, "Codex ended before it was to"
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        assert len(children) == 2, "the gateway, and Codex"
        os.killpg(process.pid, signal.SIGINT)
        began = time.monotonic()
        process.communicate(timeout=SECONDS)
    assert process.returncode not in (0, -signal.SIGINT)
    assert time.monotonic() - began < 10
    assert [pid for pid in children if Path(f"/proc/{pid}").exists()] == []


def test_in_a_terminal(codex: Codex) -> None:
    """The terminal is Codex's, and its exit code is ours."""
    options = ["-c", "check_for_update_on_startup=false", FREE, "--no-alt-screen", "--no-daemon"]
    command = [sys.executable, "-m", "deepseek_proxy", "codex", "--simulate", "--", *options, "Say hello"]
    with Terminal(command, codex.work, codex.environment) as terminal:
        terminal.wait_for("• hello\n", "Worked for")
        terminal.type("/quit")
        terminal.wait_for("exit Codex")
        terminal.type(ENTER)
        assert terminal.wait_for_end() == 0


def events(output: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output.splitlines()]
