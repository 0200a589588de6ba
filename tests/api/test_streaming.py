"""Answers on their way: the wait before the first byte, a client that leaves, and an end in every case."""

from __future__ import annotations

import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from flask import Request
from harness import deepseek
from harness.certificates import self_signed
from harness.fake_upstream import FakeUpstream
from harness.wire import Handler, Wire
from werkzeug.test import EnvironBuilder

from deepseek_proxy.api import streaming
from deepseek_proxy.api.exchange import Exchange

Make = Callable[..., Any]
"""Of `conftest`."""


# -- the client's socket --------------------------------------------------------------------------


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        far = socket.create_connection(listener.getsockname())
        near, _ = listener.accept()
    with near, far:
        yield near, far


STALL_SECONDS = 7.5


def watch(**environ: Any) -> Callable[[], bool]:
    return streaming.watch(Request({**EnvironBuilder().get_environ(), **environ}))


@pytest.mark.parametrize("name", ["gunicorn.socket", "werkzeug.socket"])
def test_a_client_is_there_until_it_leaves(pair: tuple[socket.socket, socket.socket], name: str) -> None:
    near, far = pair
    gone = watch(**{name: near})
    assert not gone()
    far.close()
    assert gone()
    assert gone()


def test_one_that_goes_on_sending_is_there(pair: tuple[socket.socket, socket.socket]) -> None:
    near, far = pair
    far.sendall(b"GET / HTTP/1.1\r\n")
    gone = watch(**{"gunicorn.socket": near})
    time.sleep(0.01)
    assert not gone()
    assert near.recv(100) == b"GET / HTTP/1.1\r\n"  # it was looked at, not taken


def test_one_that_resets_has_left(pair: tuple[socket.socket, socket.socket]) -> None:
    near, far = pair
    far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    far.close()
    assert watch(**{"gunicorn.socket": near})()


def test_so_has_one_whose_socket_the_server_closed(pair: tuple[socket.socket, socket.socket]) -> None:
    near, _ = pair
    gone = watch(**{"gunicorn.socket": near})
    near.close()
    assert gone()


def test_sending_is_bounded_and_looking_leaves_the_bound(pair: tuple[socket.socket, socket.socket]) -> None:
    near, far = pair
    environ = {**EnvironBuilder().get_environ(), "gunicorn.socket": near}
    streaming.bound(Request(environ), STALL_SECONDS)
    gone = watch(**{"gunicorn.socket": near})
    assert near.gettimeout() == STALL_SECONDS
    gone()
    assert near.gettimeout() == STALL_SECONDS
    far.close()
    gone()
    assert near.gettimeout() == STALL_SECONDS


def test_where_there_is_no_socket_nobody_leaves() -> None:
    assert not watch()()


# -- before the first byte ------------------------------------------------------------------------


def late(seconds: float, then: Handler) -> Handler:
    def handler(request: Any, wire: Wire) -> None:
        wire.sleep(seconds)
        then(request, wire)

    return handler


def test_a_stream_is_told_to_be_passed_on_as_it_comes(make: Make) -> None:
    face = make()
    response = face.ask(stream=True)
    assert (response.status_code, response.mimetype) == (200, "text/event-stream")
    assert response.headers["Cache-Control"] == "no-cache"
    assert response.headers["X-Accel-Buffering"] == "no"
    assert [event["type"] for event in face.events(response)][-1] == "response.completed"


def test_a_failure_before_the_first_byte_is_a_status(make: Make, upstream: FakeUpstream) -> None:
    upstream.serve(late(0.2, deepseek.refuses(402, deepseek.NO_BALANCE)))
    response = make(heartbeat_seconds=5).ask(stream=True)
    assert response.status_code == 429
    assert response.json["error"]["code"] == "insufficient_quota"


def test_silence_for_a_heartbeat_begins_the_stream(make: Make, upstream: FakeUpstream) -> None:
    upstream.serve(late(1, deepseek.answers()))
    face = make(heartbeat_seconds=0.2)
    started = time.monotonic()
    response = face.ask(stream=True)
    assert response.status_code == 200
    assert time.monotonic() - started < 0.9
    frames = response.get_data(as_text=True).split("\n\n")
    assert frames[0].startswith("event: response.created\n")
    assert ": keep-alive" in frames
    assert frames[-2] == "data: [DONE]"
    response.close()
    assert face.lines()[0]["heartbeats"] >= 1


def test_a_failure_after_that_is_told_in_the_stream(make: Make, upstream: FakeUpstream) -> None:
    upstream.serve(late(0.6, deepseek.refuses(402, deepseek.NO_BALANCE)))
    face = make(heartbeat_seconds=0.2)
    response = face.ask(stream=True)
    assert response.status_code == 200
    assert face.events(response)[-1]["type"] == "response.failed"
    assert face.events(response)[-1]["response"]["error"]["code"] == "insufficient_quota"
    response.close()
    assert face.lines()[0]["error_code"] == "insufficient_quota"


@pytest.mark.parametrize("stream", [True, False])
def test_the_gateways_own_end_ends_the_wait(make: Make, upstream: FakeUpstream, stream: bool) -> None:
    upstream.serve(lambda _, wire: wire.wait_closed(10))
    face = make()
    face.gateway.drain.ends_at = time.monotonic() + 0.2
    response = face.ask(stream=stream)
    assert (response.status_code, response.json["error"]["code"]) == (503, "server_error")
    assert "stopping" in response.json["error"]["message"]


