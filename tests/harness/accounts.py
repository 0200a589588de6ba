"""Several accounts at one fake DeepSeek: what each was asked, and how many requests it had at once.

A request counts from its arrival to the end of its handler, or until its connection is closed from the other
side, whichever comes first: what the gateway has let go of does not count against it. Refuses to know the
gateway.
"""

from __future__ import annotations

import select
import socket
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from harness import deepseek
from harness.wire import Handler, Request, Wire


def account(name: str, **more: Any) -> dict[str, Any]:
    """The settings of the account whose key is `sk-<name>`."""
    return {"name": name, "api_key": f"sk-{name}", **more}


class Accounts:
    """A handler for `FakeUpstream.serve`. `handlers` says what an account does; others behave well."""

    def __init__(self, handlers: Mapping[str, Handler] | None = None) -> None:
        self.handlers: dict[str, Handler] = dict(handlers or {})
        self.asked: Counter[str] = Counter()
        self.most: Counter[str] = Counter()
        self.order: list[str] = []
        self._lock = threading.Lock()
        self._open: defaultdict[str, list[socket.socket]] = defaultdict(list)

    def __call__(self, request: Request, wire: Wire) -> None:
        name = request.headers["authorization"].removeprefix("Bearer sk-")
        connection = wire._socket
        with self._lock:
            self.asked[name] += 1
            self.order.append(name)
            here = self._open[name]
            here[:] = [other for other in here if not _is_left(other)]
            here.append(connection)
            self.most[name] = max(self.most[name], len(here))
        try:
            self.handlers.get(name, deepseek.answers())(
                request, Counted(wire, lambda: self._left(name, wire))
            )
        finally:
            self._left(name, wire)

    def _left(self, name: str, wire: Wire) -> None:
        with self._lock:
            if wire._socket in self._open[name]:
                self._open[name].remove(wire._socket)


class Counted:
    """A wire whose request is over before its last byte is out: the next may come as soon as that has."""

    def __init__(self, wire: Wire, ends: Callable[[], None]) -> None:
        self._wire = wire
        self._ends = ends

    def __getattr__(self, name: str) -> Any:
        return getattr(self._wire, name)

    def end(self) -> None:
        self._ends()
        self._wire.end()

    def respond(self, status: int, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        self._ends()
        self._wire.respond(status, body, headers)


def in_turns(*handlers: Handler) -> Handler:
    """The handlers one after another; the last one repeats."""
    lock, waiting = threading.Lock(), list(handlers)

    def handler(request: Request, wire: Wire) -> None:
        with lock:
            chosen = waiting.pop(0) if len(waiting) > 1 else waiting[0]
        chosen(request, wire)

    return handler


def held_until(go_on: threading.Event, frames: Sequence[bytes] = ()) -> Handler:
    """A stream that begins, and ends when it may."""

    def handler(_: Request, wire: Wire) -> None:
        wire.start_stream()
        wire.chunk(deepseek.opening())
        while not go_on.wait(0.005):
            if _is_left(wire._socket):
                return
        for frame in frames or deepseek.frames()[1:]:
            wire.chunk(frame)
        wire.end()

    return handler


def _is_left(connection: socket.socket) -> bool:
    """Whether the other side has closed the connection."""
    try:
        readable, _, _ = select.select([connection], [], [], 0)
        return bool(readable) and not connection.recv(1, socket.MSG_PEEK)
    except (OSError, ValueError):
        return True
