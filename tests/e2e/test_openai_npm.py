"""The official `openai` package for Node through a real gateway."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
from e2e.backend import Backend, added_messages, results
from e2e.conftest import Start
from e2e.node import Node, plain
from e2e.samples import CALLS, MODEL, PNG, PNG_URL, TRIP_SCHEMA, WEATHER
from harness.gateway import Gateway


@pytest.fixture
def node(gateway: Gateway) -> Node:
    return Node(gateway)


@pytest.fixture(params=["create", "streamed create", "stream"])
def way(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def ask(node: Node, way: str, **fields: object) -> Mapping[str, Any]:
    """One answer by `create`, by `create` with a stream, or by the stream helper."""
    *streamed, call = way.split()
    return node.answer(call, **fields, **({"stream": True} if streamed else {}))


def text(answer: Mapping[str, Any]) -> str:
    parts = [part for item in answer["output"] if item["type"] == "message" for part in item["content"]]
    return "".join(part["text"] for part in parts)


def types(answer: Mapping[str, Any]) -> list[str]:
    return [item["type"] for item in answer["output"]]


def test_answer(node: Node, backend: Backend, way: str) -> None:
    backend.says({"reasoning": "A greeting.", "text": "Grüße, 世界 👋"})
    answer = ask(node, way, input="Greet the world.")
    assert text(answer) == "Grüße, 世界 👋"
    assert answer["status"] == "completed"
    thought, _ = answer["output"]
    assert thought["summary"] == [{"type": "summary_text", "text": "A greeting."}]
    assert answer["usage"]["total_tokens"] > 0


def test_answer_cut_by_the_limit(node: Node, way: str) -> None:
    answer = ask(node, way, input="Say one two three four", max_output_tokens=8)
    assert answer["status"] == "incomplete"
    assert answer["incomplete_details"] == {"reason": "max_output_tokens"}


def test_parse(node: Node, backend: Backend) -> None:
    bound = {"format": {"type": "json_schema", "name": "trip", "strict": True, "schema": TRIP_SCHEMA}}
    for call in ("parse", "stream"):
        answer = node.answer(call, input="Plan a trip.", text=bound)
        assert answer["output_parsed"] == {"city": "text", "nights": 2}
    assert [body["response_format"] for body in backend.bodies()] == [{"type": "json_object"}] * 2


def test_tools_round_trip(node: Node, backend: Backend, way: str) -> None:
    """Items go back as they came: the thinking is restored byte for byte, and the prefix stays the same."""
    thoughts = "Two cities – „Köln“ and 北京.\n\n"
    backend.says({"reasoning": thoughts, "text": "Looking.", "calls": CALLS}, {"text": "Sunny in both."})
    asked = [{"role": "user", "content": "How is the weather?"}]
    first = ask(node, way, input=asked, tools=[WEATHER])
    assert types(first) == ["reasoning", "message", "function_call", "function_call"]
    calls = first["output"][2:]
    assert [json.loads(call["arguments"]) for call in calls] == [call["arguments"] for call in CALLS]
    outputs = [
        {"type": "function_call_output", "call_id": call["call_id"], "output": f"sunny {i}"}
        for i, call in enumerate(calls)
    ]
    second = ask(node, way, input=[*asked, *plain(first["output"]), *outputs], tools=[WEATHER])
    assert text(second) == "Sunny in both."
    earlier, later = backend.bodies()
    answered, *_ = added_messages(later, earlier)
    assert answered["reasoning_content"] == thoughts
    assert answered["content"] == "Looking."
    assert results(later) == ["sunny 0", "sunny 1"]


def test_custom_tool(node: Node, backend: Backend, way: str) -> None:
    program = 'print("tab\\t")\n# ünïcode\n'
    backend.says({"calls": [{"name": "run", "arguments": {"input": program}}]})
    answer = ask(node, way, input="Run something.", tools=[{"type": "custom", "name": "run"}])
    assert types(answer) == ["reasoning", "custom_tool_call"]
    assert answer["output"][-1]["input"] == program


def test_picture(node: Node, backend: Backend, way: str) -> None:
    content = [
        {"type": "input_text", "text": "What is this?"},
        {"type": "input_image", "image_url": PNG_URL, "detail": "auto"},
    ]
    answer = ask(node, way, input=[{"role": "user", "content": content}])
    assert text(answer).startswith("I see 1 image.")
    (body,) = backend.bodies()
    assert PNG in str(body)


def test_progress_events_in_mid_stream(start: Start, backend: Backend) -> None:
    """Repeated `response.in_progress` events do not confuse the helper or its accumulator."""
    lively = start("lively", heartbeat_seconds=0.2, progress_seconds=0.4)
    backend.says({"text": "one two three four", "fault": "stall after=4 seconds=1.6"})
    outcome = Node(lively)("stream", {"model": MODEL, "input": "Count."})
    kinds = [event["type"] for event in outcome["events"]]
    assert kinds.count("response.in_progress") >= 2
    assert text(outcome["answer"]) == "one two three four"
    assert outcome["accumulated"]["output"] == plain(outcome["answer"]["output"])


def test_models(node: Node) -> None:
    listed = [model["id"] for model in node("list")["answer"]]
    assert {"deepseek-flash", "deepseek-v4-pro"} <= set(listed)
    assert node("retrieve", "deepseek-v4-pro")["answer"]["id"] == "deepseek-v4-pro"


def test_wrong_request(node: Node, backend: Backend, way: str) -> None:
    *streamed, call = way.split()
    error = node.error(call, input="Hello", temperature=3, **({"stream": True} if streamed else {}))
    assert (error["name"], error["status"], error["param"]) == ("BadRequestError", 400, "temperature")
    assert error["requestID"]
    assert backend.records() == []


def test_wrong_key(gateway: Gateway, backend: Backend) -> None:
    backend.refusals_expected = True
    outcome = Node(gateway, apiKey="sk-simulator-invalid", maxRetries=2)(
        "create", {"model": MODEL, "input": "Hello"}
    )
    assert outcome["error"]["name"] == "AuthenticationError"
    assert outcome["error"]["code"] == "invalid_api_key"
    assert outcome["requests"] == 1


def test_empty_account_is_not_tried_again(gateway: Gateway, backend: Backend) -> None:
    backend.breaks("402")
    outcome = Node(gateway, maxRetries=2)("stream", {"model": MODEL, "input": "Hello"})
    assert outcome["error"]["name"] == "RateLimitError"
    assert outcome["error"]["code"] == "insufficient_quota"
    assert outcome["requests"] == 1


def test_rate_limit_is_waited_for(start: Start, backend: Backend) -> None:
    quick = start("quick", retry_max_seconds=0.1)
    backend.breaks("429 retry-after=1 times=3")
    outcome = Node(quick, maxRetries=1)("stream", {"model": MODEL, "input": "Say hello"})
    assert text(outcome["answer"]) == "hello"
    assert outcome["requests"] == 2


def test_stream_that_breaks(node: Node, backend: Backend) -> None:
    backend.says({"text": "one two three four five six seven eight", "fault": "reset after=6"})
    error = node.error("stream", input="Count.")
    assert (error["name"], error["code"]) == ("APIError", "server_error")
