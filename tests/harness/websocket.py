"""A WebSocket client on a raw socket, for tests that look at frames, times and bad manners.

Opens a connection at `/v1/responses`, or on a socket that it is given; sends messages, and reads them one by
one with the time at which each had arrived. Frames are left to the library `websockets`, without its I/O.
Refuses to know what a message means.
"""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from harness.client import TIMEOUT_SECONDS
from websockets.client import ClientProtocol
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory
from websockets.frames import Frame, Opcode
from websockets.http11 import Request, Response
from websockets.protocol import State
from websockets.uri import parse_uri

TERMINAL: Final = ("response.completed", "response.failed", "response.incomplete")


class Refused(Exception):
    """The upgrade was answered with another status than 101."""

    def __init__(self, response: Response) -> None:
        super().__init__(f"{response.status_code} {bytes(response.body or b'')!r}")
        self.status = response.status_code
        self.headers = response.headers
        self.body = bytes(response.body or b"")

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Message:
    at: float
    raw: bytes

    @property
    def event(self) -> dict[str, Any]:
        parsed: dict[str, Any] = json.loads(self.raw)
        return parsed


class WebSocket:
    """An open connection. Leaving the `with` block cuts it."""

    def __init__(
        self,
        port: int,
        path: str = "/v1/responses",
        headers: Mapping[str, str] | None = None,
        *,
        deflate: bool = False,
        sock: socket.socket | None = None,
    ) -> None:
        extensions = [ClientPerMessageDeflateFactory()] if deflate else None
        uri = parse_uri(f"ws://127.0.0.1:{port}{path}")
        self.protocol = ClientProtocol(uri, extensions=extensions, max_size=None)
        self.socket = sock or socket.create_connection(("127.0.0.1", port), TIMEOUT_SECONDS)
        self.socket.settimeout(TIMEOUT_SECONDS)
        self.messages: deque[Message] = deque()
        self.pings: list[float] = []
        request: Request = self.protocol.connect()
        request.headers.update(headers or {})
        self.protocol.send_request(request)
        self._flush()
        while self.protocol.state is State.CONNECTING and self.protocol.handshake_exc is None:
            self._receive()
        if self.protocol.handshake_exc is not None:
            self.socket.close()
            assert self.response is not None, self.protocol.handshake_exc
            raise Refused(self.response)

    def __enter__(self) -> WebSocket:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    response: Response | None = None
    """The answer to the upgrade."""

    # -- sending

    def create(self, **fields: Any) -> None:
        """Asks for a response."""
        self.send({"type": "response.create", "model": "deepseek-flash", "store": False, **fields})

    def send(self, message: Any) -> None:
        text = message if isinstance(message, bytes) else json.dumps(message).encode()
        self.protocol.send_text(text)
        self._flush()

    def send_raw(self, data: bytes) -> None:
        self.socket.sendall(data)

    def close(self, code: int = 1000) -> None:
        """Says that it will go."""
        self.protocol.send_close(code)
        self._flush()

    def leave(self, *, abruptly: bool = False) -> float:
        """Cuts the connection without a word; returns the time."""
        if abruptly:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()
        return time.monotonic()

    # -- receiving

    def receive(self) -> Message:
        """The next message. `EOFError` at the end of the connection."""
        while not self.messages:
            self._receive()
        return self.messages.popleft()

    def event(self) -> dict[str, Any]:
        return self.receive().event

    def answer(self) -> list[dict[str, Any]]:
        """The events up to the last one of an answer, or the error message in its place."""
        events = [self.event()]
        while events[-1]["type"] not in TERMINAL and "status" not in events[-1]:
            events.append(self.event())
        return events

    def ask(self, **fields: Any) -> list[dict[str, Any]]:
        self.create(**fields)
        return self.answer()

    def closed(self) -> tuple[int, str]:
        """Waits for the end of the connection, whatever comes before it: the code and the reason."""
        try:
            while True:
                self._receive()
        except EOFError:
            self.protocol.receive_eof()
        return self.protocol.close_code or 0, self.protocol.close_reason or ""

    def _receive(self) -> None:
        data = self.socket.recv(1 << 16)
        if not data:
            raise EOFError
        self.protocol.receive_data(data)
        now = time.monotonic()
        for event in self.protocol.events_received():
            if isinstance(event, Response):
                self.response = event
            elif isinstance(event, Frame):
                self._take(event, now)
        with contextlib.suppress(OSError):  # a pong, or the answer to a goodbye, that nobody waits for
            self._flush()

    def _take(self, frame: Frame, now: float) -> None:
        if frame.opcode is Opcode.TEXT:
            assert frame.fin, "a message in pieces"
            self.messages.append(Message(now, bytes(frame.data)))
        elif frame.opcode is Opcode.PING:
            self.pings.append(now)

    def _flush(self) -> None:
        for data in self.protocol.data_to_send():
            if data:
                self.socket.sendall(data)
