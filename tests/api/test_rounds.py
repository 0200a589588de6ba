"""Answers with a search in the middle, streamed and whole: what is asked when, and how each of them fails."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from harness import deepseek
from harness.fake_upstream import FakeUpstream
from harness.responses_grammar import assert_responses_grammar
from harness.searching import ANSWER, TOOL, calling, finds, is_lookup, searches, turn
from harness.wire import Handler, Request, Wire

from deepseek_proxy import models

Make = Callable[..., Any]
"""Of `conftest`."""

SECONDS = 0.4  # of a tick


@pytest.fixture
def face(make: Make, upstream: FakeUpstream) -> Any:
    upstream.serve(searches())
    return make(web_search="deepseek")


def streamed(face: Any, **fields: Any) -> dict[str, Any]:
    """The final Response of a stream, whose grammar is good."""
    response = face.ask(stream=True, **{"tools": [TOOL], **fields})
    assert response.status_code == 200, response.text
    final = assert_responses_grammar(face.events(response))
    response.close()
    return dict(final)


def whole(face: Any, **fields: Any) -> dict[str, Any]:
    response = face.ask(**{"tools": [TOOL], **fields})
    assert response.status_code == 200, response.text
    body: dict[str, Any] = response.json
    return body


def without_ids(response: dict[str, Any]) -> dict[str, Any]:
    secret = ("id", "encrypted_content")
    items = [{key: value for key, value in item.items() if key not in secret} for item in response["output"]]
    kept = {key: value for key, value in response.items() if key not in ("id", "created_at", "completed_at")}
    return {**kept, "output": items}


def chats(upstream: FakeUpstream) -> list[Any]:
    return [request.json() for request in upstream.requests if not is_lookup(request)]


def text_of(response: dict[str, Any]) -> str:
    return str(response["output"][-1]["content"][0]["text"])


# -- answers --------------------------------------------------------------------------------------


def test_streamed_and_whole_answers_are_the_same(face: Any) -> None:
    stream, body = streamed(face), whole(face)
    assert without_ids(stream) == without_ids(body)
    assert [item["type"] for item in body["output"]] == [
        "reasoning",
        "web_search_call",
        "reasoning",
        "message",
    ]
    assert text_of(body) == ANSWER
    assert body["output"][-1]["content"][0]["annotations"][0]["url"] == "https://example.com/sky"
    assert body["usage"]["input_tokens"] == 2 * deepseek.USAGE["prompt_tokens"]


def test_one_request_is_one_line_in_the_log(face: Any, upstream: FakeUpstream) -> None:
    streamed(face)
    (line,) = face.lines()
    assert (line["attempts"], line["finish"], line["searches"]) == (2, "stop", 1)
    assert line["cost_usd"] > models.SEARCH_USD
    assert face.metric("searches_total") == 1
    assert line["input_tokens"] == 2 * deepseek.USAGE["prompt_tokens"]
    assert [request.path.rpartition("/")[2] for request in upstream.requests] == [
        *("completions", "search", "completions")
    ]


def test_one_connection_serves_the_whole_answer(face: Any, upstream: FakeUpstream) -> None:
    streamed(face)
    whole(face)
    assert upstream.connections == 1


def test_the_key_of_the_client_pays_for_the_searches(face: Any, upstream: FakeUpstream) -> None:
    streamed(face)
    assert len({request.headers["authorization"] for request in upstream.requests}) == 1


def test_a_schema_is_not_asked_for_again_after_a_search(face: Any, upstream: FakeUpstream) -> None:
    """Asked again, the model would search again; the answer goes out as it is."""
    schema = {"type": "object", "properties": {}, "required": ["a"]}
    text = {"format": {"type": "json_schema", "name": "x", "schema": schema}}
    upstream.serve(searches(answer=turn(deepseek.frames(['{"b": 1}']))))
    assert text_of(whole(face, text=text)) == '{"b": 1}'
    assert len(chats(upstream)) == 2


def test_where_it_is_off_no_search_is_offered(make: Make, upstream: FakeUpstream) -> None:
    plain = make()
    assert text_of(whole(plain)) == "Hello"
    assert "tools" not in chats(upstream)[0]
    refused = plain.ask(tools=[TOOL], tool_choice=TOOL)
    assert (refused.status_code, refused.json["error"]["param"]) == (400, "tool_choice")


# -- failures -------------------------------------------------------------------------------------

LOOKUP_FAILURES: dict[str, Handler] = {
    "not found": deepseek.refuses(404, b"<html>"),
    "too many": deepseek.refuses(429, deepseek.TOO_MANY, {"Retry-After": "1"}),
    "broken": deepseek.refuses(500, b""),
    "busy": deepseek.refuses(503, deepseek.BUSY),
    "a page": lambda _, wire: wire.respond(200, b"<html>", {"Content-Type": "text/html"}),
    "cut": lambda _, wire: wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"),
    "slow": lambda _, wire: wire.wait_closed(5),
}


@pytest.mark.parametrize("name", LOOKUP_FAILURES)
@pytest.mark.parametrize("ask", [streamed, whole])
def test_a_search_that_fails_does_not_fail_the_answer(
    make: Make, upstream: FakeUpstream, ask: Callable[..., dict[str, Any]], name: str
) -> None:
    face = make(web_search="deepseek", web_search_call_seconds=SECONDS)
    upstream.serve(searches(LOOKUP_FAILURES[name], answer=turn(deepseek.frames(["I do not know."]))))
    answer = ask(face)
    assert text_of(answer) == "I do not know."
    (search,) = [item for item in answer["output"] if item["type"] == "web_search_call"]
    assert search["status"] == "failed"
    result = chats(upstream)[1]["messages"][-1]
    assert result["role"] == "tool"
    assert "try something else" in result["content"].lower()


@pytest.mark.parametrize(
    ("status", "body", "code", "http_status"),
    [
        (401, deepseek.BAD_KEY, "invalid_api_key", 401),
        (402, deepseek.NO_BALANCE, "insufficient_quota", 429),
    ],
)
def test_a_search_fails_for_want_of_money_as_a_chat_does(
    face: Any, upstream: FakeUpstream, status: int, body: bytes, code: str, http_status: int
) -> None:
    upstream.serve(searches(deepseek.refuses(status, body)))
    assert streamed(face)["error"]["code"] == code
    refused = face.ask(tools=[TOOL])
    assert (refused.status_code, refused.json["error"]["code"]) == (http_status, code)


def test_a_turn_after_a_search_may_fail(face: Any, upstream: FakeUpstream) -> None:
    upstream.serve(searches(answer=deepseek.refuses(400, deepseek.TOO_LONG)))
    final = streamed(face)
    assert (final["status"], final["error"]["code"]) == ("failed", "context_length_exceeded")
    assert [item["type"] for item in final["output"]] == ["reasoning", "web_search_call"]
    assert face.ask(tools=[TOOL]).status_code == 400


def test_a_turn_after_a_search_is_tried_again_before_it_says_anything(
    face: Any, upstream: FakeUpstream
) -> None:
    failed: list[Request] = []

    def flaky(request: Request, wire: Wire) -> None:
        if failed:
            turn(deepseek.frames(["So."]))(request, wire)
        else:
            failed.append(request)
            wire.respond(503, deepseek.BUSY)

    upstream.serve(searches(answer=flaky))
    assert text_of(streamed(face)) == "So."
    assert face.lines()[0]["attempts"] == 3


def test_searches_without_end_fail(make: Make, upstream: FakeUpstream) -> None:
    face = make(web_search="deepseek", web_search_rounds=2)
    again = turn(calling(("web_search", {"query": "sky"})))
    upstream.serve(searches(answer=again))
    assert streamed(face)["error"]["code"] == "invalid_prompt"
    assert len(chats(upstream)) == 4
    refused = face.ask(tools=[TOOL])
    assert (refused.status_code, refused.json["error"]["code"]) == (400, "invalid_prompt")


# -- time -----------------------------------------------------------------------------------------


def slowly(seconds: float, handler: Handler = finds) -> Handler:
    def slow(request: Request, wire: Wire) -> None:
        wire.sleep(seconds)
        handler(request, wire)

    return slow


def test_heartbeats_go_on_through_a_search(make: Make, upstream: FakeUpstream) -> None:
    face = make(web_search="deepseek", heartbeat_seconds=0.3, progress_seconds=0.9)
    upstream.serve(searches(slowly(2)))
    response = face.ask(stream=True, tools=[TOOL])
    data = response.get_data()
    response.close()
    assert data.count(b": keep-alive\n\n") >= 2
    repeated = [e for e in face.events(response) if e["type"] == "response.in_progress"][1:]
    assert [item["type"] for item in repeated[0]["response"]["output"]] == ["reasoning", "web_search_call"]


def test_the_total_clock_runs_through_all_turns(make: Make, upstream: FakeUpstream) -> None:
    face = make(web_search="deepseek", total_seconds=1.5)
    upstream.serve(searches(slowly(0.8), answer=lambda _, wire: wire.wait_closed(5)))
    began = time.monotonic()
    assert streamed(face)["error"]["message"] == "The answer took longer than 1.5 seconds."
    assert time.monotonic() - began < 1.5 + 2 * SECONDS + 0.3
    assert face.ask(tools=[TOOL]).status_code == 504


def test_no_search_is_started_late(make: Make, upstream: FakeUpstream) -> None:
    face = make(web_search="deepseek", web_search_seconds=0.05)
    upstream.serve(searches(first=slowly(0.2, turn(calling(("web_search", {"query": "sky"}))))))
    assert [item["type"] for item in streamed(face)["output"]] == ["reasoning", "reasoning", "message"]
    assert "No more searches" in chats(upstream)[1]["messages"][-1]["content"]


@pytest.mark.parametrize("stream", [True, False])
def test_a_server_that_stops_ends_the_search(make: Make, upstream: FakeUpstream, stream: bool) -> None:
    face = make(web_search="deepseek")

    def stops(_: Request, wire: Wire) -> None:
        face.gateway.drain.begin(0)
        wire.wait_closed(5)

    upstream.serve(searches(stops))
    response = face.ask(stream=stream, tools=[TOOL])
    if stream:
        assert "stopping" in face.events(response)[-1]["response"]["error"]["message"]
    else:
        assert response.status_code == 503
    response.close()
    upstream.wait_until(lambda: not upstream.busy_handlers)
