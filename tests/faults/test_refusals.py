"""DeepSeek says no, or cannot be reached: what is tried again, and what the client is told."""

from __future__ import annotations

import time

import pytest
from harness import deepseek
from harness.fake_upstream import FakeUpstream
from harness.gateway import Gateway
from harness.responses import read_error, read_stream
from harness.wire import Handler, Request, Wire

ATTEMPTS = 3  # the default of `upstream_attempts`

both_forms = pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])


def reset_at_once(_: Request, wire: Wire) -> None:
    wire.reset()


def close_at_once(_: Request, wire: Wire) -> None:
    wire.close()


def garbage(_: Request, wire: Wire) -> None:
    wire.send(b"SSH-2.0-OpenSSH_9.6\r\n")
    wire.close()


# Upstream status and body -> the client's status, code and type.
FINAL = [
    (400, deepseek.INVALID, 400, "invalid_request_error", "invalid_request_error"),
    (400, deepseek.TOO_LONG, 400, "context_length_exceeded", "invalid_request_error"),
    (400, deepseek.RISKY, 400, "invalid_prompt", "invalid_request_error"),
    (401, deepseek.BAD_KEY, 401, "invalid_api_key", "authentication_error"),
    (402, deepseek.NO_BALANCE, 429, "insufficient_quota", "insufficient_quota"),
    (422, deepseek.UNPROCESSABLE, 400, "invalid_request_error", "invalid_request_error"),
    (422, b"Failed to deserialize the JSON body", 400, "invalid_request_error", "invalid_request_error"),
]


@both_forms
@pytest.mark.parametrize(("status", "body", "told", "code", "kind"), FINAL)
def test_a_final_refusal_is_passed_on_at_once(
    gateway: Gateway,
    upstream: FakeUpstream,
    status: int,
    body: bytes,
    told: int,
    code: str | None,
    kind: str,
    stream: bool,
) -> None:
    upstream.serve(deepseek.refuses(status, body))
    with gateway.ask(stream=stream) as call:
        reply = call.reply()
        error = read_error(reply, told, code)
    assert error["type"] == kind
    assert reply.headers["x-should-retry"] == "false"
    assert "retry-after" not in reply.headers
    assert len(upstream.requests) == 1


PASSING: dict[str, tuple[Handler, int, str]] = {
    "429": (deepseek.refuses(429, deepseek.TOO_MANY), 429, "rate_limit_exceeded"),
    "500": (deepseek.refuses(500, b"oops", {"Content-Type": "text/plain"}), 502, "server_error"),
    "503": (deepseek.refuses(503, deepseek.BUSY), 503, "server_error"),
    "reset": (reset_at_once, 502, "server_error"),
    "closed": (close_at_once, 502, "server_error"),
    "garbage": (garbage, 502, "server_error"),
}


@both_forms
@pytest.mark.parametrize("fault", PASSING)
def test_a_passing_fault_is_tried_again(
    gateway: Gateway, upstream: FakeUpstream, fault: str, stream: bool
) -> None:
    upstream.serve(PASSING[fault][0], deepseek.answers())
    with gateway.ask(stream=stream) as call:
        reply = call.reply()
        final = read_stream(reply).final if stream else reply.json()
    assert final["status"] == "completed"
    assert len(upstream.requests) == 2
    assert upstream.requests[0].body == upstream.requests[1].body


@pytest.mark.parametrize("fault", ["503", "reset"])
def test_a_passing_fault_is_tried_again_under_every_server(
    any_gateway: Gateway, upstream: FakeUpstream, fault: str
) -> None:
    upstream.serve(PASSING[fault][0], deepseek.answers())
    with any_gateway.ask() as call:
        assert read_stream(call.reply()).text == "Hello"


@both_forms
@pytest.mark.parametrize("fault", PASSING)
def test_a_fault_that_lasts_is_told(
    gateway: Gateway, upstream: FakeUpstream, fault: str, stream: bool
) -> None:
    handler, status, code = PASSING[fault]
    upstream.serve(handler)
    with gateway.ask(stream=stream) as call:
        reply = call.reply()
        read_error(reply, status, code)
    assert int(reply.headers["retry-after"]) >= 1
    assert "x-should-retry" not in reply.headers
    assert len(upstream.requests) == ATTEMPTS


