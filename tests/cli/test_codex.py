"""`deepseek-proxy codex` with stand-ins for Codex: what it is given, how it ends, and that nothing stays.

The real one is driven in `tests/e2e/test_codex_commands.py`.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from harness.waiting import wait_for

SECONDS = 30

STAND_IN = f"""#!{sys.executable}
import json, re, sys, urllib.request

told = " ".join(sys.argv[1:])
base_url = re.search(r'base_url="?(http[^"\\s]+)', told).group(1)
body = json.dumps({{"model": "deepseek-flash", "input": "Say hello."}}).encode()
key = re.search(r'experimental_bearer_token="?([^"\\s]+)', told).group(1)
headers = {{"Content-Type": "application/json", "Authorization": "Bearer " + key}}
request = urllib.request.Request(base_url + "/responses", body, headers)
with urllib.request.urlopen(request) as answer:
    status = json.load(answer)["status"]
print(json.dumps({{"arguments": sys.argv[1:], "base_url": base_url, "status": status}}))
sys.exit(7)
"""


@pytest.fixture
def stand_in(tmp_path: Path) -> Path:
    """A folder with a `codex` in it."""
    folder = tmp_path / "bin"
    folder.mkdir()
    program = folder / "codex"
    program.write_text(STAND_IN)
    program.chmod(0o755)
    return folder


def run(tmp_path: Path, *arguments: str, path: Path, **more: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": str(path), "HOME": str(tmp_path), "TMPDIR": str(tmp_path), **more}
    command = [sys.executable, "-m", "deepseek_proxy", "codex", *arguments]
    return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)


def is_free(port: int) -> bool:
    """Whether nobody listens on a port."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def test_codex_runs_against_a_gateway_of_its_own(tmp_path: Path, stand_in: Path) -> None:
    ended = run(
        tmp_path, "--simulate", "--effort", "low", "--", "exec", "--json", "Say hello.", path=stand_in
    )
    assert ended.returncode == 7, ended.stderr  # its exit code is ours
    told: dict[str, Any] = json.loads(ended.stdout)
    assert told["status"] == "completed"
    assert told["arguments"][-3:] == ["exec", "--json", "Say hello."]
    given = " ".join(told["arguments"])
    assert re.search(r'model="?deepseek-flash', given)
    assert re.search(r'model_reasoning_effort="?low', given)
    # The gateway ended with it.
    port = int(told["base_url"].split(":")[2].split("/")[0])
    assert is_free(port)
    assert not [path for path in tmp_path.rglob("config.toml") if ".codex" in path.parts]


def test_codex_has_a_key_of_its_own_where_clients_have_keys(tmp_path: Path, stand_in: Path) -> None:
    keys = {"DEEPSEEK_PROXY_KEYS": "the-key-of-somebody-else"}
    ended = run(tmp_path, "--simulate", "--", "exec", "Say hello.", path=stand_in, **keys)
    assert ended.returncode == 7, ended.stderr
    told: dict[str, Any] = json.loads(ended.stdout)
    assert told["status"] == "completed"
    assert re.search(r'experimental_bearer_token="dsp-', " ".join(told["arguments"]))


@pytest.mark.parametrize(
    ("has_codex", "arguments", "message"),
    [
        (False, ("--simulate",), "codex is not installed; npm install --global @openai/codex installs it"),
        (True, (), "no DeepSeek key; run: export DEEPSEEK_API_KEY=sk-... (or try --simulate)"),
    ],
)
def test_what_is_missing_is_said(
    tmp_path: Path, stand_in: Path, has_codex: bool, arguments: tuple[str, ...], message: str
) -> None:
    ended = run(tmp_path, *arguments, path=stand_in if has_codex else Path(os.devnull))
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr == f"Error: {message}\n"


# -- with shell scripts for Codex -----------------------------------------------------------------


def start(folder: Path, script: str, *, version: str = "0.169.0") -> subprocess.Popen[str]:
    """The command on the simulator, in a session of its own, with a `codex` of a version that does this."""
    program = folder / "codex"
    program.write_text(
        f'#!/bin/sh\nif [ "$1" = --version ]; then echo codex-cli {version}; exit; fi\n{script}\n'
    )
    program.chmod(0o755)
    return subprocess.Popen(
        [sys.executable, "-m", "deepseek_proxy", "codex", "--simulate"],
        cwd=folder,
        env={"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}", "HOME": str(folder)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


@pytest.mark.parametrize(("version", "in_file"), [("0.142.0", True), ("0.162.0", False)])
def test_an_old_codex_gets_the_model_list_in_a_file_for_as_long_as_it_runs(
    tmp_path: Path, version: str, in_file: bool
) -> None:
    script = """
for part; do
    case $part in model_catalog_json=*) eval "cp ${part#*=} copy.json";; -c) ;; *) echo "$part";; esac
done
"""
    with start(tmp_path, script, version=version) as process:
        shown, _ = process.communicate(timeout=SECONDS)
    assert process.returncode == 0
    assert tomllib.loads(shown)["model"] == "deepseek-flash"
    copy = tmp_path / "copy.json"
    assert copy.exists() == in_file
    if in_file:
        assert "deepseek-flash" in [entry["slug"] for entry in json.loads(copy.read_text())["models"]]


@pytest.mark.parametrize(
    ("send", "number", "code"),
    [
        # A terminal sends Ctrl-C to everybody in it; a window that closes, and `kill`, may not.
        (os.killpg, signal.SIGINT, 130),
        (os.kill, signal.SIGTERM, 143),
        (os.kill, signal.SIGHUP, 129),
    ],
)
def test_when_it_is_stopped_nothing_stays(
    tmp_path: Path, send: Callable[[int, int], None], number: int, code: int
) -> None:
    with start(tmp_path, "touch started; exec sleep 60") as process:
        wait_for((tmp_path / "started").exists)
        children = children_of(process.pid)
        assert len(children) == 2, "the gateway, and Codex"
        send(process.pid, number)
        assert process.wait(SECONDS) == code
    assert [pid for pid in children if Path(f"/proc/{pid}").exists()] == []


def test_codex_may_take_no_notice_of_ctrl_c(tmp_path: Path) -> None:
    """In its terminal, Ctrl-C clears the line."""
    script = "trap 'touch noticed' INT; touch started; until [ -e noticed ]; do sleep 0.1; done; exit 3"
    with start(tmp_path, script) as process:
        wait_for((tmp_path / "started").exists)
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(SECONDS) == 3


def children_of(pid: int) -> list[int]:
    """Those of all threads."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return [int(child) for task in tasks for child in (task / "children").read_text().split()]
