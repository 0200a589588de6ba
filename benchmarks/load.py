"""The load generator: many streams on one thread, read as they come, counted by the clocks in their tokens.

Speaks as much HTTP/1.1 as an event stream needs, and looks at the bytes instead of parsing events, so that
it is not what is measured. An answer is good if its status was 200, all of its tokens came, and it ended the
way a good one ends. Reads a `Plan` as JSON from standard input, writes a `Result` to standard output.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import gc
import json
import re
import select
import socket
import sys
import time
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field

from deepseek_proxy.upstream.framing import Chunked


@dataclass(frozen=True, slots=True)
class Plan:
    """`head` stands before a token's clock in the answer, `last` in the last event of a good one."""

    port: int
    path: str
    body: str
    head: str
    last: str
    streams: int
    requests: int
    tokens: int
    ramp_seconds: float
    limit_seconds: float


@dataclass(slots=True)
class Result:
    """What good answers there were, and in `errors`, by reason, how many were not. Times are in seconds.

    `latency` is from a token's clock to its arrival; `first_token` from a request to its first token.
    """

    good: int = 0
    tokens: int = 0
    wall_seconds: float = 0
    cpu_seconds: float = 0
    latency: dict[str, float] = field(default_factory=dict)
    first_token: dict[str, float] = field(default_factory=dict)
    errors: dict[str, int] = field(default_factory=dict)


class Stream:
    """One connection. `out` is the part of the request that is not yet sent."""

    __slots__ = (
        "began",
        "body",
        "first",
        "good_end",
        "header",
        "out",
        "requests_left",
        "rest",
        "sock",
        "tokens",
    )

    def __init__(self, requests: int) -> None:
        self.sock = socket.socket()
        self.requests_left = requests
        self.reset(b"")

    def reset(self, request: bytes) -> None:
        self.out = memoryview(request)
        self.began = time.monotonic_ns()
        self.first = 0
        self.tokens = 0
        self.header = b""
        self.body: Chunked | None = None  # none before the header is whole
        self.rest = b""  # an event that is not whole
        self.good_end = False


class Load:
    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._find = re.compile(re.escape(plan.head.encode()) + rb"(\d{16})").findall
        self._last = plan.last.encode()
        body = plan.body.encode()
        self._request = (
            f"POST {plan.path} HTTP/1.1\r\nHost: 127.0.0.1:{plan.port}\r\nContent-Type: application/json\r\n"
            f"Authorization: Bearer sk-benchmark\r\nContent-Length: {len(body)}\r\n\r\n"
        ).encode() + body
        self._epoll = select.epoll()
        self._open: dict[int, Stream] = {}
        self._latency = array("q")
        self._first_token = array("q")
        self._result = Result()

    def run(self) -> Result:
        plan, result = self._plan, self._result
        began, used = time.monotonic_ns(), time.process_time()
        ends = began + int(plan.limit_seconds * 1e9)
        step = plan.ramp_seconds * 1e9 / plan.streams
        starts = collections.deque(began + int(step * number) for number in range(plan.streams))
        while self._open or starts:
            now = time.monotonic_ns()
            if now > ends:
                break
            while starts and starts[0] <= now:
                starts.popleft()
                self._connect()
            wait = (starts[0] - now) / 1e9 if starts else 0.5
            for descriptor, event in self._epoll.poll(wait):
                stream = self._open[descriptor]
                if event & select.EPOLLOUT:
                    self._send(stream)
                else:
                    self._receive(stream)
        result.wall_seconds = (time.monotonic_ns() - began) / 1e9
        result.cpu_seconds = time.process_time() - used
        for stream in list(self._open.values()):
            self._drop(stream, "not done in time")
        result.latency, result.first_token = _percentiles(self._latency), _percentiles(self._first_token)
        return result

    def _connect(self) -> None:
        stream = Stream(self._plan.requests)
        stream.sock.setblocking(False)
        stream.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        stream.sock.connect_ex(("127.0.0.1", self._plan.port))
        stream.reset(self._request)
        self._open[stream.sock.fileno()] = stream
        self._epoll.register(stream.sock, select.EPOLLOUT)

    def _send(self, stream: Stream) -> None:
        try:
            stream.out = stream.out[stream.sock.send(stream.out) :]
        except BlockingIOError:
            return
        except OSError as error:
            self._drop(stream, type(error).__name__)
            return
        if not stream.out:
            self._epoll.modify(stream.sock, select.EPOLLIN)

    def _receive(self, stream: Stream) -> None:
        try:
            received = stream.sock.recv(1 << 18)
        except BlockingIOError:
            return
        except OSError as error:
            self._drop(stream, type(error).__name__)
            return
        now = time.monotonic_ns()
        if not received:
            self._drop(stream, "cut" if stream.body else "closed")
            return
        if stream.body is None:
            stream.header += received
            header, found, received = stream.header.partition(b"\r\n\r\n")
            if not found:
                return
            if header[9:12] != b"200":
                self._drop(stream, f"status {header[9:12].decode('latin-1')}")
                return
            stream.body = Chunked()
        data = stream.rest + stream.body.feed(received)
        whole = data.rfind(b"\n\n") + 2 if b"\n\n" in data else 0
        stream.rest = data[whole:]
        if stamps := self._find(data, 0, whole):
            if not stream.first:
                stream.first = now
            stream.tokens += len(stamps)
            self._latency.extend([now - int(stamp) for stamp in stamps])
        if self._last in data:
            stream.good_end = True
        if stream.body.ended:
            self._finish(stream)

    def _finish(self, stream: Stream) -> None:
        result = self._result
        if not stream.good_end:
            return self._drop(stream, "failed")
        if stream.tokens != self._plan.tokens:
            return self._drop(stream, "tokens are missing")
        result.good += 1
        result.tokens += stream.tokens
        self._first_token.append(stream.first - stream.began)
        stream.requests_left -= 1
        if stream.requests_left:
            stream.reset(self._request)
            self._epoll.modify(stream.sock, select.EPOLLOUT)
        else:
            self._close(stream)
        return None

    def _drop(self, stream: Stream, reason: str) -> None:
        self._result.errors[reason] = self._result.errors.get(reason, 0) + stream.requests_left
        self._close(stream)

    def _close(self, stream: Stream) -> None:
        del self._open[stream.sock.fileno()]
        with contextlib.suppress(OSError):
            self._epoll.unregister(stream.sock)
        stream.sock.close()


def _percentiles(nanoseconds: Sequence[int]) -> dict[str, float]:
    ordered = sorted(nanoseconds)
    if not ordered:
        return {}
    return {f"p{share}": ordered[(len(ordered) - 1) * share // 100] / 1e9 for share in (50, 95, 99)}


def main() -> None:
    plan = Plan(**json.load(sys.stdin))
    gc.freeze()
    gc.disable()
    json.dump(dataclasses.asdict(Load(plan).run()), sys.stdout)


if __name__ == "__main__":
    main()