def test_the_upstreams_retry_after_is_honoured(gateway: Gateway, upstream: FakeUpstream) -> None:
    # Five seconds are asked for; retry_max_seconds allows 0.4.
    upstream.serve(deepseek.refuses(429, deepseek.TOO_MANY, {"Retry-After": "5"}), deepseek.answers())
    with gateway.ask() as call:
        assert read_stream(call.reply()).text == "Hello"
    first, second = (request.at for request in upstream.requests)
    assert 0.38 < second - first < 1


def test_the_last_retry_after_reaches_the_client(gateway: Gateway, upstream: FakeUpstream) -> None:
    upstream.serve(deepseek.refuses(429, deepseek.TOO_MANY, {"Retry-After": "7"}))
    with gateway.ask() as call:
        reply = call.reply()
        error = read_error(reply, 429, "rate_limit_exceeded")
    assert reply.headers["retry-after"] == "7"
    assert "Too many requests" in error["message"]


@pytest.mark.parametrize("value", ["soon", "-1", "Wed, 21 Oct 2015 07:28:00 GMT", "9" * 400, "inf", "nan"])
def test_a_retry_after_that_makes_no_sense_is_survived(
    gateway: Gateway, upstream: FakeUpstream, value: str
) -> None:
    upstream.serve(deepseek.refuses(503, deepseek.BUSY, {"Retry-After": value}), deepseek.answers())
    with gateway.ask() as call:
        assert read_stream(call.reply()).text == "Hello"
    upstream.serve(deepseek.refuses(503, deepseek.BUSY, {"Retry-After": value}))
    with gateway.ask() as call:
        reply = call.reply()
        read_error(reply, 503, "server_error")
    assert int(reply.headers["retry-after"]) >= 1


@both_forms
def test_refused_connections_are_tried_again(gateway: Gateway, upstream: FakeUpstream, stream: bool) -> None:
    with upstream.refusing(), gateway.ask(stream=stream) as call:
        started = time.monotonic()
        error = read_error(call.reply(), 502, "server_error")
    assert time.monotonic() - started > 0.04, "it did not try again"
    assert "connect" in error["message"].lower() or "reach" in error["message"].lower()
    with gateway.ask(stream=stream) as call:
        assert call.reply().status == 200


def test_a_client_mistake_never_reaches_the_upstream(gateway: Gateway, upstream: FakeUpstream) -> None:
    for _ in range(20):
        with gateway.ask(temperature="hot") as call:
            read_error(call.reply(), 400, "invalid_type", "temperature")
    assert upstream.requests == []
    assert upstream.connections == 0


def test_a_client_mistake_does_not_count_against_the_upstream(
    gateway: Gateway, upstream: FakeUpstream
) -> None:
    refusals = [deepseek.refuses(400, deepseek.INVALID)] * 20
    upstream.serve(*refusals, deepseek.answers())
    for _ in refusals:
        with gateway.ask() as call:
            read_error(call.reply(), 400, "invalid_request_error")
    with gateway.ask() as call:
        assert read_stream(call.reply()).text == "Hello"
    assert len(upstream.requests) == 21


def test_the_upstreams_sentence_about_the_request_is_passed_on(
    gateway: Gateway, upstream: FakeUpstream
) -> None:
    upstream.serve(deepseek.refuses(400, deepseek.INVALID))
    with gateway.ask() as call:
        error = read_error(call.reply(), 400, "invalid_request_error")
    assert "valid range of temperature is [0, 2]" in error["message"]


def test_one_slow_failure_does_not_hold_up_others(gateway: Gateway, upstream: FakeUpstream) -> None:
    upstream.serve(deepseek.refuses(503, deepseek.BUSY), deepseek.answers())
    with gateway.ask() as slow:
        upstream.wait_until(lambda: upstream.requests)
        with gateway.ask() as quick:
            assert read_stream(quick.reply()).text == "Hello"
        assert slow.reply().status == 200
