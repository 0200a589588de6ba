"""`POST /v1/responses` over HTTP: what the upstream gets, what is asked again, what survives a turn."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from harness import deepseek
from harness.fake_upstream import FakeUpstream
from harness.wire import Handler

Make = Callable[..., Any]
"""Of `conftest`."""

both_forms = pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])

SHELL = {
    "type": "function",
    "name": "shell",
    "parameters": {"type": "object", "properties": {"cmd": {"type": "string"}}},
}
SCHEMA = {
    "type": "json_schema",
    "name": "answer",
    "schema": {
        "type": "object",
        "properties": {"n": {"type": "integer"}},
        "required": ["n"],
        "additionalProperties": False,
    },
}


def says(text: str) -> Handler:
    return lambda _, wire: wire.respond(200, deepseek.completion(text))


def calls_shell(thoughts: str) -> Handler:
    """A turn that thinks and then calls the tool, in either form."""

    def handler(request: Any, wire: Any) -> None:
        function = {"name": "shell", "arguments": '{"cmd": "ls"}'}
        call = {"index": 0, "id": "call_1", "type": "function", "function": function}
        if request.json().get("stream"):
            wire.start_stream()
            wire.chunk(deepseek.opening() + deepseek.thinking(thoughts))
            wire.chunk(deepseek.event(deepseek.chunk({"tool_calls": [call]})))
            wire.chunk(deepseek.last("tool_calls") + deepseek.DONE)
            wire.end()
            return
        body = json.loads(deepseek.completion("", thoughts, "tool_calls"))
        body["choices"][0]["message"]["tool_calls"] = [call]
        wire.respond(200, json.dumps(body).encode())

    return handler


# -- the routes -----------------------------------------------------------------------------------


@both_forms
@pytest.mark.parametrize("path", ["/v1/responses", "/responses", "/v1/responses/", "/v1/responses?x=1"])
def test_every_spelling_of_the_route(make: Make, path: str, stream: bool) -> None:
    face = make()
    answer = face.final(face.ask(path=path, stream=stream))
    assert answer["status"] == "completed"
    assert answer["output"][-1]["content"][0]["text"] == "Hello"


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE"])
def test_other_methods_are_refused_with_405(face: Any, method: str) -> None:
    response = face.request(method, "/v1/responses")
    assert (response.status_code, response.json["error"]["code"]) == (405, "method_not_allowed")
    assert "POST" in response.headers["Allow"]


# -- what goes to the upstream --------------------------------------------------------------------


@both_forms
def test_the_upstream_gets_the_clients_key_and_its_form(
    make: Make, upstream: FakeUpstream, stream: bool
) -> None:
    face = make(deepseek_api_key="sk-own")
    face.finish(face.ask({"X-Request-ID": "req_mine", "X-Other": "1", "Cookie": "a=b"}, stream=stream))
    (sent,) = upstream.requests
    assert sent.path == "/chat/completions"
    assert sent.headers["authorization"] == "Bearer sk-client-0123456789"
    assert sent.headers["x-request-id"] == "req_mine"
    assert not {"x-other", "cookie"} & sent.headers.keys()
    body = sent.json()
    assert (body["model"], body["stream"]) == ("deepseek-flash", stream)
    assert body["messages"] == [{"role": "user", "content": "hi"}]


def test_without_a_clients_key_the_gateways_own_is_used(make: Make, upstream: FakeUpstream) -> None:
    face = make(deepseek_api_key="sk-own")
    face.finish(face.ask({"Authorization": ""}))
    assert upstream.requests[0].headers["authorization"] == "Bearer sk-own"


def test_the_model_is_resolved_and_the_clients_name_comes_back(make: Make, upstream: FakeUpstream) -> None:
    face = make(model_aliases={"mine": "deepseek-v4-pro"})
    assert face.ask(model="mine").json["model"] == "mine"
    assert upstream.requests[0].json()["model"] == "deepseek-v4-pro"


@both_forms
def test_a_mistake_never_reaches_the_upstream(make: Make, upstream: FakeUpstream, stream: bool) -> None:
    response = make(unknown_models="reject").ask(model="gpt-5", stream=stream)
    assert (response.status_code, response.json["error"]["code"]) == (404, "model_not_found")
    assert upstream.connections == 0


def test_a_whole_answer_is_bounded(make: Make, upstream: FakeUpstream) -> None:
    upstream.serve(says("x" * 5000))
    response = make(max_answer_bytes=2000).ask()
    assert response.status_code == 502
    assert "longer than 2000 bytes" in response.json["error"]["message"]


def test_an_event_of_a_stream_is_bounded(make: Make, upstream: FakeUpstream) -> None:
    upstream.serve(deepseek.answers(["x" * 5000]))
    face = make(max_event_bytes=2000)
    failed = face.final(face.ask(stream=True))
    assert failed["status"] == "failed"
    assert "more than 2000 bytes" in failed["error"]["message"]


# -- one more attempt with another body -----------------------------------------------------------

REASONING_MISSING = deepseek.error(
    "The `reasoning_content` in the thinking mode must be passed back to the API.", "invalid_request_error"
)
# A host that wants thinking although it was switched off: with thinking on, no message goes without.
QUIET = {"effort": "none"}
TURNS = [
    {"role": "user", "content": "list"},
    {"role": "assistant", "content": "It is empty."},
    {"role": "user", "content": "again"},
]


@both_forms
def test_missing_reasoning_is_filled_in_once(make: Make, upstream: FakeUpstream, stream: bool) -> None:
    upstream.serve(deepseek.refuses(400, REASONING_MISSING), deepseek.answers())
    face = make()
    assert face.final(face.ask(input=TURNS, reasoning=QUIET, stream=stream))["status"] == "completed"
    first, second = (sent.json() for sent in upstream.requests)
    question, answer, again = first["messages"]
    assert "reasoning_content" not in answer
    assert second == {**first, "messages": [question, {**answer, "reasoning_content": " "}, again]}


@both_forms
def test_and_not_again(make: Make, upstream: FakeUpstream, stream: bool) -> None:
    upstream.serve(deepseek.refuses(400, REASONING_MISSING))
    response = make().ask(input=TURNS, reasoning=QUIET, stream=stream)
    assert response.status_code == 400
    assert len(upstream.requests) == 2


def test_another_refusal_is_final(make: Make, upstream: FakeUpstream) -> None:
    upstream.serve(deepseek.refuses(400, deepseek.INVALID))
    assert make().ask(input=TURNS, reasoning=QUIET).status_code == 400
    assert len(upstream.requests) == 1


# -- answers that have to fit a schema ------------------------------------------------------------


def test_an_answer_that_does_not_fit_is_asked_for_again(make: Make, upstream: FakeUpstream) -> None:
    upstream.serve(says('{"n": "one"}'), says('{"n": 1}'))
    face = make()
    response = face.finish(face.ask(text={"format": SCHEMA}))
    assert response.json["output"][-1]["content"][0]["text"] == '{"n": 1}'
    first, second = (sent.json()["messages"] for sent in upstream.requests)
    assert second[: len(first)] == first
    assert second[len(first)] == {"role": "assistant", "content": '{"n": "one"}'}
    assert second[-1]["role"] == "user"
    assert "schema" in second[-1]["content"]
    (line,) = face.lines()
    assert (line["attempts"], line["output_tokens"]) == (2, 18)


@pytest.mark.parametrize("attempts", [0, 1, 3])
def test_so_many_times_and_then_it_is_passed_on(make: Make, upstream: FakeUpstream, attempts: int) -> None:
    upstream.serve(says('{"n": "one"}'))
    response = make(schema_repair_attempts=attempts).ask(text={"format": SCHEMA})
    assert response.json["output"][-1]["content"][0]["text"] == '{"n": "one"}'
    assert len(upstream.requests) == 1 + attempts


@pytest.mark.parametrize(
    ("answer", "fields"),
    [
        (says('{"n": 1}'), {"text": {"format": SCHEMA}}),
        (says('{"n": "one"}'), {"text": {"format": {"type": "json_object"}}, "input": "json"}),
        (says("no JSON at all"), {}),
        (
            lambda _, wire: wire.respond(200, deepseek.completion('{"n": ', reason="length")),
            {"text": {"format": SCHEMA}},
        ),
        (calls_shell("hm"), {"text": {"format": SCHEMA}, "tools": [SHELL]}),
    ],
    ids=["fits", "no schema", "no format", "cut", "a call"],
)
def test_nothing_else_is(make: Make, upstream: FakeUpstream, answer: Handler, fields: dict[str, Any]) -> None:
    upstream.serve(answer)
    assert make().ask(**fields).status_code == 200
    assert len(upstream.requests) == 1


def test_a_stream_is_never_asked_for_again(make: Make, upstream: FakeUpstream) -> None:
    upstream.serve(deepseek.answers(['{"n": "one"}']))
    face = make()
    assert face.final(face.ask(text={"format": SCHEMA}, stream=True))["status"] == "completed"
    assert len(upstream.requests) == 1


# -- thinking from turn to turn -------------------------------------------------------------------


def thinking_sent(upstream: FakeUpstream) -> list[str]:
    """The thinking in the last request, message by message."""
    messages = upstream.requests[-1].json()["messages"]
    return [message["reasoning_content"] for message in messages if message["role"] == "assistant"]


def next_turn(output: list[dict[str, Any]]) -> list[dict[str, Any]]:
    result = {"type": "function_call_output", "call_id": "call_1", "output": "a.txt"}
    return [{"role": "user", "content": "list"}, *output, result]


@both_forms
def test_thinking_returns_from_the_clients_own_items(
    make: Make, upstream: FakeUpstream, stream: bool
) -> None:
    upstream.serve(calls_shell("list it first"), deepseek.answers())
    face = make(reasoning_cache_bytes=0)
    output = face.final(face.ask(tools=[SHELL], stream=stream))["output"]
    assert [item["type"] for item in output] == ["reasoning", "function_call"]
    assert "list it first" not in output[0]["encrypted_content"]
    output[0]["summary"] = []  # nothing but the seal is left
    face.finish(face.ask(input=next_turn(output), tools=[SHELL], stream=stream))
    assert thinking_sent(upstream) == ["list it first"]


def test_nobody_else_can_open_it(make: Make, upstream: FakeUpstream) -> None:
    upstream.serve(calls_shell("list it first"), deepseek.answers())
    face = make(reasoning_cache_bytes=0)
    output = face.ask(tools=[SHELL]).json["output"]
    output[0]["summary"] = []
    response = face.ask({"Authorization": "Bearer sk-other"}, input=next_turn(output), tools=[SHELL])
    assert response.status_code == 200
    assert "list it first" not in str(upstream.requests[-1].body)
    assert (
        sum(face.metric(f'seal_failures_total{{reason="{reason}"}}') for reason in ("tampered", "foreign"))
        >= 0
    )
    assert face.metric("seal_failures_total") == 1


@both_forms
def test_thinking_that_a_client_does_not_return_is_remembered(
    make: Make, upstream: FakeUpstream, stream: bool
) -> None:
    upstream.serve(calls_shell("list it first"), deepseek.answers())
    face = make()
    call = face.final(face.ask(tools=[SHELL], stream=stream))["output"][1]
    face.finish(face.ask(input=next_turn([call]), tools=[SHELL], stream=stream))
    assert thinking_sent(upstream) == ["list it first"]
    face.finish(face.ask({"Authorization": "Bearer sk-other"}, input=next_turn([call]), tools=[SHELL]))
    assert thinking_sent(upstream) != ["list it first"]


# -- compaction -----------------------------------------------------------------------------------


def test_a_conversation_is_compacted_to_its_questions_and_one_sealed_item(
    make: Make, upstream: FakeUpstream
) -> None:
    upstream.serve(says("a summary of the canary"))
    face = make()
    turns = [
        {"role": "user", "content": "first"},
        {"role": "assistant", "content": "yes"},
        {"role": "user", "content": "second"},
    ]
    response = face.ask(path="/v1/responses/compact", input=turns, stream=True)
    assert (response.status_code, response.json["object"]) == (200, "response.compaction")
    *kept, compaction = response.json["output"]
    assert [item["content"][0]["text"] for item in kept] == ["first", "second"]
    assert compaction["type"] == "compaction"
    assert "canary" not in response.text
    assert upstream.requests[0].json()["stream"] is False
    face.finish(face.ask(input=[*response.json["output"], {"role": "user", "content": "go on"}]))
    assert "a summary of the canary" in upstream.requests[-1].body.decode()
