"""`context_management` over HTTP: one response with a compaction in front, streamed and not."""

from __future__ import annotations

import json
from typing import Any

import pytest
from harness import deepseek
from harness.fake_upstream import FakeUpstream
from harness.responses_grammar import assert_responses_grammar
from harness.wire import Request, Wire

from deepseek_proxy.translate.responses.compaction import PROMPT

LONG = "some words that are read and soon forgotten " * 60
ITEMS = [
    {"role": "user", "content": "Look around."},
    {"role": "assistant", "content": LONG * 3},
    {"role": "user", "content": "Now fix it."},
]
MANAGED = [{"type": "compaction", "compact_threshold": 1_000}]


def model(summary: str = "They looked around.") -> Any:
    """Writes a summary where it is asked for one, and answers else."""

    def handler(request: Request, wire: Wire) -> None:
        summing_up = request.json()["messages"][-1]["content"] == PROMPT
        text, thoughts = (summary, ["hm"]) if summing_up else ("Fixed.", ["easy"])
        deepseek.answers([text] if text else [], thoughts)(request, wire)

    return handler


def ask(face: Any, stream: bool, **fields: Any) -> dict[str, Any]:
    """The response, whose events have been judged where it is a stream."""
    answer = face.ask(**{"input": ITEMS, "context_management": MANAGED, "stream": stream, **fields})
    assert answer.status_code == 200, answer.get_data(as_text=True)
    if not stream:
        body: dict[str, Any] = answer.json
        return body
    events = face.events(answer)
    assert_responses_grammar(events)
    last: dict[str, Any] = events[-1]["response"]
    return last


@pytest.mark.parametrize("stream", [True, False])
def test_the_compaction_comes_first_and_the_answer_follows(
    face: Any, upstream: FakeUpstream, stream: bool
) -> None:
    upstream.serve(model())
    response = ask(face, stream)
    assert response["status"] == "completed"
    assert [item["type"] for item in response["output"]] == ["compaction", "reasoning", "message"]
    assert response["output"][2]["content"][0]["text"] == "Fixed."
    assert response["usage"]["input_tokens"] == 2 * deepseek.USAGE["prompt_tokens"]

    first, second = (request.json()["messages"] for request in upstream.requests)
    assert first[-1]["content"] == PROMPT
    assert LONG not in json.dumps(second)
    assert second[-1]["content"].endswith("They looked around.")


@pytest.mark.parametrize("stream", [True, False])
def test_the_next_request_goes_on_from_there(face: Any, upstream: FakeUpstream, stream: bool) -> None:
    upstream.serve(model())
    output = ask(face, stream)["output"]
    response = ask(face, stream, input=[*ITEMS, *output, {"role": "user", "content": "Thanks."}])
    assert [item["type"] for item in response["output"]] == ["reasoning", "message"]
    _, second, third = (request.json()["messages"] for request in upstream.requests)
    assert third[: len(second)] == second
    assert [message["role"] for message in third[len(second) :]] == ["assistant", "user"]


@pytest.mark.parametrize("stream", [True, False])
def test_a_chain_of_stored_responses_goes_on_from_there(
    face: Any, upstream: FakeUpstream, stream: bool
) -> None:
    upstream.serve(model())
    first = ask(face, stream)
    response = ask(face, stream, input="Thanks.", previous_response_id=first["id"])
    assert [item["type"] for item in response["output"]] == ["reasoning", "message"]
    _, second, third = (request.json()["messages"] for request in upstream.requests)
    assert third[: len(second)] == second
    assert [message["role"] for message in third[len(second) :]] == ["assistant", "user"]


@pytest.mark.parametrize("stream", [True, False])
def test_without_a_summary_there_is_no_answer(face: Any, upstream: FakeUpstream, stream: bool) -> None:
    upstream.serve(model(summary=""))
    answer = face.ask(input=ITEMS, context_management=MANAGED, stream=stream)
    if stream:
        assert face.events(answer)[-1]["type"] == "response.failed"
    else:
        assert (answer.status_code, "summary" in answer.json["error"]["message"]) == (502, True)
    assert len(upstream.requests) == 1


def test_a_form_of_the_answer_is_not_looked_for_in_the_summary(face: Any, upstream: FakeUpstream) -> None:
    def handler(request: Request, wire: Wire) -> None:
        summing_up = request.json()["messages"][-1]["content"] == PROMPT
        text = 'The file holds {"a": 1}, and more.' if summing_up else '{"ok": true}'
        deepseek.answers([text])(request, wire)

    upstream.serve(handler)
    schema = {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"]}
    wanted = {"format": {"type": "json_schema", "name": "answer", "schema": schema}}
    response = ask(face, False, text=wanted)
    assert response["output"][-1]["content"][0]["text"] == '{"ok": true}'
    summary = upstream.requests[1].json()["messages"][-1]["content"]
    assert summary.endswith('The file holds {"a": 1}, and more.')