# -- leaving --------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [True, False])
def test_who_leaves_before_the_first_byte_lets_the_upstream_go(
    make: Make, upstream: FakeUpstream, pair: tuple[socket.socket, socket.socket], stream: bool
) -> None:
    left: list[float | None] = []
    upstream.serve(lambda _, wire: left.append(wire.wait_closed(10)))
    near, far = pair
    far.close()
    face = make()
    response = face.finish(face.ask(stream=stream, environ={"gunicorn.socket": near}))
    assert response.status_code == 499
    upstream.wait_until(lambda: left and left[0])
    (line,) = face.lines()
    assert (line["status"], line["client_gone"], "error_code" in line) == (499, True, False)
    assert face.metric('client_departures_total{dialect="responses"}') == 1
    assert face.metric('upstream_errors_total{kind="upstream_unreachable"}') == 0


def opening_then_silence(left: list[float | None]) -> Handler:
    def handler(_: Any, wire: Wire) -> None:
        wire.start_stream()
        wire.chunk(deepseek.opening() + deepseek.text("Hel"))
        left.append(wire.wait_closed(10))

    return handler


def test_so_does_who_leaves_while_the_upstream_is_silent(
    make: Make, upstream: FakeUpstream, pair: tuple[socket.socket, socket.socket]
) -> None:
    left: list[float | None] = []
    upstream.serve(opening_then_silence(left))
    near, far = pair
    face = make()
    response = face.ask(stream=True, environ={"gunicorn.socket": near})
    far.close()
    assert "response.completed" not in response.get_data(as_text=True)
    response.close()
    upstream.wait_until(lambda: left and left[0])
    (line,) = face.lines()
    assert (line["status"], line["client_gone"]) == (200, True)


def test_so_does_who_leaves_while_something_is_sent(make: Make, upstream: FakeUpstream) -> None:
    """A server that fails to write closes the response where it stands."""
    left: list[float | None] = []
    upstream.serve(opening_then_silence(left))
    face = make()
    response = face.ask(stream=True)
    assert b"response.created" in next(response.iter_encoded())
    response.close()
    upstream.wait_until(lambda: left and left[0])
    assert face.lines()[0]["client_gone"] is True
    assert face.metric("open_streams") == 0


def test_the_next_call_takes_the_connection_of_a_stream_that_ended(
    make: Make, upstream: FakeUpstream
) -> None:
    def late_end(_: Any, wire: Wire) -> None:
        wire.start_stream()
        wire.chunk(b"".join(deepseek.frames()))
        wire.sleep(0.05)
        wire.end()

    upstream.serve(late_end)
    face = make()
    for _ in range(3):
        face.finish(face.ask(stream=True))
    assert (len(upstream.requests), upstream.connections) == (3, 1)


# -- our own failures -----------------------------------------------------------------------------


def test_a_bug_in_mid_stream_is_a_proper_end(face: Any, caplog: pytest.LogCaptureFixture) -> None:
    class Broken:
        """An answer that begins well."""

        machine = SimpleNamespace(start=lambda: b"start\n\n", finish_reason=None, error=None)
        clocks = None
        ended = arrived = False

        def poll(self) -> bytes:
            raise KeyError("the canary")

        def fail(self, error: Exception) -> bytes:
            return f"failed: {error}\n\n".encode()

    closed: list[bool] = []
    call = SimpleNamespace(wait=lambda: True, close=lambda *, drain=False: closed.append(drain))
    exchange = Exchange(Request(EnvironBuilder().get_environ()))
    ended: list[bool] = []
    frames = streaming.begin(
        face.gateway,
        exchange,
        call,  # type: ignore[arg-type]
        Broken(),  # type: ignore[arg-type]
        lambda: False,
        lambda: ended.append(True),
    )
    sent = b"".join(frames)
    assert not ended
    frames.close()
    assert ended == [True]
    assert (
        sent
        == f"start\n\nfailed: The gateway failed; its log has the reason under {exchange.id}.\n\n".encode()
    )
    assert b"canary" not in sent
    assert closed == [False]
    assert face.metric("open_streams") == 0
    assert caplog.messages == ["stream failed"]


def test_a_bug_before_the_first_byte_closes_the_call(face: Any) -> None:
    def broken() -> bool:
        raise KeyError

    seen: list[str] = []
    call = SimpleNamespace(wait=broken, close=lambda: seen.append("closed"))
    exchange = Exchange(Request(EnvironBuilder().get_environ()))
    with pytest.raises(KeyError):
        streaming.begin(
            face.gateway,
            exchange,
            call,  # type: ignore[arg-type]
            None,  # type: ignore[arg-type]
            lambda: False,
            lambda: seen.append("ended"),
        )
    assert seen == ["closed", "ended"]


def test_a_stream_that_is_known_as_a_whole() -> None:
    response = streaming.respond_whole(b"event: x\n\n")
    assert (response.mimetype, response.data) == ("text/event-stream", b"event: x\n\n")
    assert response.headers["X-Accel-Buffering"] == "no"


def test_an_answer_over_tls_stays_secret_when_no_more_is_read(tmp_path: Path) -> None:
    """A socket of Python's that is shut down itself sends what follows in plain text."""
    trusted, context = self_signed(tmp_path, "server")
    near, far = socket.socketpair()
    with near, far:
        served: list[Any] = []

        def serve() -> None:
            with context.wrap_socket(near, server_side=True) as sock:
                served.append(sock.recv(10))
                environ = {**EnvironBuilder().get_environ(), "gunicorn.socket": sock}
                streaming.read_no_more(Request(environ))
                sock.sendall(b"the answer")

        server = threading.Thread(target=serve)
        server.start()
        client = ssl.create_default_context(cafile=trusted)
        with client.wrap_socket(far, server_hostname="127.0.0.1") as sock:
            sock.sendall(b"request")
            assert sock.recv(100) == b"the answer"
        server.join()
        assert served == [b"request"]
