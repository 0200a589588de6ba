"""The fake upstream does to a connection what a handler says, and counts."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import pytest
import requests
from harness import deepseek
from harness.client import Call
from harness.fake_upstream import FakeUpstream
from harness.wire import Request, Wire


@pytest.fixture
def upstream() -> Iterator[FakeUpstream]:
    server = FakeUpstream()
    yield server
    server.close()
    assert server.failures == []


def post(upstream: FakeUpstream, body: bytes = b"{}") -> Call:
    return Call(upstream.port, "POST", "/chat/completions", body)


def test_the_handler_sees_the_request(upstream: FakeUpstream) -> None:
    upstream.serve(deepseek.answers())
    with Call(upstream.port, "POST", "/chat/completions", b'{"stream": false}', {"X-Test": "1"}) as call:
        assert call.reply().json()["choices"][0]["message"]["content"] == "Hello"
    (request,) = upstream.requests
    assert (request.method, request.path, request.headers["x-test"]) == ("POST", "/chat/completions", "1")
    assert request.json() == {"stream": False}


def test_each_request_takes_the_next_handler_and_the_last_one_repeats(upstream: FakeUpstream) -> None:
    upstream.serve(deepseek.refuses(429, deepseek.TOO_MANY), deepseek.answers())
    with requests.Session() as session:
        statuses = [session.post(upstream.url, json={}).status_code for _ in range(3)]
    assert statuses == [429, 200, 200]
    assert (len(upstream.requests), upstream.connections) == (3, 1)


def test_chunks_leave_when_they_are_written(upstream: FakeUpstream) -> None:
    def slow(_: Request, wire: Wire) -> None:
        wire.start_stream()
        for _number in range(3):
            wire.chunk(deepseek.KEEP_ALIVE)
            wire.sleep(0.05)
        sent.extend(at for at, _ in wire.sent[1:4])  # before the client can see the end
        wire.end()

    sent: list[float] = []
    upstream.serve(slow)
    with post(upstream) as call:
        arrived = [frame.at for frame in call.reply().frames()]
    assert len(arrived) == 3
    assert all(0 <= got - gone < 0.045 for gone, got in zip(sent, arrived, strict=True))


def test_an_answer_without_end_closes_the_connection(upstream: FakeUpstream) -> None:
    def cut(_: Request, wire: Wire) -> None:
        wire.start_stream()
        wire.chunk(deepseek.text("Hel"))

    upstream.serve(cut)
    with post(upstream) as call, pytest.raises(AssertionError, match="ended inside the answer"):
        call.reply().json()


def test_reset_is_an_error_for_the_peer(upstream: FakeUpstream) -> None:
    upstream.serve(lambda _, wire: wire.reset())
    with post(upstream) as call, pytest.raises(ConnectionResetError):
        call.reply()


@pytest.mark.parametrize("abruptly", [False, True])
def test_wait_closed_tells_when_the_peer_left(upstream: FakeUpstream, abruptly: bool) -> None:
    def watch(_: Request, wire: Wire) -> None:
        wire.start_stream()
        closed.append(wire.wait_closed(5))

    closed: list[float | None] = []
    upstream.serve(watch)
    with post(upstream) as call:
        call.reply()
        time.sleep(0.05)
        left = call.leave(abruptly=abruptly)
    upstream.wait_until(lambda: closed)
    assert closed[0] is not None
    assert abs(closed[0] - left) < 0.1


def test_wait_closed_gives_up(upstream: FakeUpstream) -> None:
    def watch(_: Request, wire: Wire) -> None:
        closed.append(wire.wait_closed(0.05))
        wire.respond(200, b"{}")

    closed: list[float | None] = []
    upstream.serve(watch)
    with post(upstream) as call:
        assert call.reply().json() == {}
    assert closed == [None]


def test_refusing_keeps_the_port_and_refuses(upstream: FakeUpstream) -> None:
    upstream.serve(deepseek.answers())
    with upstream.refusing(), pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", upstream.port))
    with post(upstream) as call:
        assert call.reply().status == 200


def test_hang_up_closes_idle_connections_only(upstream: FakeUpstream) -> None:
    upstream.serve(deepseek.answers())
    with post(upstream) as call:
        assert call.reply().json()
        upstream.wait_until(lambda: upstream.idle_connections == 1)
        upstream.hang_up()
        with pytest.raises(AssertionError, match="ended inside the answer"):
            call.reply()


def test_what_a_handler_raises_is_kept() -> None:
    def broken(_: Request, __: Wire) -> None:
        raise ValueError("broken handler")

    upstream = FakeUpstream()
    upstream.serve(broken)
    with post(upstream) as call, pytest.raises(AssertionError):
        call.reply()
    upstream.close()
    assert [str(failure) for failure in upstream.failures] == ["broken handler"]


def test_close_ends_a_handler_that_sleeps() -> None:
    upstream = FakeUpstream()
    upstream.serve(lambda _, wire: wire.sleep(60))
    with post(upstream):
        upstream.wait_until(lambda: upstream.requests)
        started = time.monotonic()
        upstream.close()
    assert time.monotonic() - started < 1
