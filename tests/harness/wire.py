"""What a fault handler holds in its hands: one parsed request and the raw connection it came on.

Writes exactly the bytes it is told, when it is told. Refuses to know what a right answer is;
`harness.deepseek` has the shapes of DeepSeek's bytes.
"""

from __future__ import annotations

import json
import select
import socket
import struct
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any


class Stopped(Exception):
    """The test is over; a handler that is still asleep ends."""


@dataclass(frozen=True)
class Request:
    """One request as it came in. Header names are in lower case; `connection` counts from 1."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    connection: int
    at: float

    def json(self) -> Any:
        return json.loads(self.body)


class Wire:
    """The server's side of one request. `sent` holds every write with its monotonic time.

    A handler that ends its answer (`end`, `respond`) leaves the connection open for the next request;
    after any other handler the connection is closed.
    """

    def __init__(self, connection: socket.socket, stopping: threading.Event) -> None:
        self._socket = connection
        self._stopping = stopping
        self.answered = False
        self.sent: list[tuple[float, bytes]] = []

    def send(self, data: bytes) -> None:
        """Writes bytes as they are, in one system call where the kernel takes them."""
        self.sent.append((time.monotonic(), data))
        self._socket.sendall(data)

    def head(self, status: int = 200, headers: Mapping[str, str] | None = None) -> None:
        lines = [f"HTTP/1.1 {status} Status", *(f"{n}: {v}" for n, v in (headers or {}).items())]
        self.send("\r\n".join([*lines, "", ""]).encode("latin-1"))

    def start_stream(self, headers: Mapping[str, str] | None = None) -> None:
        """The head of a chunked event stream, as DeepSeek sends it."""
        fixed = {"Content-Type": "text/event-stream; charset=utf-8", "Transfer-Encoding": "chunked"}
        self.head(200, {**fixed, **(headers or {})})

    def chunk(self, data: bytes) -> None:
        """One HTTP chunk."""
        self.send(b"%x\r\n%b\r\n" % (len(data), data))

    def end(self) -> None:
        """The last HTTP chunk."""
        self.answered = True
        self.send(b"0\r\n\r\n")

    def respond(self, status: int, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        """A whole answer with its length, JSON unless `headers` say otherwise."""
        fixed = {"Content-Type": "application/json", "Content-Length": str(len(body))}
        self.answered = True
        self.head(status, {**fixed, **(headers or {})})
        self.send(body)

    def reset(self) -> None:
        """Ends the connection with RST, which the peer sees as an error at once."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def close(self) -> None:
        """Ends the connection with FIN."""
        self.answered = False
        self._socket.close()

    def sleep(self, seconds: float) -> None:
        if self._stopping.wait(seconds):
            raise Stopped

    def wait_closed(self, timeout: float) -> float | None:
        """The monotonic time at which the peer closed its side; None when it did not within `timeout`."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            if self._stopping.is_set():
                raise Stopped
            readable, _, _ = select.select([self._socket], [], [], 0.01)
            if readable and self._at_end():
                return time.monotonic()
        return None

    def _at_end(self) -> bool:
        try:
            extra = self._socket.recv(1)
        except OSError:  # RST instead of FIN
            return True
        if extra:
            raise AssertionError("more bytes came in before the answer was out")
        return True


Handler = Callable[[Request, Wire], None]


def read_request(connection: socket.socket, number: int) -> Request | None:
    """The next request of a connection, None at its end. Bodies need a Content-Length; nothing is pipelined.

    No buffered file around the socket: it would keep the connection open after `Wire.close`.
    """
    received = b""
    while b"\r\n\r\n" not in received:
        if not (more := connection.recv(65536)):
            return None
        received += more
    head, _, body = received.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    method, path, _ = first.split(" ", 2)
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    if "transfer-encoding" in headers:
        raise AssertionError("DeepSeek's edge wants a Content-Length, this request is chunked")
    length = int(headers.get("content-length", 0))
    pieces = [body]
    missing = length - len(body)
    while missing > 0:
        if not (more := connection.recv(min(missing, 1 << 20))):
            return None
        pieces.append(more)
        missing -= len(more)
    return Request(method, path, headers, b"".join(pieces), number, time.monotonic())
