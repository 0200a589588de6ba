"""Waiting for a socket to become readable, a tick at a time, under gevent and under threads alike.

The one module here that knows gevent, and only where it has patched the process. A wait costs no timer:
under threads the kernel counts the time, under gevent one slow timer per stream ticks for all its waits.
"""

from __future__ import annotations

import select
import sys
from typing import Any, Protocol

TICK_SECONDS = 0.3
"""How long a silent wait lasts. Under gevent the first one after some news lasts up to two ticks: so late,
at most, a client's leaving is noticed, and that has to be within a second."""


class Socket(Protocol):
    def fileno(self) -> int: ...


class Readiness(Protocol):
    def wait(self) -> bool:
        """Returns True once the socket is readable (or at its end), False after a silent tick."""

    def close(self) -> None:
        """Lets go of the socket; it is not closed."""


def readiness(sock: Socket) -> Readiness:
    """The way to wait for `sock` in this process."""
    monkey: Any = sys.modules.get("gevent.monkey")
    if monkey is not None and monkey.is_module_patched("socket"):
        return _GreenReadiness(sock)
    return _PollReadiness(sock)


def is_silent(sock: Socket) -> bool:
    """Whether nothing has arrived: an idle connection that has something to say is being closed.

    The kernel answers at once; gevent's own `poll` would set up a watcher, and go through its loop, to ask.
    """
    monkey: Any = sys.modules.get("gevent.monkey")
    poll = (monkey.get_original("select", "poll") if monkey is not None else select.poll)()
    poll.register(sock, select.POLLIN)
    return not poll.poll(0)


class _PollReadiness:
    __slots__ = ("_poll",)

    def __init__(self, sock: Socket) -> None:
        self._poll = select.poll()
        self._poll.register(sock, select.POLLIN)

    def wait(self) -> bool:
        return bool(self._poll.poll(TICK_SECONDS * 1000))

    def close(self) -> None:
        pass


class _GreenReadiness:
    """One read watcher and one ticking timer for the life of a stream; a wait only starts the watcher."""

    __slots__ = ("_busy", "_hub", "_io", "_timer", "_waiter")

    def __init__(self, sock: Socket) -> None:
        import gevent

        self._hub = gevent.get_hub()
        self._io = self._hub.loop.io(sock.fileno(), 1)
        self._waiter: Any = None  # the greenlet inside wait()
        self._busy = True  # something arrived since the last tick
        self._timer = self._hub.loop.timer(TICK_SECONDS, TICK_SECONDS)
        self._timer.start(self._tick)

    def wait(self) -> bool:
        import gevent

        self._waiter = gevent.getcurrent()
        self._io.start(self._waiter.switch, True)
        try:
            # Nothing else switches to this greenlet while it waits, but a kill, which raises here.
            readable: bool = self._hub.switch()
        finally:
            self._io.stop()
            self._waiter = None
        self._busy = readable
        return readable

    def _tick(self) -> None:
        if self._busy:
            self._busy = False
        elif self._waiter is not None:
            self._waiter.switch(False)

    def close(self) -> None:
        for watcher in (self._io, self._timer):
            watcher.stop()
            watcher.close()
