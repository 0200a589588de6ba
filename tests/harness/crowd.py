"""Thousands of requests: an upstream that misbehaves on purpose and users who come and go, in one event loop.

Fast rather than complete: both speak just enough HTTP. The upstream knows accounts by their keys and counts
what each has under way; a request that the gateway has let go of (its connection is closed) is not under way.
Refuses to know the gateway's inside.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import time
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from harness import deepseek

_BEGINNING: Final = b"".join(
    b"%x\r\n%b\r\n" % (len(frame), frame) for frame in (deepseek.opening(), deepseek.text("Hel"))
)
_REST: Final = (
    b"".join(
        b"%x\r\n%b\r\n" % (len(frame), frame)
        for frame in (deepseek.text("lo"), deepseek.last(), deepseek.DONE)
    )
    + b"0\r\n\r\n"
)
_STREAM_HEAD: Final = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
)


@dataclass(frozen=True)
class Faults:
    """Shares of requests that each strikes. `refused`: accounts that answer a status after so many."""

    rate_limit: float = 0.003
    server: float = 0.02
    cut: float = 0.015
    drop: float = 0.005
    refused: Mapping[str, tuple[int, int]] = field(default_factory=dict)


class Upstream:
    """Listens on `port`. `most` is the greatest number that an account had under way at any moment."""

    def __init__(self, faults: Faults, seconds: tuple[float, float]) -> None:
        self.faults = faults
        self.seconds = seconds
        self.port = 0
        self.asked: Counter[str] = Counter()
        self.answered: Counter[str] = Counter()
        self.most: Counter[str] = Counter()
        self.under_way: defaultdict[str, set[_Connection]] = defaultdict(set)
        self.connections: set[asyncio.Transport] = set()
        self.dice = random.Random(1)
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Connection(self), "127.0.0.1", 0, backlog=1024)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        for connection in list(self.connections):
            connection.abort()
        while self.connections:
            await asyncio.sleep(0.01)

    def begins(self, connection: _Connection, account: str) -> None:
        self.asked[account] += 1
        here = self.under_way[account]
        here -= {other for other in here if other.is_left()}
        here.add(connection)
        self.most[account] = max(self.most[account], len(here))


class _Connection(asyncio.Protocol):
    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self._received = b""
        self._transport: Any = None
        self._account = ""

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._upstream.connections.add(transport)

    def connection_lost(self, _: Exception | None) -> None:
        self._upstream.connections.discard(self._transport)
        self._ends()

    def is_left(self) -> bool:
        """Whether the gateway has closed the connection, though the loop may not know yet."""
        sock = self._transport.get_extra_info("socket")
        if sock is None or self._transport.is_closing():
            return True
        try:
            return not socket.socket.recv(sock._sock, 1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError:
            return True

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, found, body = self._received.partition(b"\r\n\r\n")
        if not found or len(body) < int(_header(head, b"content-length") or 0):
            return
        self._received = b""
        self._account = _header(head, b"authorization").removeprefix(b"Bearer sk-").decode()
        self._upstream.begins(self, self._account)
        self._answer()

    def _answer(self) -> None:
        upstream, account = self._upstream, self._account
        first, status = upstream.faults.refused.get(account, (0, 0))
        if status and upstream.asked[account] > first:
            self._refuse(status, deepseek.NO_BALANCE if status == 402 else deepseek.BAD_KEY)
            return
        faults, luck = upstream.faults, upstream.dice.random()
        for share, strike in (
            (faults.rate_limit, lambda: self._refuse(429, deepseek.TOO_MANY)),
            (faults.server, lambda: self._refuse(503, deepseek.BUSY)),
            (faults.drop, self._close),
        ):
            if luck < share:
                strike()
                return
            luck -= share
        self._transport.write(_STREAM_HEAD + _BEGINNING)
        strike = self._close if luck < faults.cut else self._end
        asyncio.get_running_loop().call_later(upstream.dice.uniform(*upstream.seconds), strike)

    def _refuse(self, status: int, body: bytes) -> None:
        self._ends()
        self._transport.write(
            b"HTTP/1.1 %d No\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
            % (status, len(body), body)
        )

    def _end(self) -> None:
        if not self._transport.is_closing():
            self._upstream.answered[self._account] += 1
            self._ends()  # first: the next may come as soon as this is out
            self._transport.write(_REST)

    def _close(self) -> None:
        self._ends()
        self._transport.close()

    def _ends(self) -> None:
        self._upstream.under_way[self._account].discard(self)


def _header(head: bytes, name: bytes) -> bytes:
    for line in head.split(b"\r\n")[1:]:
        key, _, value = line.partition(b":")
        if key.lower() == name:
            return value.strip()
    return b""


@dataclass
class Crowd:
    """Users of the gateway at `port`, `users` at once, `requests` in all; a share of them leaves early.

    `outcomes` counts how requests ended: `answered`, `left`, `failed` (told inside the stream), the HTTP
    status of a refusal, or `broken` (the connection was lost). `longest` is the longest wait, in seconds.
    """

    port: int
    requests: int
    users: int
    leaving: float = 0.04
    outcomes: Counter[str] = field(default_factory=Counter)
    longest: float = 0
    begun: int = 0

    async def come(self) -> None:
        await asyncio.gather(*(self._user(random.Random(number)) for number in range(self.users)))

    async def _user(self, dice: random.Random) -> None:
        connection: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        while self.begun < self.requests:
            self.begun += 1
            began = time.monotonic()
            leaves = dice.random() < self.leaving
            try:
                if connection is None:
                    connection = await asyncio.open_connection("127.0.0.1", self.port)
                outcome = await self._ask(*connection, dice, leaves=leaves)
            except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
                outcome = "broken"
            self.outcomes[outcome] += 1
            self.longest = max(self.longest, time.monotonic() - began)
            if outcome in ("left", "broken", "failed") and connection is not None:
                connection[1].close()
                with contextlib.suppress(OSError):
                    await connection[1].wait_closed()
                connection = None
        if connection is not None:
            connection[1].close()
            with contextlib.suppress(OSError):
                await connection[1].wait_closed()

    async def _ask(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, dice: random.Random, *, leaves: bool
    ) -> str:
        talk = dice.randrange(10_000)
        body = (
            b'{"model":"deepseek-chat","stream":true,"messages":[{"role":"user","content":"talk %d"}]}' % talk
        )
        writer.write(
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
            b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
        )
        if leaves and dice.random() < 0.5:
            await asyncio.sleep(dice.random() * 0.05)
            return "left"
        head = await reader.readuntil(b"\r\n\r\n")
        status = head.split(b" ", 2)[1].decode()
        if status != "200":
            await reader.readexactly(int(_header(head, b"content-length") or 0))
            return status
        if leaves:
            return "left"
        text = b""
        while size := int(await reader.readuntil(b"\r\n"), 16):
            text += (await reader.readexactly(size + 2))[:-2]
        await reader.readuntil(b"\r\n")
        return "answered" if text.endswith(b"data: [DONE]\n\n") and b'"error"' not in text else "failed"
