"""WebSocket mode over real sockets: one answer after the other, what they go on from, and how it all ends."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from harness import deepseek
from harness.deepseek import answers
from harness.fake_upstream import FakeUpstream
from harness.halves import pausing
from harness.responses_grammar import assert_responses_grammar
from harness.waiting import wait_for
from harness.websocket import Refused, WebSocket
from harness.wire import Request, Wire
from werkzeug.serving import make_server

KEY = "sk-client-0123456789"
BEARER = {"Authorization": f"Bearer {KEY}"}
CODEX = {**BEARER, "originator": "codex_exec"}
UPGRADE = {
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}

Make = Callable[..., Any]
Connect = Callable[..., WebSocket]


class Served:
    """One application behind a server of threads."""

    def __init__(self, face: Any) -> None:
        self.face = face
        self._server = make_server("127.0.0.1", 0, face.app, threaded=True)
        self.port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        self._sockets: list[WebSocket] = []

    def connect(self, headers: Mapping[str, str] = BEARER, path: str = "/v1/responses") -> WebSocket:
        self._sockets.append(WebSocket(self.port, path, headers))
        return self._sockets[-1]

    def settled(self) -> None:
        """Waits until every connection has ended."""
        wait_for(lambda: not self.face.metric("open_websockets"), 5)

    def close(self) -> None:
        for each in self._sockets:
            each.socket.close()
        self.settled()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def serve(make: Make) -> Iterator[Callable[..., Served]]:
    """Serves an application with the given settings."""
    running: list[Served] = []

    def start(**settings: Any) -> Served:
        running.append(Served(make(**settings)))
        return running[-1]

    yield start
    for each in running:
        each.close()


@pytest.fixture
def served(serve: Callable[..., Served]) -> Served:
    return serve()


def prompts(upstream: FakeUpstream) -> list[list[tuple[str, str]]]:
    """Roles and texts of every request that the upstream got."""
    return [
        [(message["role"], message.get("content") or "") for message in request.json()["messages"]]
        for request in upstream.requests
    ]


def call_tool(_: Request, wire: Wire) -> None:
    wire.start_stream()
    wire.chunk(deepseek.opening() + deepseek.call(0, "call_0", "look") + deepseek.arguments(0, "{}"))
    wire.chunk(deepseek.last("tool_calls") + deepseek.DONE)
    wire.end()


# -- answers --------------------------------------------------------------------------------------


RANDOM = re.compile(
    r'((?:resp|msg|rs)_[0-9a-f]{24}|"(?:created_at|completed_at)": \d+|"encrypted_content": "[^"]+")'
)


def without_randomness(events: list[dict[str, Any]]) -> str:
    """Every id, time and seal becomes a number: the same for the same value, in order of appearance."""
    seen: dict[str, str] = {}
    return RANDOM.sub(lambda found: seen.setdefault(found[1], f"<{len(seen)}>"), json.dumps(events))


def test_the_events_are_those_of_the_stream(served: Served) -> None:
    asked = {"reasoning": {"effort": "none"}, "input": "hi", "store": False}
    streamed = served.face.events(served.face.ask(stream=True, **asked))
    sent = served.connect().ask(**asked)
    assert_responses_grammar(sent)
    assert without_randomness(sent) == without_randomness(streamed)


@pytest.mark.parametrize("path", ["/v1/responses", "/responses", "/v1/responses/"])
def test_answers_come_one_after_the_other(served: Served, upstream: FakeUpstream, path: str) -> None:
    socket = served.connect(path=path)
    for prompt in ("one", "two", "three"):
        assert assert_responses_grammar(socket.ask(input=prompt))["status"] == "completed"
    assert prompts(upstream) == [[("user", prompt)] for prompt in ("one", "two", "three")]
    socket.close()
    assert socket.closed() == (1000, "")
    assert not socket.messages  # no [DONE], nothing


def test_what_is_asked_too_early_waits_for_its_turn(served: Served, upstream: FakeUpstream) -> None:
    socket = served.connect()
    for prompt in ("one", "two", "three"):
        socket.create(input=prompt)
    ids = []
    for _ in range(3):
        ids.append(assert_responses_grammar(socket.answer())["id"])
    assert len(set(ids)) == 3
    assert [prompt[0][1] for prompt in prompts(upstream)] == ["one", "two", "three"]


def test_events_name_the_lane_that_was_asked_on(served: Served) -> None:
    socket = served.connect()
    assert {event["stream_id"] for event in socket.ask(input="hi", stream_id="left")} == {"left"}
    assert "stream_id" not in socket.ask(input="hi")[0]
    (error,) = socket.ask(input=7, stream_id="right")
    assert error["stream_id"] == "right"


def test_steering_is_answered_and_changes_nothing(served: Served) -> None:
    socket = served.connect()
    socket.send({"type": "response.steer", "previous_response_id": "resp_1", "input": "left!"})
    assert socket.event()["type"] == "response.steer.failed"
    assert socket.ask(input="hi")[-1]["type"] == "response.completed"


# -- going on -------------------------------------------------------------------------------------


def test_a_turn_goes_on_from_one_that_is_not_stored(served: Served, upstream: FakeUpstream) -> None:
    socket = served.connect()
    first = socket.ask(input="one")[-1]["response"]
    second = socket.ask(input="two", previous_response_id=first["id"])[-1]["response"]
    fork = socket.ask(input="three", previous_response_id=first["id"])[-1]["response"]
    socket.ask(input="four", previous_response_id=second["id"])
    assert (second["previous_response_id"], fork["store"]) == (first["id"], False)
    beginning = [("user", "one"), ("assistant", "Hello")]
    assert prompts(upstream)[1:] == [
        [*beginning, ("user", "two")],
        [*beginning, ("user", "three")],
        [*beginning, ("user", "two"), ("assistant", "Hello"), ("user", "four")],
    ]


def test_a_tool_s_result_finds_its_call(served: Served, upstream: FakeUpstream) -> None:
    upstream.serve(call_tool, answers())
    socket = served.connect()
    tools = [{"type": "function", "name": "look", "parameters": {"type": "object", "properties": {}}}]
    called = socket.ask(input="look", tools=tools)[-1]["response"]
    (call,) = [item for item in called["output"] if item["type"] == "function_call"]
    result = {"type": "function_call_output", "call_id": call["call_id"], "output": "a cat"}
    answered = socket.ask(input=[result], tools=tools, previous_response_id=called["id"])[-1]
    assert answered["type"] == "response.completed"
    assert [role for role, _ in prompts(upstream)[1]] == ["user", "assistant", "tool"]


def test_a_new_connection_knows_nothing_of_it_and_stays_open(served: Served, upstream: FakeUpstream) -> None:
    known = served.connect().ask(input="one")[-1]["response"]["id"]
    socket = served.connect()
    (error,) = socket.ask(input="two", previous_response_id=known)
    assert error["status"] == 400
    assert error["error"]["code"] == "previous_response_not_found"
    assert error["error"]["param"] == "previous_response_id"
    assert socket.ask(input="three")[-1]["type"] == "response.completed"
    assert len(upstream.requests) == 2


def test_a_turn_that_fails_takes_with_it_what_it_went_on_from(served: Served, upstream: FakeUpstream) -> None:
    socket = served.connect()
    first = socket.ask(input="one")[-1]["response"]["id"]
    result = {"type": "function_call_output", "call_id": "call_x", "output": ""}
    (error,) = socket.ask(input=[result], previous_response_id=first)
    assert error["error"]["message"] == "No tool call found for function call output with call_id call_x."
    (error,) = socket.ask(input="again", previous_response_id=first)
    assert error["error"]["code"] == "previous_response_not_found"
    assert len(upstream.requests) == 1


def test_so_does_one_that_fails_in_mid_stream(served: Served, upstream: FakeUpstream) -> None:
    def breaks(_: Request, wire: Wire) -> None:
        wire.start_stream()
        wire.chunk(deepseek.opening() + deepseek.text("Hel"))
        wire.close()

    upstream.serve(answers(), breaks, answers())
    socket = served.connect()
    first = socket.ask(input="one")[-1]["response"]["id"]
    events = socket.ask(input="two", previous_response_id=first)
    assert assert_responses_grammar(events)["status"] == "failed"
    assert socket.ask(input="two", previous_response_id=first)[-1]["type"] == "error"


def test_memory_has_a_bound(serve: Callable[..., Served]) -> None:
    socket = serve(websocket_memory_bytes=0).connect()
    first = socket.ask(input="one")[-1]["response"]["id"]
    assert socket.ask(input="two", previous_response_id=first)[-1]["type"] == "error"


def test_a_stored_turn_outlives_its_connection(served: Served, upstream: FakeUpstream) -> None:
    socket = served.connect()
    first = socket.ask(input="one")[-1]["response"]["id"]
    second = socket.ask(input="two", previous_response_id=first, store=True)[-1]["response"]
    assert second["store"]
    other = served.connect()
    third = other.ask(input="three", previous_response_id=second["id"])[-1]["response"]["id"]
    other.ask(input="four", previous_response_id=third)
    asked = [("user", "one"), ("user", "two"), ("user", "three"), ("user", "four")]
    assert [message for message in prompts(upstream)[-1] if message[0] == "user"] == asked


def test_a_warm_up_costs_nothing_and_can_be_gone_on_from(served: Served, upstream: FakeUpstream) -> None:
    socket = served.connect()
    warm = socket.ask(input=[{"role": "developer", "content": "Be brief."}], generate=False)
    assert [event["type"] for event in warm] == [
        "response.created",
        "response.in_progress",
        "response.completed",
    ]
    assert warm[-1]["response"]["output"] == []
    assert warm[-1]["response"]["usage"]["total_tokens"] == 0
    assert not upstream.requests
    socket.ask(input="hi", previous_response_id=warm[-1]["response"]["id"])
    assert prompts(upstream) == [[("system", "Be brief."), ("user", "hi")]]


def test_a_warm_up_needs_no_input_but_a_good_request(served: Served) -> None:
    socket = served.connect()
    assert socket.ask(generate=False)[-1]["type"] == "response.completed"
    (error,) = socket.ask(generate=False, temperature="hot")
    assert error["error"]["param"] == "temperature"


# -- errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "status", "code", "param"),
    [
        (b"{", 400, "invalid_request_error", None),
        (b"[]", 400, "invalid_request_error", None),
        ({"model": "deepseek-flash"}, 400, "missing_required_parameter", "type"),
        ({"type": "response.cancel"}, 400, "invalid_value", "type"),
        ({"type": "response.create", "input": "hi"}, 400, "missing_required_parameter", "model"),
        (
            {"type": "response.create", "model": "x", "input": "hi", "background": True},
            400,
            "unsupported_parameter",
            "background",
        ),
        ({"type": "response.create", "model": "nonesuch", "input": "hi"}, 404, "model_not_found", "model"),
    ],
)
def test_a_bad_message_is_told_so_and_the_connection_stays(
    serve: Callable[..., Served], message: Any, status: int, code: str, param: str | None
) -> None:
    socket = serve(unknown_models="reject").connect()
    socket.send(message)
    error = socket.event()
    assert error["type"] == "error"
    assert (error["status"], error["error"]["code"], error["error"]["param"]) == (status, code, param)
    assert socket.ask(input="hi")[-1]["type"] == "response.completed"


def test_a_refusal_of_the_upstream_is_an_error_message(served: Served, upstream: FakeUpstream) -> None:
    upstream.serve(deepseek.refuses(402, deepseek.NO_BALANCE), answers())
    socket = served.connect()
    (error,) = socket.ask(input="hi")
    assert (error["status"], error["error"]["code"]) == (429, "insufficient_quota")
    assert socket.ask(input="hi")[-1]["type"] == "response.completed"


def test_codex_is_told_inside_a_stream_but_for_what_it_knows(served: Served, upstream: FakeUpstream) -> None:
    upstream.serve(deepseek.refuses(402, deepseek.NO_BALANCE))
    socket = served.connect(CODEX)
    failed = assert_responses_grammar(socket.ask(input="hi"))
    assert failed["error"]["code"] == "insufficient_quota"
    (error,) = socket.ask(input="hi", previous_response_id="resp_unknown")
    assert error["error"]["code"] == "previous_response_not_found"


def test_our_own_failure_is_told_and_logged(
    served: Served, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: Any) -> None:
        raise KeyError("the canary")

    socket = served.connect()
    with monkeypatch.context() as patched:
        patched.setattr("deepseek_proxy.api.websocket.stand", broken)
        (error,) = socket.ask(input="hi")
    assert error["status"] == 500
    assert "canary" not in json.dumps(error)
    assert caplog.messages[0] == "request failed"
    assert socket.ask(input="hi")[-1]["type"] == "response.completed"


def test_a_message_that_is_too_large_ends_the_connection(serve: Callable[..., Served]) -> None:
    socket = serve(max_body_bytes=2000).connect()
    assert socket.ask(input="x" * 1800)[-1]["type"] == "response.completed"
    socket.create(input="x" * 2000)
    assert socket.closed()[0] == 1009


def test_a_key_that_ends_meanwhile_gets_no_answer(
    serve: Callable[..., Served], upstream: FakeUpstream
) -> None:
    ends = datetime.now(UTC) + timedelta(seconds=2)
    key = {"name": "ann", "key": KEY, "expires": ends.isoformat()}
    socket = serve(keys=[key], deepseek_api_key="sk-own-0123456789").connect()
    assert socket.ask(input="hi")[-1]["type"] == "response.completed"
    time.sleep(max(0.0, (ends - datetime.now(UTC)).total_seconds()))
    for _ in range(2):
        (error,) = socket.ask(input="hi")
        assert (error["status"], error["error"]["code"]) == (401, "invalid_api_key")
    assert len(upstream.requests) == 1


def test_each_answer_counts_for_the_limits_of_the_key(serve: Callable[..., Served]) -> None:
    key = {"name": "ann", "key": KEY, "requests_per_minute": 2}
    socket = serve(keys=[key], deepseek_api_key="sk-own-0123456789").connect()
    kinds = [socket.ask(input="hi")[-1] for _ in range(3)]
    assert [event["type"] for event in kinds] == ["response.completed", "response.completed", "error"]
    assert kinds[2]["status"] == 429
    assert int(kinds[2]["error"]["headers"]["Retry-After"]) > 0


# -- before it is open ----------------------------------------------------------------------------


def refused(served: Served, headers: Mapping[str, str] = BEARER) -> tuple[int, str]:
    with pytest.raises(Refused) as caught:
        served.connect(headers)
    return caught.value.status, caught.value.json()["error"]["code"]


def test_who_has_no_good_key_is_told_by_a_status(serve: Callable[..., Served]) -> None:
    assert refused(serve(), {}) == (401, "invalid_api_key")
    foreign = {"Origin": "https://example.com"}
    assert refused(serve(deepseek_api_key="sk-own-0123456789"), foreign) == (403, "permission_denied")


def test_it_can_be_switched_off(serve: Callable[..., Served]) -> None:
    assert refused(serve(websocket="off")) == (426, "websocket_unavailable")


def test_a_gateway_that_stops_opens_none(served: Served) -> None:
    served.face.gateway.drain.begin(60)
    assert refused(served) == (503, "server_error")


@pytest.mark.parametrize(
    "environ",
    [
        {},  # no socket: serverless runtimes, and servers that hide it
        {"werkzeug.socket": None, "SERVER_PROTOCOL": "HTTP/1.0"},
        {"werkzeug.socket": None, "SERVER_PROTOCOL": "HTTP/2"},
        {"gunicorn.socket": None, "wsgi.multithread": False},  # nobody else would be served meanwhile
    ],
)
@pytest.mark.parametrize("path", ["/v1/responses", "/responses"])
def test_where_it_cannot_be_served_the_client_goes_on_over_http(
    face: Any, environ: Mapping[str, Any], path: str
) -> None:
    asked = {"wsgi.multithread": True, "SERVER_PROTOCOL": "HTTP/1.1", **environ}
    response = face.request("GET", path, headers={**BEARER, **UPGRADE}, environ_overrides=asked)
    assert (response.status_code, response.json["error"]["code"]) == (426, "websocket_unavailable")
    assert "POST" in response.json["error"]["message"]


def test_without_an_upgrade_there_is_nothing_to_get(face: Any) -> None:
    response = face.request("GET", "/v1/responses", headers=BEARER)
    assert (response.status_code, response.headers["Allow"]) == (405, "POST")


# -- time -----------------------------------------------------------------------------------------


def test_who_asks_for_nothing_is_let_go(serve: Callable[..., Served]) -> None:
    socket = serve(websocket_idle_seconds=1).connect()
    socket.ask(input="hi")
    began = time.monotonic()
    assert socket.closed() == (1000, "Nothing was asked for too long.")
    assert time.monotonic() - began > 0.5


def test_its_time_ends_after_the_answer_with_a_word(
    serve: Callable[..., Served], upstream: FakeUpstream
) -> None:
    upstream.serve(pausing(1.2))
    socket = serve(websocket_seconds=1).connect()
    assert socket.ask(input="hi")[-1]["type"] == "response.completed"
    error = socket.event()
    assert (error["type"], error["status"]) == ("error", 400)
    assert error["error"]["code"] == "websocket_connection_limit_reached"
    assert socket.closed()[0] == 1000


def test_silence_is_filled_with_pings_and_progress(
    serve: Callable[..., Served], upstream: FakeUpstream
) -> None:
    upstream.serve(pausing(1.5))
    socket = serve(heartbeat_seconds=0.3, progress_seconds=0.9).connect()
    events = socket.ask(input="hi")
    assert_responses_grammar(events)
    assert [event["type"] for event in events].count("response.in_progress") > 1
    assert socket.pings


def test_so_is_the_time_between_answers(serve: Callable[..., Served]) -> None:
    socket = serve(heartbeat_seconds=0.05).connect()
    time.sleep(0.3)
    socket.ask(input="hi")
    assert len(socket.pings) >= 2


# -- ends -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("goodbye", [True, False])
@pytest.mark.parametrize("talks", [True, False])
def test_a_client_that_leaves_takes_the_upstream_s_answer_with_it(
    served: Served, upstream: FakeUpstream, goodbye: bool, talks: bool
) -> None:
    closed: list[float | None] = []

    def goes_on(_: Request, wire: Wire) -> None:
        wire.start_stream()
        wire.chunk(deepseek.opening())
        until = time.monotonic() + 4
        while not closed and time.monotonic() < until:
            try:
                wire.chunk(deepseek.text("x") if talks else b": waiting\n\n")
            except OSError:
                closed.append(time.monotonic())
                return
            if (at := wire.wait_closed(0.05)) is not None:
                closed.append(at)

    upstream.serve(goes_on)
    socket = served.connect()
    socket.create(input="hi")
    assert socket.event()["type"] == "response.created"
    left = time.monotonic()
    if goodbye:
        socket.close(1001)
    else:
        socket.leave()
    upstream.wait_until(lambda: closed)
    assert closed[0] is not None
    assert closed[0] - left < 1.2
    served.settled()
    upstream.wait_until(lambda: len(served.face.lines()) == 2)
    turn, connection = served.face.lines()
    assert turn["client_gone"]
    assert (connection["status"], connection["turns"]) == (101, 1)
    assert connection["close_code"] == (1001 if goodbye else 1006)


def test_a_gateway_that_stops_ends_idle_connections_at_once(served: Served) -> None:
    socket = served.connect()
    socket.ask(input="hi")
    time.sleep(0.05)
    began = time.monotonic()
    served.face.gateway.drain.begin(60)
    assert socket.closed() == (1001, "The gateway is stopping. Connect again.")
    assert time.monotonic() - began < 0.5


def test_and_the_others_after_their_answer(served: Served, upstream: FakeUpstream) -> None:
    go_on = threading.Event()

    def waits(_: Request, wire: Wire) -> None:
        wire.start_stream()
        wire.chunk(deepseek.opening() + deepseek.text("Hel"))
        assert go_on.wait(5)
        wire.chunk(deepseek.text("lo") + deepseek.last() + deepseek.DONE)
        wire.end()

    upstream.serve(waits)
    socket = served.connect()
    socket.create(input="hi")
    assert socket.event()["type"] == "response.created"
    served.face.gateway.drain.leave()
    go_on.set()
    assert socket.answer()[-1]["type"] == "response.completed"
    assert socket.closed()[0] == 1001


# -- what is said of it ---------------------------------------------------------------------------


def test_every_answer_has_a_line_and_so_has_the_connection(served: Served, upstream: FakeUpstream) -> None:
    socket = served.connect({**BEARER, "X-Request-ID": "mine"})
    socket.ask(input="the canary")
    assert served.face.metric("open_websockets") == 1
    socket.ask(input=7)
    socket.ask(generate=False)
    socket.close()
    socket.closed()
    upstream.wait_until(lambda: len(served.face.lines()) == 4)
    first, second, third, last = served.face.lines()
    assert [line["request_id"] for line in (first, second, third, last)] == [
        "mine.1",
        "mine.2",
        "mine.3",
        "mine",
    ]
    assert [line["method"] for line in (first, second, third, last)] == ["WS", "WS", "WS", "GET"]
    assert [line["status"] for line in (first, second, third, last)] == [200, 400, 200, 101]
    assert (first["output_tokens"], first["stream"], first["attempts"]) == (9, True, 1)
    assert (second["error_code"], second["attempts"]) == ("invalid_type", 0)
    assert (third["model"], third["attempts"]) == ("deepseek-flash", 0)
    assert (last["turns"], last["close_code"]) == (3, 1000)
    assert "canary" not in json.dumps([first, second, third, last])
    assert served.face.metric('requests_total{dialect="responses",model="deepseek-flash",status="200"}') == 2
    assert served.face.metric('requests_total{dialect="responses",model="none",status="101"}') == 1
