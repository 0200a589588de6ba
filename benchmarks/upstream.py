"""A fake DeepSeek that costs little: one process, one thread, prepared bytes, a clock in every token.

Answers each POST with a chunked event stream in DeepSeek's shape, whatever it says. A token's text is `~` and
the monotonic clock in nanoseconds, 16 digits, read just before the token is written.
`PUT /?tokens=&gap_ns=&per_write=` says how later answers are: so many tokens, one every so often, or so many
at once as fast as they are taken. Refuses to look into a request beyond its length. Writes its port to
standard output when it listens.
"""

from __future__ import annotations

import collections
import contextlib
import ctypes
import gc
import heapq
import itertools
import random
import select
import socket
import sys
import time
import urllib.parse
from typing import Final

_CHUNK: Final = (
    '{"id":"7c1d2f5e-0b1a-4c4e-9d8e-3f1f5d0a9b11","object":"chat.completion.chunk","created":1795000000,'
    '"model":"deepseek-flash","system_fingerprint":"fp_benchmark","choices":[{"index":0,"delta":%s,'
    '"logprobs":null,"finish_reason":%s}],"usage":%s}'
)
_USAGE: Final = (
    '{"prompt_tokens":9,"completion_tokens":9,"total_tokens":18,"prompt_cache_hit_tokens":0,'
    '"prompt_cache_miss_tokens":9}'
)
_HEAD: Final = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n"
)
IDLE: Final = -1
JITTER: Final = 0.2
"""The share by which a gap is longer or shorter, so that the streams do not fall into step."""
_CLOSE_ENOUGH_NS: Final = 1_000_000
_PR_SET_TIMERSLACK: Final = 29


def _http_chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def _event(delta: str, finish: str = "null", usage: str = "null") -> bytes:
    return _http_chunk(b"data: " + (_CHUNK % (delta, finish, usage)).encode() + b"\n\n")


_OPENING: Final = _HEAD + _event('{"role":"assistant","content":""}')
_BEFORE_STAMP, _AFTER_STAMP = _event('{"content":"~0000000000000000"}').split(b"0000000000000000")
_CLOSING: Final = (
    _event('{"content":""}', '"stop"', _USAGE) + _http_chunk(b"data: [DONE]\n\n") + _http_chunk(b"")
)


class Connection:
    """One client's connection: what is still to be read of a request, and to be written of an answer."""

    __slots__ = ("body_left", "ending", "header", "sock", "target", "tokens_left", "unsent", "watched")

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.header = b""
        self.target = b""  # of a PUT
        self.body_left = 0
        self.tokens_left = IDLE
        self.ending = False  # the last bytes of the answer have been composed
        self.unsent = b""
        self.watched = select.EPOLLIN

    def takes(self, received: bytes) -> bool:
        """Whether `received` completes a request."""
        if self.body_left:
            self.body_left -= len(received)
            return self.body_left == 0
        self.header += received
        header, found, body = self.header.partition(b"\r\n\r\n")
        if not found:
            return False
        self.header = b""
        _, _, length = header.lower().partition(b"\r\ncontent-length:")
        self.body_left = int(length.split(b"\r\n")[0] or 0) - len(body)
        self.target = header.split(b" ", 2)[1] if header.startswith(b"PUT ") else b""
        return self.body_left == 0


class Upstream:
    def __init__(self) -> None:
        self._tokens, self._gap_ns, self._per_write = 1, 0, 1
        self._epoll = select.epoll()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
        self._listener.setblocking(False)
        self._epoll.register(self._listener, select.EPOLLIN)
        self.port: int = self._listener.getsockname()[1]
        self._connections: dict[int, Connection] = {}
        self._due: list[tuple[float, int, Connection]] = []  # paced answers: when, a number that breaks ties
        self._numbers = itertools.count()
        self._eager: collections.deque[Connection] = collections.deque()  # answers that may write now

    def run(self) -> None:
        while True:
            for descriptor, event in self._epoll.poll(self._idle_seconds()):
                if descriptor == self._listener.fileno():
                    self._accept()
                elif (connection := self._connections.get(descriptor)) is not None:
                    self._serve(connection, event)
            for _ in range(len(self._eager)):
                self._advance(self._eager.popleft())
            now = time.monotonic_ns()
            while self._due and self._due[0][0] <= now:
                self._advance(heapq.heappop(self._due)[2])

    def _idle_seconds(self) -> float | None:
        """How long to wait for the sockets. The last millisecond is slept: poll is too coarse."""
        if self._eager:
            return 0
        if not self._due:
            return None
        left = self._due[0][0] - time.monotonic_ns()
        if left > _CLOSE_ENOUGH_NS:
            return (left - _CLOSE_ENOUGH_NS) // 1_000_000 / 1000
        if left > 0:
            time.sleep(left / 1e9)
        return 0

    def _accept(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                sock, _ = self._listener.accept()
                sock.setblocking(False)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._connections[sock.fileno()] = Connection(sock)
                self._epoll.register(sock, select.EPOLLIN)

    def _serve(self, connection: Connection, event: int) -> None:
        if event & select.EPOLLOUT:
            self._watch(connection, select.EPOLLIN)
            self._advance(connection)
            return
        try:
            received = connection.sock.recv(1 << 20)
        except BlockingIOError:
            return
        except OSError:
            received = b""
        if not received:
            self._forget(connection)
        elif not connection.takes(received):
            pass
        elif connection.target:
            self._configure(connection.target)
            connection.sock.send(b"HTTP/1.1 204 No Content\r\n\r\n")
        else:
            connection.tokens_left = self._tokens
            connection.unsent = _OPENING
            self._advance(connection)

    def _configure(self, target: bytes) -> None:
        chosen = urllib.parse.parse_qs(target.partition(b"?")[2])
        names = (b"tokens", b"gap_ns", b"per_write")
        self._tokens, self._gap_ns, self._per_write = (int(chosen[name][0]) for name in names)

    def _advance(self, connection: Connection) -> None:
        """Writes the next piece of an answer, and sees to it that the one after it gets its turn."""
        if connection.tokens_left == IDLE:
            return
        data, tokens = connection.unsent, 0
        if not data:
            tokens = min(self._per_write, connection.tokens_left)
            if tokens:
                data = (_BEFORE_STAMP + b"%016d" % time.monotonic_ns() + _AFTER_STAMP) * tokens
            else:
                data, connection.ending = _CLOSING, True
        try:
            sent = connection.sock.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._forget(connection)
            return
        connection.tokens_left -= tokens
        connection.unsent = data[sent:]
        if connection.unsent:
            self._watch(connection, select.EPOLLIN | select.EPOLLOUT)
        elif connection.ending:
            connection.tokens_left, connection.ending = IDLE, False
        elif self._gap_ns and connection.tokens_left:
            gap = self._gap_ns * (1 - JITTER + 2 * JITTER * random.random())
            heapq.heappush(self._due, (time.monotonic_ns() + gap, next(self._numbers), connection))
        else:
            self._eager.append(connection)

    def _watch(self, connection: Connection, events: int) -> None:
        if connection.watched != events:
            connection.watched = events
            self._epoll.modify(connection.sock, events)

    def _forget(self, connection: Connection) -> None:
        connection.tokens_left = IDLE
        del self._connections[connection.sock.fileno()]
        self._epoll.unregister(connection.sock)
        connection.sock.close()


def main() -> None:
    # A sleep may last 50 µs too long by default, which would bunch the tokens of different streams.
    ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, 1, 0, 0, 0)
    upstream = Upstream()
    print(upstream.port, flush=True)
    gc.freeze()
    gc.disable()
    try:
        upstream.run()
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
