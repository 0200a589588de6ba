"""The newest Codex CLI through a real gateway: answers, commands, catalogue."""

from __future__ import annotations

from pathlib import Path

import pytest
from e2e.backend import Backend, assert_extends, results
from e2e.codex import Codex
from e2e.npm import INSTALL_SECONDS
from harness.gateway import Gateway

pytestmark = pytest.mark.timeout(INSTALL_SECONDS)


@pytest.fixture
def codex(tmp_path: Path, gateway: Gateway) -> Codex:
    return Codex(tmp_path, gateway)


def test_hello(codex: Codex, backend: Backend) -> None:
    run = codex.exec("Say hello")
    assert run.answer == "hello"
    assert run.warnings == [], "the catalogue was not read"
    assert [item["text"] for item in run.items("reasoning")] == [
        "The user wrote: Say hello. I will answer that."
    ]
    (body,) = backend.bodies()
    assert body["model"] == "deepseek-flash"
    assert body["reasoning_effort"] == "high"
    assert "apply_patch" in [tool["function"]["name"] for tool in body["tools"]]


def test_command(codex: Codex, backend: Backend) -> None:
    """The command is run, its output goes to the model with the thinking that led to it."""
    backend.says(
        {
            "reasoning": "I look – 看看。\n",
            "text": "I will look.",
            "calls": [{"name": "exec_command", "arguments": {"cmd": "echo number $((6*7))"}}],
        },
        {"text": "It says 42."},
    )
    run = codex.exec("What does the command say?")
    assert run.answer == "It says 42."
    (command,) = run.items("command_execution")
    assert command["aggregated_output"] == "number 42\n"
    earlier, later = backend.bodies()
    assert_extends(later, earlier)
    answered, _ = later["messages"][len(earlier["messages"]) :]
    assert answered["reasoning_content"] == "I look – 看看。\n"
    assert answered["content"] == "I will look."
    (result,) = results(later)
    assert result.endswith("number 42\n")
