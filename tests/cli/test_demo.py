"""`deepseek-proxy demo` shows the whole way and stops by itself."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from harness.waiting import wait_for

COMMAND = [sys.executable, "-m", "deepseek_proxy", "demo"]


def test_it_shows_thinking_a_tool_call_and_the_answer(tmp_path: Path) -> None:
    """In an environment that would break a gateway: the demo has its own."""
    started = time.monotonic()
    ended = subprocess.run(
        COMMAND,
        cwd=tmp_path,
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(tmp_path),
            "TMPDIR": str(tmp_path),
            "DEEPSEEK_PROXY_CONFIG": "none.toml",
            "DEEPSEEK_PROXY_UPSTREAM_URL": "nonsense",
            "DEEPSEEK_API_KEY": "sk-canary",
            "http_proxy": "http://127.0.0.1:9",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr == ""
    shown = [line.strip() for line in ended.stdout.splitlines() if line.strip()]
    parts = [line.split()[0] for line in shown[1:-1]]
    assert parts == ["you", "thinks", "calls", "result", "thinks", "answers"], ended.stdout
    assert 'calls  get_weather({"city": "Hamburg"})' in shown
    assert "9 degrees" in shown[-2]
    cached = re.fullmatch(r"(\d+) tokens in, (\d+) of them from the cache; \d+ out\..*", shown[-1])
    assert cached is not None
    assert 0 < int(cached[2]) < int(cached[1])
    assert "\x1b" not in ended.stdout  # no colours where nobody looks
    assert list(tmp_path.iterdir()) == []  # nothing stays behind
    assert time.monotonic() - started < 60


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_its_gateway_ends_with_it(tmp_path: Path, number: int) -> None:
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    demo = subprocess.Popen(COMMAND, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        wait_for(lambda: [*map(children_of, children_of(demo.pid))] not in ([], [[]]))  # it has its worker
        (gateway,) = children_of(demo.pid)
        demo.send_signal(number)
        _, said = demo.communicate(timeout=30)
        assert (demo.returncode, said) == (128 + number, b"")
        assert not Path(f"/proc/{gateway}").exists()
    finally:
        demo.kill()
        demo.communicate()


def children_of(pid: int | str) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
