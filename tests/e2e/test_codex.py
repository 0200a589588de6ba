"""The newest Codex CLI through a real gateway: single turns, and every kind of tool."""

from __future__ import annotations

import base64
import json
from typing import Final

import pytest
from e2e.backend import Backend, added_messages, images, results, text_of, tool_names
from e2e.codex import Codex
from e2e.mcp_server import CONFIGURATION
from e2e.samples import PNG, PNG_URL, TRIP_SCHEMA

PATCH: Final = """*** Begin Patch
*** Update File: greet.py
@@
 def greet():
-    return "hello"
+    return "Grüße,\\t\\"世界\\""
*** Add File: notes/new.txt
+first
+second
*** End Patch
"""


def command(line: str) -> dict[str, object]:
    return {"name": "exec_command", "arguments": {"cmd": line}}


def test_hello(codex: Codex, backend: Backend) -> None:
    run = codex.exec("Say hello")
    assert run.answer == "hello"
    assert run.warnings == [], "the catalogue was not read"
    assert len(run.items("reasoning")) == 1
    (body,) = backend.bodies()
    assert (body["model"], body["reasoning_effort"]) == ("deepseek-flash", "high")
    assert "apply_patch" in tool_names(body)


@pytest.mark.parametrize(
    ("effort", "sent"), [("none", None), ("low", "low"), ("high", "high"), ("max", "max")]
)
def test_effort(codex: Codex, backend: Backend, effort: str, sent: str | None) -> None:
    run = codex.exec("Say hello", config={"model_reasoning_effort": effort})
    assert run.answer == "hello"
    assert len(run.items("reasoning")) == (sent is not None)
    (body,) = backend.bodies()
    assert body.get("reasoning_effort") == sent


def test_unknown_model(codex: Codex, backend: Backend) -> None:
    """Codex says that it does not know the model, and nothing of another model having answered."""
    run = codex.exec("-m", "gpt-6", "Say hello")
    assert run.answer == "hello"
    (warning,) = run.warnings
    assert warning.startswith("Model metadata for `gpt-6` not found.")
    (body,) = backend.bodies()
    assert body["model"] == "deepseek-flash"


def test_command(codex: Codex, backend: Backend) -> None:
    """The command is run, its output goes to the model with the thinking that led to it."""
    backend.says(
        {
            "reasoning": "I look – 看看。\n",
            "text": "I will look.",
            "calls": [command("echo number $((6*7))")],
        },
        {"text": "It says 42."},
    )
    run = codex.exec("What does the command say?")
    assert run.answer == "It says 42."
    (executed,) = run.items("command_execution")
    assert executed["aggregated_output"] == "number 42\n"
    earlier, later = backend.bodies()
    answered, result = added_messages(later, earlier)
    assert answered["reasoning_content"] == "I look – 看看。\n"
    assert answered["content"] == "I will look."
    assert result["content"].endswith("number 42\n")


def test_calls_side_by_side(codex: Codex, backend: Backend) -> None:
    """Results come in the order of the calls, whichever ends first."""
    backend.says({"calls": [command("sleep 0.3; echo one"), command("echo two")]}, {"text": "done"})
    run = codex.exec("Run both.")
    assert [item["aggregated_output"] for item in run.items("command_execution")] == ["two\n", "one\n"]
    earlier, later = backend.bodies()
    answered, *_ = added_messages(later, earlier)
    assert len(answered["tool_calls"]) == 2
    assert [result.splitlines()[-1] for result in results(later)] == ["one", "two"]


@pytest.mark.parametrize("characters", [1, 1000])
def test_patch(codex: Codex, backend: Backend, characters: int) -> None:
    """A tool with a grammar gets its text as it is, however its JSON was cut into pieces."""
    (codex.work / "greet.py").write_text('def greet():\n    return "hello"\n')
    patch = {"name": "apply_patch", "arguments": {"input": PATCH}}
    backend.says({"calls": [patch], "chunk_characters": characters}, {"text": "Patched."})
    run = codex.exec("Patch it.")
    assert run.answer == "Patched."
    (change,) = run.items("file_change")
    assert change["status"] == "completed"
    assert (codex.work / "greet.py").read_text() == 'def greet():\n    return "Grüße,\\t\\"世界\\""\n'
    assert (codex.work / "notes/new.txt").read_text() == "first\nsecond\n"
    earlier, later = backend.bodies()
    answered, _ = added_messages(later, earlier)
    (call,) = answered["tool_calls"]
    assert json.loads(call["function"]["arguments"]) == {"input": PATCH}
    assert "Success" in results(later)[0]


