"""The Chat Completions route: streams and whole answers, and how each of them fails."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from harness import deepseek
from harness.chats import chunks_of, folded
from harness.fake_upstream import FakeUpstream
from harness.halves import pausing
from harness.searching import calling, is_lookup, searches, turn
from harness.wire import Handler, Request, Wire

Make = Callable[..., Any]
"""Of `conftest`."""

ASKED = [{"role": "user", "content": "hi"}]
SCHEMA = {
    "type": "json_schema",
    "json_schema": {
        "name": "number",
        "schema": {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]},
    },
}
QUIET = {"thinking": {"type": "disabled"}}
READ = {"type": "function", "function": {"name": "read", "parameters": {"type": "object", "properties": {}}}}


def ask(face: Any, path: str = "/v1/chat/completions", **fields: Any) -> Any:
    return face.ask(path=path, **{"input": None, "messages": ASKED, **fields})


def streamed(face: Any, **fields: Any) -> Any:
    """The folded answer of a stream."""
    response = ask(face, stream=True, **fields)
    assert response.status_code == 200, response.text
    assert response.mimetype == "text/event-stream"
    data = response.get_data()
    response.close()
    return folded(data)


def says(text: str) -> Handler:
    return deepseek.answers([text])


# -- answers --------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/chat/completions"])
def test_a_whole_answer(make: Make, upstream: FakeUpstream, path: str) -> None:
    upstream.serve(deepseek.answers(["Hel", "lo"], ["Hm"]))
    response = ask(make(), path, model="deepseek-reasoner")
    assert (response.status_code, response.mimetype) == (200, "application/json")
    body = response.json
    assert body["id"].startswith("chatcmpl-")
    assert (body["object"], body["model"]) == ("chat.completion", "deepseek-reasoner")
    (choice,) = body["choices"]
    assert choice["message"]["content"] == "Hello"
    assert choice["message"]["reasoning_content"] == "Hm"
    assert choice["finish_reason"] == "stop"
    assert body["usage"]["total_tokens"] == 49
    assert upstream.requests[0].json()["model"] == "deepseek-flash"


def test_a_stream_says_the_same(make: Make, upstream: FakeUpstream) -> None:
    upstream.serve(deepseek.answers(["Hel", "lo"], ["Hm"]))
    face = make()
    whole = ask(face).json
    stream = streamed(face, stream_options={"include_usage": True})
    assert stream["choices"] == whole["choices"]
    assert stream["usage"] == whole["usage"]
    assert "usage" not in streamed(face)


def test_one_request_is_one_line(make: Make) -> None:
    face = make()
    streamed(face, model="deepseek-chat", seed=1)
    face.finish(ask(face))
    first, second = face.lines()
    assert (first["dialect"], first["path"]) == ("chat", "/v1/chat/completions")
    assert (first["model"], first["upstream_model"]) == ("deepseek-chat", "deepseek-flash")
    assert (first["stream"], first["finish"], first["input_tokens"]) == (True, "stop", 40)
    assert first["unknown_fields"] == ["input", "seed"]
    assert second["stream"] is False
    assert (
        face.metric('requests_total{dialect="chat",model="deepseek-flash",status="200",stream="true"}') >= 0
    )


def test_heartbeats_are_comments(make: Make, upstream: FakeUpstream) -> None:
    face = make(heartbeat_seconds=0.1, progress_seconds=0.2)
    upstream.serve(pausing(0.7))
    response = ask(face, stream=True)
    data = response.get_data()
    response.close()
    assert data.count(b": keep-alive\n\n") >= 2
    assert folded(data)["choices"][0]["message"]["content"] == "Hello"


def test_an_answer_that_does_not_fit_is_asked_for_again(make: Make, upstream: FakeUpstream) -> None:
    upstream.serve(says('{"n": "one"}'), says('{"n": 1}'))
    body = ask(make(), response_format=SCHEMA).json
    assert body["choices"][0]["message"]["content"] == '{"n": 1}'
    assert len(upstream.requests) == 2


@pytest.mark.parametrize("form", [SCHEMA, {"type": "json_object"}], ids=["schema", "object"])
def test_json_comes_without_the_fence_around_it(make: Make, upstream: FakeUpstream, form: Any) -> None:
    """The same, streamed and whole."""
    upstream.serve(deepseek.answers(["```", "json\n", '{"n"', ": 1}", "\n```"]))
    face = make()
    whole = ask(face, response_format=form).json
    assert whole["choices"][0]["message"]["content"] == '{"n": 1}'
    assert streamed(face, response_format=form)["choices"][0]["message"]["content"] == '{"n": 1}'
    assert "```" in streamed(face)["choices"][0]["message"]["content"]  # it is only taken from JSON


def test_thinking_that_the_client_drops_is_remembered(make: Make, upstream: FakeUpstream) -> None:
    face = make()
    frames = [
        *(deepseek.opening(), deepseek.thinking("I have to read."), deepseek.call(0, "call_1", "read")),
        *(deepseek.arguments(0, "{}"), deepseek.last("tool_calls"), deepseek.DONE),
    ]
    upstream.serve(deepseek.streams(frames))
    message = streamed(face, tools=[READ])["choices"][0]["message"]
    assert message["content"] is None
    del message["reasoning_content"]
    upstream.serve(says("Done."))
    history = [*ASKED, message, {"role": "tool", "tool_call_id": "call_1", "content": "text"}]
    face.finish(ask(face, messages=history, tools=[READ]))
    (request,) = upstream.requests
    assert request.json()["messages"][1]["reasoning_content"] == "I have to read."


def test_another_caller_has_another_memory(make: Make, upstream: FakeUpstream) -> None:
    face = make()
    face.gateway.reasoning.remember("somebody else", "call_1", "secret")
    call = {"id": "call_1", "type": "function", "function": {"name": "read", "arguments": "{}"}}
    history = [*ASKED, {"role": "assistant", "content": None, "tool_calls": [call]}]
    face.finish(ask(face, messages=history, tools=[READ]))
    assert upstream.requests[0].json()["messages"][1]["reasoning_content"] == " "


# -- failures -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("handler", "status", "code"),
    [
        (deepseek.refuses(400, deepseek.TOO_LONG), 400, "context_length_exceeded"),
        (deepseek.refuses(401, deepseek.BAD_KEY), 401, "invalid_api_key"),
        (deepseek.refuses(402, deepseek.NO_BALANCE), 429, "insufficient_quota"),
        (deepseek.refuses(429, deepseek.TOO_MANY, {"Retry-After": "7"}), 429, "rate_limit_exceeded"),
        (deepseek.refuses(503, deepseek.BUSY), 503, "server_error"),
    ],
)
@pytest.mark.parametrize("stream", [True, False])
def test_before_the_first_byte_a_failure_is_a_status(
    make: Make, upstream: FakeUpstream, handler: Handler, status: int, code: str, stream: bool
) -> None:
    upstream.serve(handler)
    response = ask(make(), stream=stream)
    assert (response.status_code, response.json["error"]["code"]) == (status, code)
    assert response.json.keys() == {"error"}


@pytest.mark.parametrize(
    ("fields", "status", "param"),
    [
        ({"n": 2}, 400, "n"),
        ({"messages": []}, 400, "messages"),
        ({"messages": [{"role": "user", "content": 5}]}, 400, "messages[0].content"),
        ({"model": "deepseek-chat-search"}, 400, "model"),
        ({"web_search_options": {}}, 400, "web_search_options"),
    ],
)
def test_a_wrong_request_is_sent_nowhere(
    make: Make, upstream: FakeUpstream, fields: dict[str, Any], status: int, param: str
) -> None:
    response = ask(make(), **fields)
    assert (response.status_code, response.json["error"]["param"]) == (status, param)
    assert upstream.requests == []


def test_an_unknown_model_is_mapped_or_refused(make: Make) -> None:
    assert ask(make(), model="gpt-9").json["model"] == "gpt-9"
    response = ask(make(unknown_models="reject"), model="gpt-9")
    assert (response.status_code, response.json["error"]["code"]) == (404, "model_not_found")


BROKEN: dict[str, Sequence[bytes]] = {
    "no end": [deepseek.text("Hel")],
    "no [DONE]": [deepseek.text("Hel"), deepseek.last()],
    "no finish reason": [deepseek.text("Hel"), deepseek.DONE],
    "interrupted": [deepseek.text("Hel"), deepseek.last("insufficient_system_resource"), deepseek.DONE],
    "an error": [deepseek.text("Hel"), deepseek.event({"error": {"message": "Busy"}})],
    "no JSON": [deepseek.text("Hel"), b"data: {\n\n"],
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_stream_that_breaks_ends_in_an_error(make: Make, upstream: FakeUpstream, name: str) -> None:
    upstream.serve(deepseek.streams(BROKEN[name]))
    face = make()
    response = ask(face, stream=True)
    data = response.get_data()
    response.close()
    *said, last = chunks_of(data)
    assert last["error"]["code"] == "server_error"
    assert last["error"].keys() == {"message", "type", "param", "code"}
    assert "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in said) == "Hel"
    assert not any(chunk["choices"][0]["finish_reason"] for chunk in said)
    assert b"[DONE]" not in data
    assert face.lines()[0]["error_code"] == "server_error"


def test_refused_thinking_is_mended_once(make: Make, upstream: FakeUpstream) -> None:
    refusal = deepseek.error(
        "The `reasoning_content` in the thinking mode must be passed back to the API.",
        "invalid_request_error",
    )
    upstream.serve(deepseek.refuses(400, refusal), says("Hello"))
    history = [*ASKED, {"role": "assistant", "content": "a", "reasoning_content": ""}, *ASKED]
    assert ask(make(), messages=history).status_code == 200
    sent = [request.json()["messages"][1]["reasoning_content"] for request in upstream.requests]
    assert sent == ["", " "]


# -- searches -------------------------------------------------------------------------------------

ANSWER = "So [[1]](https://example.com/sky)."


@pytest.fixture
def searcher(make: Make, upstream: FakeUpstream) -> Any:
    upstream.serve(searches())
    return make(web_search="deepseek")


def chats_of(upstream: FakeUpstream) -> list[Any]:
    return [request.json() for request in upstream.requests if not is_lookup(request)]


def test_an_answer_with_a_search_in_the_middle(searcher: Any, upstream: FakeUpstream) -> None:
    whole = searcher.finish(ask(searcher, model="deepseek-chat-search")).json
    stream = streamed(searcher, model="deepseek-chat-search", stream_options={"include_usage": True})
    message = whole["choices"][0]["message"]
    assert stream["choices"][0]["message"] == message
    assert message["content"] == ANSWER
    (cited,) = [annotation["url_citation"] for annotation in message["annotations"]]
    assert cited["url"] == "https://example.com/sky"
    assert whole["model"] == "deepseek-chat-search"
    assert whole["usage"]["prompt_tokens"] == stream["usage"]["prompt_tokens"] == 80
    assert len(upstream.requests) == 6
    assert searcher.metric("searches_total") == 2


def test_half_a_citation_is_no_chunk(searcher: Any, upstream: FakeUpstream) -> None:
    upstream.serve(searches(answer=turn(deepseek.frames(["So [", "1", "]."]))))
    data = searcher.finish(ask(searcher, model="deepseek-chat-search", stream=True)).get_data()
    said = [choice["delta"].get("content") for chunk in chunks_of(data) for choice in chunk["choices"]]
    assert [text for text in said if text is not None] == ["So ", ANSWER.removeprefix("So ")]


def test_the_next_request_sends_what_has_been_read(searcher: Any, upstream: FakeUpstream) -> None:
    message = streamed(searcher, model="deepseek-chat-search")["choices"][0]["message"]
    read = chats_of(upstream)[-1]
    assert [said["reasoning_content"] for said in read["messages"] if said["role"] == "assistant"] == ["Hm"]
    history = [*ASKED, {"role": "assistant", "content": message["content"]}, *ASKED]
    searcher.finish(ask(searcher, model="deepseek-chat-search", messages=history))
    later = chats_of(upstream)[-1]
    assert later["messages"][: len(read["messages"])] == read["messages"]
    answer = later["messages"][len(read["messages"])]
    assert (answer["content"], answer["reasoning_content"]) == ("So [1].", "Ah")
    assert json.dumps(later["tools"]) == json.dumps(read["tools"])


def test_searches_without_end_fail(make: Make, upstream: FakeUpstream) -> None:
    face = make(web_search="deepseek", web_search_rounds=1)
    again = deepseek.streams(calling(("web_search", {"query": "sky"})))
    upstream.serve(searches(first=again, answer=again))
    error = streamed(face, web_search_options={})["error"]
    assert error["code"] == "invalid_prompt"


# -- DeepSeek's neighbours of the chat -------------------------------------------------------------


def fills_in(request: Request, wire: Wire) -> None:
    def body(text: str, reason: str | None) -> dict[str, Any]:
        choice = {"index": 0, "text": text, "logprobs": None, "finish_reason": reason}
        return {"id": "x", "object": "text_completion", "choices": [choice], "usage": deepseek.USAGE}

    if request.json().get("stream"):
        frames = [deepseek.event(body("x", None)), deepseek.event(body("y", "stop")), deepseek.DONE]
        deepseek.streams(frames)(request, wire)
    else:
        wire.respond(200, json.dumps(body("xy", "stop")).encode())


@pytest.mark.parametrize("path", ["/v1/completions", "/completions"])
def test_the_middle_of_a_text_is_filled_in(make: Make, upstream: FakeUpstream, path: str) -> None:
    upstream.serve(fills_in)
    face = make()
    asked = {"prompt": "a", "suffix": "b", "messages": None, "model": "deepseek-chat"}
    body = face.finish(ask(face, path, **asked)).json
    assert (body["object"], body["choices"][0]["text"]) == ("text_completion", "xy")
    stream = face.finish(ask(face, path, stream=True, **asked)).get_data()
    assert "".join(chunk["choices"][0]["text"] for chunk in chunks_of(stream)) == "xy"
    assert {request.path for request in upstream.requests} == {"/beta/completions"}
    assert upstream.requests[0].json()["suffix"] == "b"
    assert [line["input_tokens"] for line in face.lines()] == [40, 40]


def test_a_completion_that_is_cut_off_is_a_failure(make: Make, upstream: FakeUpstream) -> None:
    choice = {"index": 0, "text": "x", "finish_reason": None}
    upstream.serve(deepseek.streams([deepseek.event({"choices": [choice]})]))
    face = make()
    stream = face.finish(ask(face, "/v1/completions", stream=True, prompt="a")).get_data()
    assert chunks_of(stream)[-1]["error"]["code"] == "server_error"


def test_a_message_that_is_begun_goes_to_the_beta(make: Make, upstream: FakeUpstream) -> None:
    history = [*ASKED, {"role": "assistant", "content": "Hel", "prefix": True}]
    assert ask(make(), messages=history).status_code == 200
    assert upstream.requests[0].path == "/beta/chat/completions"
    assert upstream.requests[0].json()["messages"][-1]["prefix"] is True


BALANCE = b'{"is_available":true,"balance_infos":[]}'


@pytest.mark.parametrize("path", ["/user/balance", "/v1/user/balance"])
def test_the_balance_is_that_of_the_callers_account(make: Make, upstream: FakeUpstream, path: str) -> None:
    upstream.serve(lambda _, wire: wire.respond(200, BALANCE))
    response = make().request("GET", path, headers={"Authorization": "Bearer sk-mine"})
    assert (response.status_code, response.data, response.mimetype) == (200, BALANCE, "application/json")
    (request,) = upstream.requests
    assert (request.method, request.path) == ("GET", "/user/balance")
    assert request.headers["authorization"] == "Bearer sk-mine"


def test_the_gateways_balance_is_not_for_its_clients(make: Make, upstream: FakeUpstream) -> None:
    key = "the-key-of-alice-01"
    face = make(keys=[{"key": key}], deepseek_api_key="sk-own")
    response = face.request("GET", "/user/balance", headers={"Authorization": f"Bearer {key}"})
    assert (response.status_code, response.json["error"]["code"]) == (403, "permission_denied")
    assert upstream.requests == []


def test_a_refused_key_has_no_balance(make: Make, upstream: FakeUpstream) -> None:
    upstream.serve(deepseek.refuses(401, deepseek.BAD_KEY))
    response = make().request("GET", "/user/balance", headers={"Authorization": "Bearer sk-mine"})
    assert (response.status_code, response.json["error"]["code"]) == (401, "invalid_api_key")
