"""Chat Completions with OpenAI's package for Node, through a real gateway with several workers."""

from __future__ import annotations

import json
from typing import Any

import pytest
from e2e.backend import Backend, added_messages, results
from e2e.conftest import Start
from e2e.node import Node
from e2e.samples import CALLS, MODEL
from e2e.test_chat_python import ASKED, TOOL

CREATE = "chat.completions.create"


@pytest.fixture
def node(start: Start, backend: Backend) -> Node:
    return Node(start("team", workers=3))


def ask(node: Node, **fields: Any) -> Any:
    return node.do(CREATE, {"model": MODEL, "messages": ASKED, **fields})


def test_answer(node: Node, backend: Backend) -> None:
    backend.says({"reasoning": "A greeting.", "text": "Grüße, 世界 👋"})
    message = ask(node)["choices"][0]["message"]
    assert message["content"] == "Grüße, 世界 👋"
    assert message["reasoning_content"] == "A greeting."


def test_streamed_answer(node: Node, backend: Backend) -> None:
    backend.says({"reasoning": "A greeting.", "text": "Grüße, 世界 👋"})
    *chunks, last = ask(node, stream=True, stream_options={"include_usage": True})
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
    assert "".join(delta.get("content") or "" for delta in deltas) == "Grüße, 世界 👋"
    assert "".join(delta.get("reasoning_content") or "" for delta in deltas) == "A greeting."
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"
    assert last["usage"]["total_tokens"] > 0


def test_tools_round_trip(node: Node, backend: Backend) -> None:
    backend.says({"reasoning": "Two cities.", "calls": CALLS}, {"text": "Sunny in both."})
    message = ask(node, tools=[TOOL])["choices"][0]["message"]
    calls = message["tool_calls"]
    assert [json.loads(call["function"]["arguments"]) for call in calls] == [c["arguments"] for c in CALLS]
    outputs = [{"role": "tool", "tool_call_id": call["id"], "content": "sunny"} for call in calls]
    answer = ask(node, tools=[TOOL], messages=[*ASKED, message, *outputs])
    assert answer["choices"][0]["message"]["content"] == "Sunny in both."
    earlier, later = backend.bodies()
    assert added_messages(later, earlier)[0]["reasoning_content"] == "Two cities."


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
def test_the_sdk_runs_the_tools(node: Node, backend: Backend, stream: bool) -> None:
    backend.says({"reasoning": "Two cities.", "calls": CALLS}, {"text": "Sunny in both."})
    ran = node("runTools", {"model": MODEL, "messages": ASKED, "tools": [TOOL], "stream": stream})["answer"]
    assert ran["text"] == "Sunny in both."
    earlier, later = backend.bodies()
    assert added_messages(later, earlier)[0]["reasoning_content"] == "Two cities."
    assert results(later) == ["sunny in Köln", "sunny in 北京"]


def test_a_refusal(node: Node) -> None:
    error = node.refusal(CREATE, {"model": MODEL, "messages": ASKED, "n": 2})
    assert (error["name"], error["param"]) == ("BadRequestError", "n")


def test_a_stream_that_breaks(node: Node, backend: Backend) -> None:
    backend.says({"text": "one two three four five six seven eight", "fault": "reset after=6"})
    error = node.refusal(CREATE, {"model": MODEL, "messages": ASKED, "stream": True})
    assert (error["name"], error["code"]) == ("APIError", "server_error")
