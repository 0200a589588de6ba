"""Older versions of Codex through a real gateway: an answer, a command, a patch, a resumed thread.

0.142 and 0.118 send the base prompt as `instructions`, and read the catalogue from a file.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from e2e.backend import Backend, added_messages, results, text_of, tool_names
from e2e.codex import OLDER, OLDEST, Codex
from harness.gateway import Gateway

THOUGHTS = "I look – 看看。\n"
PATCH = """*** Begin Patch
*** Update File: greet.txt
@@
-hello
+Grüße
*** End Patch
"""


@pytest.fixture(params=[OLDER, OLDEST])
def codex(request: pytest.FixtureRequest, tmp_path: Path, gateway: Gateway) -> Codex:
    return Codex(tmp_path, gateway, request.param)


def test_hello(codex: Codex, backend: Backend) -> None:
    run = codex.exec("Say hello")
    assert run.answer == "hello"
    assert run.warnings == [], "the catalogue was not read"
    (body,) = backend.bodies()
    assert body["reasoning_effort"] == "high"
    assert "apply_patch" in tool_names(body)


def test_work(codex: Codex, backend: Backend) -> None:
    (codex.work / "greet.txt").write_text("hello\n")
    backend.says(
        {"reasoning": THOUGHTS, "calls": [{"name": "exec_command", "arguments": {"cmd": "cat greet.txt"}}]},
        {"reasoning": "Now I know.", "calls": [{"name": "apply_patch", "arguments": {"input": PATCH}}]},
        {"text": "Patched."},
        {"text": "You are welcome."},
    )
    run = codex.exec("Patch it.")
    assert run.answer == "Patched."
    assert (codex.work / "greet.txt").read_text() == "Grüße\n"
    assert codex.exec("resume", run.thread, "Thanks.").answer == "You are welcome."
    first, second, third, fourth = backend.bodies()
    looked, _ = added_messages(second, first)
    patched, _ = added_messages(third, second)
    assert looked["reasoning_content"] == THOUGHTS
    assert patched["reasoning_content"] == "Now I know."
    assert results(third)[0].endswith("hello\n")
    assert [text_of(message) for message in added_messages(fourth, third)] == ["Patched.", "Thanks."]
