"""One WebSocket, on the socket of the HTTP request that asked for it: messages in, messages out.

1. One thread (or greenlet) uses a channel; it alone reads and writes. What arrives is taken in while it waits
   for a message (`wait`), and now and then while it has something else to do (`is_gone`).
2. What waits to be read is bounded: one message by `max_bytes`, after decompression, and several together by
   little more. A client that sends more is held back by TCP.
3. Messages may come compressed. No window is kept from one to the next, so that an idle channel holds no
   memory for it. What is sent is not compressed: compressing each token alone gains nothing, and a window
   that outlives them costs 300 KB.
4. Outside of a read, the socket's timeout is that of a write.

The opening handshake and the frames of the client are read by the library `websockets`, whose core does no
I/O. Refuses to know what a message means, and which server it runs under. RFC 6455, RFC 7692.
"""

from __future__ import annotations

import logging
import os
import socket
import ssl
import struct
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any, Final

from websockets.datastructures import Headers
from websockets.extensions.permessage_deflate import ServerPerMessageDeflateFactory
from websockets.frames import CloseCode, Frame, Opcode
from websockets.http11 import Request
from websockets.protocol import State
from websockets.server import ServerProtocol

from deepseek_proxy.api.streaming import ClientGone
from deepseek_proxy.errors import InvalidRequest

LOOK_SECONDS: Final = 0.3
"""How often what arrives is looked at while messages go out."""
CLOSE_SECONDS: Final = 1.0
"""How long the client may take to answer the closing."""

_SWITCHING_PROTOCOLS: Final = 101
_RECEIVE_BYTES: Final = 16 * 1024  # a thread holds as much while it waits; unpacked, it is 16 MB at most
_MAX_WAITING_BYTES: Final = 1024 * 1024
_MESSAGE_OVERHEAD_BYTES: Final = 128
_HANDSHAKE_HEADERS: Final = (
    "Connection",
    "Upgrade",
    "Sec-WebSocket-Key",
    "Sec-WebSocket-Version",
    "Sec-WebSocket-Extensions",
)
_DEFLATE: Final = ServerPerMessageDeflateFactory(
    server_no_context_takeover=True, client_no_context_takeover=True
)
_TEXT: Final = 0x80 | Opcode.TEXT  # the whole message in one frame
_medium, _long = struct.Struct("!BBH").pack, struct.Struct("!BBQ").pack


def accept(
    sock: Any,
    header: Callable[[str], str | None],
    max_bytes: int,
    stall_seconds: float,
    told: Mapping[str, str],
) -> Channel:
    """Answers the upgrade request, whose headers `header` gives by name; `told` are headers of the answer.

    `max_bytes` is the size of the largest message, `stall_seconds` how long one write may take. Raises
    `InvalidRequest` for what is no handshake, `ClientGone` where nobody waits for the answer.
    """
    # Open from the start: in another state, it would read the upgrade request, too.
    protocol = ServerProtocol(
        extensions=(_DEFLATE,), state=State.OPEN, max_size=max_bytes, logger=_silent_logger()
    )
    sent = Headers({name: value for name in _HANDSHAKE_HEADERS if (value := header(name))})
    answer = protocol.accept(Request("/", sent))
    if answer.status_code != _SWITCHING_PROTOCOLS:
        raise InvalidRequest(f"This is no WebSocket handshake: {protocol.handshake_exc}.")
    answer.headers.update(told)
    opened = Channel(sock, protocol, stall_seconds)
    opened.write(answer.serialize())
    return opened


