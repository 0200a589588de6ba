"""`deepseek-proxy simulate` serves the simulator alone, and ends with Ctrl-C."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

from click.testing import CliRunner

from deepseek_proxy.cli import main


def ask(url: str, **fields: Any) -> tuple[int, Any]:
    body = {"model": "deepseek-flash", "messages": [{"role": "user", "content": "hello"}], **fields}
    request = urllib.request.Request(
        f"{url}/chat/completions",
        json.dumps(body).encode(),
        {"Authorization": "Bearer sk-any", "Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


@contextlib.contextmanager
def simulator(*options: str) -> Iterator[str]:
    """The command as a process that is ended with Ctrl-C. Gives its URL."""
    process = subprocess.Popen(
        [sys.executable, "-m", "deepseek_proxy", "simulate", "--port", "0", *options],
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            assert process.stdout is not None
            (url,) = re.findall(r"is at (http://\S+);", process.stdout.readline())
            yield url
            process.send_signal(signal.SIGINT)
            assert process.wait(10) == 0
        finally:
            process.kill()


def test_it_answers_until_ctrl_c() -> None:
    with simulator("--token-seconds", "0") as url:
        status, answer = ask(url)
    assert status == 200
    assert answer["choices"][0]["message"]["content"]


def test_it_can_be_told_to_fail() -> None:
    with simulator("--fault", "503") as url:
        assert ask(url)[0] == 503


def test_a_fault_that_is_none_is_said_at_once() -> None:
    result = CliRunner().invoke(main, ["simulate", "--port", "0", "--fault", "nonsense"])
    assert result.exit_code == 2
    assert "There is no fault 'nonsense'" in result.output
