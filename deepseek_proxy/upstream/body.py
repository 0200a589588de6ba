"""The bytes of an upstream answer, as they arrive.

`iter_content` and `iter_lines` of requests hold bytes back until a block is full or a body has ended,
and wait where nobody can look after the client. A `Body` waits for the socket itself, a tick at a time,
and returns whatever has arrived.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, Protocol

import requests
import urllib3
from urllib3.util.ssltransport import SSLTransport

from deepseek_proxy.errors import ProxyError, UpstreamTruncated
from deepseek_proxy.upstream.framing import framing
from deepseek_proxy.upstream.readiness import TICK_SECONDS, readiness

Socket = socket.socket | SSLTransport

RECEIVE_BYTES = 16 * 1024
MAX_DRAIN_READS = 8


class Body(Protocol):
    @property
    def arrived(self) -> bool:
        """Whether `read()` has something already, without asking the network."""

    def read(self) -> bytes | None:
        """What has arrived; None after a silent tick, `b""` at the end of the body.

        Raises `UpstreamTruncated` when the connection ends before the body does.
        """

    def close(self, *, drain: bool = False) -> None:
        """Gives the connection back if the body was read to its end, else closes it.

        `drain` reads on for a tick at most: the end of the framing often comes a moment after the answer's.
        """


def body_of(response: requests.Response) -> Body:
    """The body of a response that was requested with `stream=True`."""
    raw = response.raw
    sock = _socket_of(raw)
    encoded = response.headers.get("Content-Encoding", "identity").lower() not in ("", "identity")
    return BufferedBody(raw) if sock is None or encoded else SocketBody(raw, sock)


class SocketBody:
    """Receives from the connection's own socket: one wait and one receive for all that has arrived."""

    __slots__ = ("_discard", "_framing", "_keep", "_readiness", "_received", "_sock", "_tls_pending")

    _sock: Any  # a `Socket`; what their `recv` returns has different types

    def __init__(self, raw: Any, sock: Socket) -> None:
        self._sock = sock
        self._received = _buffered(raw, sock)  # arrived together with the header
        self._framing = framing(raw.headers.get("Transfer-Encoding"), raw.headers.get("Content-Length"))
        self._readiness = readiness(sock)
        self._tls_pending = _pending_of(sock)
        if self._tls_pending:
            # Readable may mean half a record, or none for us: the rest is waited for, for a tick at a time.
            # urllib3 sets its own timeout again when it uses the connection again.
            sock.settimeout(TICK_SECONDS)
        self._keep, self._discard = _detach(raw)

    @property
    def arrived(self) -> bool:
        return bool(self._received)

    def read(self) -> bytes | None:
        if received := self._received:
            self._received = b""
        elif self._framing.ended:
            self._framing.eof()
            return b""
        else:
            # A TLS record that was received whole may be read in parts: the socket is silent then.
            if not (self._tls_pending and self._tls_pending()) and not self._readiness.wait():
                return None
            try:
                received = self._sock.recv(RECEIVE_BYTES) or b""  # SSLTransport has 0 for the end
            except TimeoutError:
                return None
            except OSError as error:
                raise UpstreamTruncated(f"The connection to the upstream broke: {error}") from None
            if not received:
                self._framing.eof()
                return b""
        content = self._framing.feed(received)
        # Framing alone (the end of a chunk) is a sign of life, but there is nothing to pass on.
        return content or (b"" if self._framing.ended else None)

    def close(self, *, drain: bool = False) -> None:
        if drain:
            with suppress(ProxyError):  # the answer was whole without it
                for _ in range(MAX_DRAIN_READS):
                    if not self.read():
                        break
        self._readiness.close()
        if self._framing.reusable:
            self._keep()
        else:
            self._discard()


class BufferedBody:
    """Reads through urllib3, which undoes a content encoding nobody asked for; waits inside."""

    __slots__ = ("_raw",)

    arrived = False

    def __init__(self, raw: Any) -> None:
        self._raw = raw

    def read(self) -> bytes | None:
        try:
            data: bytes = self._raw.read1(RECEIVE_BYTES, decode_content=True)
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise UpstreamTruncated(f"The connection to the upstream broke: {error}") from None
        return data

    def close(self, *, drain: bool = False) -> None:
        self._raw.close()


def _reader_of(raw: Any) -> Any:
    """The buffered reader below urllib3 and http.client; None where there is no network below."""
    return getattr(getattr(raw, "_fp", None), "fp", None)


def _socket_of(raw: Any) -> Socket | None:
    sock = getattr(getattr(_reader_of(raw), "raw", None), "_sock", None)
    return sock if isinstance(sock, socket.socket | SSLTransport) else None


def _detach(raw: Any) -> tuple[Callable[[], object], Callable[[], object]]:
    """Lets go of a response whose socket is read by us: how to keep its connection, and how to end it.

    urllib3's response, the one of http.client inside, and their headers and buffers are some 5 KB, which a
    stream would hold until its end.
    """
    connection, reader = raw.connection, raw._fp
    if connection is None or connection.sock is None:  # the response alone has the socket
        return raw.release_conn, raw.close
    raw._connection = None  # its end is not the connection's
    reader.close()
    reader.headers = reader.msg = None  # the connection remembers its last response
    return partial(raw._pool._put_conn, connection), connection.close


def _pending_of(sock: Socket) -> Callable[[], object] | None:
    """A question to ask before waiting: has TLS received what it has not handed out? None without TLS."""
    if isinstance(sock, SSLTransport):  # TLS to the upstream, inside TLS to a proxy
        outer: Any = sock.socket
        return lambda: sock.sslobj.pending() or sock.incoming.pending or outer.pending()
    return getattr(sock, "pending", None)


def _buffered(raw: Any, sock: Socket) -> bytes:
    """Takes out what the reader received beyond the header, without waiting for more."""
    reader = _reader_of(raw)
    timeout = sock.gettimeout()
    sock.settimeout(0)
    try:
        waiting: bytes = reader.peek()
        return reader.read1(len(waiting)) if waiting else b""
    except OSError:  # nothing there (TLS says so with an exception of its own)
        return b""
    finally:
        sock.settimeout(timeout)
