"""A client on a raw socket that sees what a real one sees, with the time at which it saw it.

Speaks just enough HTTP/1.1 to post JSON and to read chunked, sized and close-delimited answers; parses
SSE strictly (LF, whole frames) because some clients in the field do no better. Refuses to know the meaning
of an event; `harness.responses_grammar` judges that.
"""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

TIMEOUT_SECONDS: Final = 20


@dataclass(frozen=True)
class Piece:
    """What arrived together: one HTTP chunk, or one receive where the answer is not chunked."""

    at: float
    data: bytes


@dataclass(frozen=True)
class Frame:
    """One SSE frame without its blank line. `at` is when its last byte had arrived."""

    at: float
    raw: str

    @property
    def is_comment(self) -> bool:
        return self.raw.startswith(":")

    @property
    def is_done(self) -> bool:
        return self.raw == "data: [DONE]"

    @cached_property
    def event(self) -> dict[str, Any]:
        """The event. Its frame is exactly an `event:` line and a `data:` line that agree on the type."""
        first, second = self.raw.split("\n")
        assert first.startswith("event: "), f"no event name in {self.raw!r}"
        assert second.startswith("data: "), f"no data in {self.raw!r}"
        parsed: dict[str, Any] = json.loads(second[6:])
        assert parsed["type"] == first[7:], f"event name and type differ in {self.raw!r}"
        return parsed


class Reply:
    """One answer: status and headers at once, the body as it comes. Header names are in lower case.

    `seen` holds the pieces of the body that have been read.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._received = b""
        self.seen: list[Piece] = []
        head = self._until(b"\r\n\r\n").decode("latin-1")
        self.at = time.monotonic()
        first, *lines = head.split("\r\n")
        self.status = int(first.split(" ")[1])
        pairs = (line.partition(":") for line in lines)
        self.headers = {name.lower(): value.strip() for name, _, value in pairs}

    def pieces(self) -> Iterator[Piece]:
        """The body, piece by piece. A body that is cut is an AssertionError."""
        for data in self._body():
            self.seen.append(Piece(time.monotonic(), data))
            yield self.seen[-1]

    def frames(self) -> Iterator[Frame]:
        """SSE frames, comments included. Anything after the last blank line is an AssertionError."""
        rest = b""
        for piece in self.pieces():
            *complete, rest = (rest + piece.data).split(b"\n\n")
            for raw in complete:
                yield Frame(piece.at, raw.decode())
        assert not rest, f"the stream ended inside a frame: {rest[-200:]!r}"

    @cached_property
    def body(self) -> bytes:
        return b"".join(piece.data for piece in self.pieces())

    def json(self) -> Any:
        return json.loads(self.body)

    def _body(self) -> Iterator[bytes]:
        if "chunked" in self.headers.get("transfer-encoding", ""):
            yield from self._chunks()
        elif "content-length" in self.headers:
            missing = int(self.headers["content-length"])
            while missing > 0:
                data = self._some()
                assert data, "the connection ended inside the body"
                missing -= len(data)
                yield data
        else:
            while data := self._some():
                yield data

    def _chunks(self) -> Iterator[bytes]:
        while size := int(self._until(b"\r\n"), 16):
            while len(self._received) < size + 2:
                self._receive()
            data, self._received = self._received[:size], self._received[size + 2 :]
            yield data
        assert self._until(b"\r\n") == b""

    def _until(self, mark: bytes) -> bytes:
        while mark not in self._received:
            self._receive()
        found, _, self._received = self._received.partition(mark)
        return found

    def _receive(self) -> None:
        data = self._socket.recv(1 << 16)
        assert data, "the connection ended inside the answer"
        self._received += data

    def _some(self) -> bytes:
        data, self._received = self._received, b""
        return data or self._socket.recv(1 << 16)


class Call:
    """One request on a connection of its own. Leaving the `with` block closes the connection."""

    def __init__(
        self,
        port: int,
        method: str,
        path: str,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), TIMEOUT_SECONDS)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        fields = {"Host": f"127.0.0.1:{port}", **(headers or {})}
        if "Transfer-Encoding" not in fields:
            fields["Content-Length"] = str(len(body))
        lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
        self.at = time.monotonic()
        # A server may answer before it has read the whole body, and close.
        with contextlib.suppress(ConnectionError):
            self._socket.sendall("\r\n".join([*lines, "", ""]).encode("latin-1") + body)

    def __enter__(self) -> Call:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def reply(self) -> Reply:
        """Waits for the head of the answer."""
        return Reply(self._socket)

    def leave(self, *, abruptly: bool = False) -> float:
        """Closes the connection as a client does that gave up, with RST if `abruptly`; returns the time."""
        if abruptly:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()
        return time.monotonic()
