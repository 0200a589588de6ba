"""`deepseek-proxy codex` with a stand-in for Codex: a program that shows what it was given and uses it."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

STAND_IN = f"""#!{sys.executable}
import json, re, sys, urllib.request

told = " ".join(sys.argv[1:])
base_url = re.search(r'base_url="?(http[^"\\s]+)', told).group(1)
body = json.dumps({{"model": "deepseek-flash", "input": "Say hello."}}).encode()
request = urllib.request.Request(base_url + "/responses", body, {{"Content-Type": "application/json"}})
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


def run(tmp_path: Path, *arguments: str, path: Path) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": str(path), "HOME": str(tmp_path), "TMPDIR": str(tmp_path)}
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