def test_patch_that_does_not_fit(codex: Codex, backend: Backend) -> None:
    backend.says({"calls": [{"name": "apply_patch", "arguments": {"input": PATCH}}]}, {"text": "Sorry."})
    assert codex.exec("Patch it.").answer == "Sorry."
    _, later = backend.bodies()
    assert results(later)[0].startswith("apply_patch verification failed")


def test_mcp_server(codex: Codex, backend: Backend) -> None:
    """Tools in a namespace are called by their inner names; a picture that one returns is seen."""
    calls = [
        {"name": "mcp__demo_srv__add", "arguments": {"a": 2, "b": 3}},
        {"name": "mcp__demo_srv__picture", "arguments": {}},
    ]
    backend.says({"calls": calls}, {"text": "Five."})
    run = codex.exec("Add and show.", config=CONFIGURATION)
    assert run.answer == "Five."
    done = run.items("mcp_tool_call")
    assert [(item["server"], item["tool"], item["status"]) for item in done] == [
        ("demo-srv", "add", "completed"),
        ("demo-srv", "picture", "completed"),
    ]
    earlier, later = backend.bodies()
    assert added_messages(later, earlier)
    added, shown = results(later)
    assert added.endswith("the sum is 5")
    assert "one pixel:" in shown
    assert images(later) == [PNG_URL]


def test_tool_that_the_model_invents(codex: Codex, backend: Backend) -> None:
    """Codex tells the model itself what is wrong with a call."""
    calls = [{"name": "frobnicate", "arguments": {}}, {"name": "exec_command", "arguments": '{"cmd": '}]
    backend.says({"calls": calls}, {"text": "Sorry."})
    assert codex.exec("Do something.").answer == "Sorry."
    _, later = backend.bodies()
    unknown, broken = results(later)
    assert unknown == "unsupported call: frobnicate"
    assert broken.startswith("failed to parse function arguments")


def test_output_schema(codex: Codex, backend: Backend) -> None:
    """The answer fits the schema, and tools can be called before it."""
    (codex.work / "schema.json").write_text(json.dumps(TRIP_SCHEMA))
    backend.says({"calls": [command("echo Bonn")]})
    run = codex.exec("--output-schema", "schema.json", "Plan a trip.")
    assert json.loads(run.answer) == {"city": "text", "nights": 2}
    earlier, later = backend.bodies()
    assert added_messages(later, earlier)
    assert later["response_format"] == {"type": "json_object"}


def test_picture(codex: Codex, backend: Backend) -> None:
    (codex.work / "pixel.png").write_bytes(base64.b64decode(PNG))
    assert codex.exec("What is this?", "-i", "pixel.png").answer.startswith("I see 1 image.")
    (body,) = backend.bodies()
    assert images(body) == [PNG_URL]


def test_picture_for_a_model_without_eyes(codex: Codex, backend: Backend) -> None:
    """The catalogue says so, and Codex leaves the picture out."""
    (codex.work / "pixel.png").write_bytes(base64.b64decode(PNG))
    run = codex.exec("-m", "deepseek-v4-pro", "What is this?", "-i", "pixel.png")
    assert "do not support image input" in run.answer
    (body,) = backend.bodies()
    assert PNG not in json.dumps(body)


def test_picture_that_the_model_looks_at(codex: Codex, backend: Backend) -> None:
    (codex.work / "pixel.png").write_bytes(base64.b64decode(PNG))
    look = {"name": "view_image", "arguments": {"path": "pixel.png"}}
    backend.says({"calls": [look, command("echo one")]}, {"text": "Seen."})
    assert codex.exec("Look at it.").answer == "Seen."
    _, later = backend.bodies()
    assert len(results(later)) == 2
    assert images(later) == [PNG_URL]
    assert PNG not in "".join(map(text_of, later["messages"]))
