"""Answers on their way to a client: streams, and the wait for whole answers, with an eye on the client."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import suppress
from typing import Any, Final

from flask import Request, Response

from deepseek_proxy import pipeline
from deepseek_proxy.api.exchange import Exchange
from deepseek_proxy.api.gateway import Gateway
from deepseek_proxy.api.rounds import Rounds
from deepseek_proxy.errors import InternalError
from deepseek_proxy.ops.metrics import Metrics
from deepseek_proxy.pipeline import Answer
from deepseek_proxy.upstream.call import Call

logger = logging.getLogger(__name__)

# The server's own socket of this request, as gunicorn and werkzeug's server name it. Elsewhere there is
# none, and a client's leaving shows when something is written to it.
_SOCKETS: Final = ("gunicorn.socket", "werkzeug.socket")

_STREAM_HEADERS: Final = {
    "Cache-Control": "no-cache",
    "X-Accel-Buffering": "no",  # nginx: pass every event on as it comes
}


class ClientGone(Exception):
    """Nobody is there to answer."""


def bound(request: Request, stall_seconds: float) -> None:
    """From here on, a client that neither sends its body nor takes its answer for `stall_seconds` loses its
    connection: it would hold a place here, and a call to DeepSeek, for as long as it likes."""
    sock = socket_of(request)
    if sock is not None:
        sock.settimeout(stall_seconds)


def read_no_more(request: Request) -> None:
    """Lets the connection end with this answer. Servers set the header `Connection` themselves."""
    sock = socket_of(request)
    if sock is not None:
        # A duplicate: a TLS socket that is shut down forgets its session, and goes on in plain text.
        with suppress(OSError), socket.socket(fileno=os.dup(sock.fileno())) as duplicate:
            duplicate.shutdown(socket.SHUT_RD)


def watch(request: Request) -> Callable[[], bool]:
    """A question to ask now and then: has the client closed its connection?"""
    sock = socket_of(request)
    return (lambda: _is_closed(sock)) if sock is not None else (lambda: False)


def socket_of(request: Request) -> Any:
    """The server's socket of this request; None where the server shows none."""
    environ = request.environ
    return next((environ[key] for key in _SOCKETS if key in environ), None)


def _is_closed(sock: Any) -> bool:
    timeout = sock.gettimeout()
    try:
        sock.settimeout(0)
        return not sock.recv(1, socket.MSG_PEEK)
    except (BlockingIOError, ValueError):  # nothing to read; TLS sockets cannot peek
        return False
    except OSError:
        return True
    finally:
        try:
            sock.settimeout(timeout)
        except OSError:
            pass


class Frames:
    """The frames of one answer, from the first to the terminal one. To be closed however it went."""

    __slots__ = ("_call", "_closed", "_ended", "_frames")

    def __init__(self, frames: Generator[bytes], call: Call | Rounds, ended: Callable[[], None]) -> None:
        self._frames = frames
        self._call = call
        self._ended = ended
        self._closed: Callable[[], None] = lambda: None

    def through(
        self, passing: Callable[[Generator[bytes]], Generator[bytes]], closed: Callable[[], None]
    ) -> Frames:
        """These frames, which go through `passing`; `closed` is told when no more will come."""
        self._frames = passing(self._frames)
        self._closed = closed
        return self

    def __iter__(self) -> Iterator[bytes]:
        return self._frames

    def close(self) -> None:
        self._frames.close()
        self._call.close()
        self._closed()
        self._ended()


def begin(
    gateway: Gateway,
    exchange: Exchange,
    call: Call | Rounds,
    answer: Answer,
    client_gone: Callable[[], bool],
    ended: Callable[[], None],
    *,
    at_once: bool = False,
) -> Frames:
    """The frames of `answer`, which is read from `call`.

    They begin once the upstream has begun to answer, or has kept silent for a heartbeat. Until then a failure
    is raised: it can still become a real HTTP status. `at_once` does not wait for that. At the end, also at
    that of a failure, the call is closed and `ended` is called.
    """
    try:
        if not at_once:
            _wait_for_answer(gateway, call, client_gone)
    except BaseException:
        call.close()
        ended()
        raise
    stream = pipeline.stream(answer, gateway.pace, exchange.tally, client_gone, gateway.drain)
    return Frames(_guarded(stream, call, answer, exchange, gateway.metrics), call, ended)


def respond(frames: Iterable[bytes]) -> Response:
    """A streamed response, which closes `frames` at its end, where they can be."""
    return Response(frames, mimetype="text/event-stream", headers=_STREAM_HEADERS)


def _wait_for_answer(gateway: Gateway, call: Call | Rounds, client_gone: Callable[[], bool]) -> None:
    """Waits until the upstream begins to answer, or for a heartbeat. Raises `ProxyError` or `ClientGone`."""
    until = time.monotonic() + gateway.settings.heartbeat_seconds
    while not call.wait() and time.monotonic() < until:
        check(gateway, client_gone)


def check(gateway: Gateway, client_gone: Callable[[], bool]) -> None:
    """Ends the wait for what nobody wants any more, or for which there is no time left.

    Raises `ClientGone` or `Draining`.
    """
    if client_gone():
        raise ClientGone
    gateway.drain.check()


def respond_whole(frames: bytes) -> Response:
    """A stream that is known as a whole."""
    return Response(frames, mimetype="text/event-stream", headers=_STREAM_HEADERS)


def _guarded(
    stream: Iterator[bytes], call: Call | Rounds, answer: Answer, exchange: Exchange, metrics: Metrics
) -> Generator[bytes]:
    """`stream`, ended properly also if we fail: a client must never see a stream that just stops.

    Its HTTP body ends when the upstream's has: the connection is free then for the client's next request.
    """
    with metrics.open_stream():
        try:
            yield from stream
            # An answer that failed here may go on at the upstream for as long as it likes.
            call.close(drain=answer.ended and answer.machine.error is None)
        except Exception:
            logger.exception("stream failed", extra={"request_id": exchange.id})
            yield answer.fail(
                InternalError(f"The gateway failed; its log has the reason under {exchange.id}.")
            )
        except GeneratorExit:
            exchange.tally.client_gone = True
            raise