class Channel:
    """An open WebSocket."""

    def __init__(self, sock: Any, protocol: ServerProtocol, stall_seconds: float) -> None:
        self._sock = sock
        self._protocol = protocol
        self._stall_seconds = stall_seconds
        self._waiting: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._begun: bytearray | None = None  # a message of which further fragments are to come
        self._next_look = 0.0
        self._woken = False
        with suppress(OSError):  # not of TCP
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.settimeout(stall_seconds)

    @property
    def is_open(self) -> bool:
        """Whether messages can be sent: neither side has begun to close."""
        return self._protocol.state is State.OPEN

    @property
    def close_code(self) -> int:
        """With which code it was closed, by whoever did so first; 1006 where the connection just ended."""
        protocol = self._protocol
        first = protocol.close_rcvd if protocol.close_rcvd_then_sent else protocol.close_sent
        return first.code if first is not None else CloseCode.ABNORMAL_CLOSURE

    def wait(self, until: float) -> bool:
        """Waits for a message. False when there is none by `until` (monotonic clock), or at a `wake`.

        Raises `ClientGone` once the channel is closed.
        """
        while not self._waiting:
            if not self.is_open:
                raise ClientGone
            remaining = until - time.monotonic()
            if self._woken or remaining <= 0:
                return False
            self._pull(remaining)
        return True

    def take(self) -> bytes:
        """The next message, for which `wait` has waited."""
        message = self._waiting.popleft()
        self._waiting_bytes -= len(message) + _MESSAGE_OVERHEAD_BYTES
        return message

    def is_gone(self) -> bool:
        """Takes in what has arrived, without waiting. Whether the client has left, or says that it will."""
        if self.is_open and self._waiting_bytes < _MAX_WAITING_BYTES:
            self._pull(0)
        return not self.is_open

    def send(self, messages: Iterable[bytes]) -> None:
        """Sends texts, all in one write. Raises `ClientGone` where nobody takes them."""
        now = time.monotonic()
        if now >= self._next_look:
            self._next_look = now + LOOK_SECONDS
            self.is_gone()
        if not self.is_open:
            raise ClientGone
        self.write(b"".join(map(_text_frame, messages)))

    def ping(self) -> None:
        """A sign of life, also for what stands between. Whether it is answered does not matter: a client may
        answer only when it reads, and TCP notices the dead. Raises `ClientGone`."""
        if self.is_open:
            self._protocol.send_ping(b"")
            self._flush()

    def wake(self) -> None:
        """Ends a `wait`, and all that would follow. For signal handlers and other threads."""
        self._woken = True
        # By a socket object of its own: that of a TLS connection loses its keys when it is shut down.
        with suppress(OSError), socket.socket(fileno=os.dup(self._sock.fileno())) as same:
            same.shutdown(socket.SHUT_RD)

    def close(self, code: CloseCode, reason: str) -> None:
        """Ends the connection, with a proper end where the client is still there. `reason` has at most 123
        bytes."""
        with suppress(ClientGone):
            if self.is_open:
                self._protocol.send_close(code, reason)
                self._flush()
            # A connection that is cut with something unread takes back what was sent last.
            until = time.monotonic() + CLOSE_SECONDS
            while self._protocol.close_rcvd is None and self._protocol.state is not State.CLOSED:
                self._waiting.clear()
                remaining = until - time.monotonic()
                if remaining <= 0 or self._woken:
                    break
                self._pull(remaining)
        with suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)

    # -- inside -----------------------------------------------------------------------------------

    def _pull(self, seconds: float) -> None:
        """Takes in what arrives within `seconds`."""
        received = self._received(seconds)
        if received is None or (not received and self._woken):
            return
        if received:
            self._protocol.receive_data(received)
        else:
            self._protocol.receive_eof()
        for event in self._protocol.events_received():
            if isinstance(event, Frame):
                self._take(event)
        with suppress(ClientGone):
            self._flush()  # answers to pings, and to the closing

    def _received(self, seconds: float) -> bytes | None:
        """What is there within `seconds`; None for nothing, b"" for the end of the connection."""
        try:
            self._sock.settimeout(seconds)
            received: bytes = self._sock.recv(_RECEIVE_BYTES)
            return received
        except (TimeoutError, BlockingIOError, ssl.SSLWantReadError):
            return None
        except OSError:
            return b""
        finally:
            with suppress(OSError):
                self._sock.settimeout(self._stall_seconds)

    def _take(self, frame: Frame) -> None:
        if frame.opcode is Opcode.BINARY:
            self._protocol.fail(CloseCode.UNSUPPORTED_DATA, "Messages are sent as text.")
        elif frame.opcode is Opcode.TEXT and frame.fin:
            self._keep(bytes(frame.data))
        elif frame.opcode is Opcode.TEXT:
            self._begun = bytearray(frame.data)
        elif frame.opcode is Opcode.CONT and self._begun is not None:
            self._begun += frame.data
            if frame.fin:
                self._keep(bytes(self._begun))
                self._begun = None

    def _keep(self, message: bytes) -> None:
        self._waiting.append(message)
        self._waiting_bytes += len(message) + _MESSAGE_OVERHEAD_BYTES

    def _flush(self) -> None:
        """Sends what the protocol has to say."""
        for data in self._protocol.data_to_send():
            if data:
                self.write(data)
            else:  # the protocol's word for: nothing comes after this
                with suppress(OSError):
                    self._sock.shutdown(socket.SHUT_WR)

    def write(self, data: bytes) -> None:
        """Sends bytes as they are. Raises `ClientGone`."""
        try:
            self._sock.sendall(data)
        except OSError:
            self._protocol.receive_eof()
            raise ClientGone from None


def _text_frame(text: bytes) -> bytes:
    """RFC 6455, section 5.2; the library takes seven times as long, which would count for each token."""
    size = len(text)
    if size < 126:
        return bytes((_TEXT, size)) + text
    return (_medium(_TEXT, 126, size) if size < 65536 else _long(_TEXT, 127, size)) + text


def _silent_logger() -> logging.Logger:
    """The library logs every frame at its debug level, prompts and all: its logger leads nowhere."""
    return logging.Logger("websockets", logging.CRITICAL + 1)
