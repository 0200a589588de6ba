"""The end of a process: whether it takes new work, and when its streams have to be over.

A worker that is told to stop lets its open streams run, and has the last of them end in their own words
shortly before the server would cut them: what is cut from outside can say nothing more. `Drain` is the state
of that; requests look at it, signals set it. So it works alike under gevent and under threads, without a
timer and without a lock.

Refuses to know Flask, gevent, and what a dialect's last words are. gunicorn 25 to 27, "Signal Handling".
"""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from deepseek_proxy.errors import Draining

LAST_WORDS_SECONDS: Final = 2
"""How long before a worker cuts what is left its streams end by themselves; a silent one looks every tick."""

_RETRY_AFTER_SECONDS: Final = 1
_LOOK_SECONDS: Final = 0.05


class Drain:
    """One for each application. `ends_at` is on the monotonic clock."""

    __slots__ = ("_sleepers", "begun", "ends_at", "leaving", "working")

    def __init__(self) -> None:
        self.begun = False
        self.leaving = False
        self.ends_at = math.inf
        self.working: set[object] = set()
        """Whoever is at work without an open request: the process waits for them, too."""
        self._sleepers: set[Callable[[], None]] = set()

    def begin(self, seconds: float) -> None:
        """From now on new work is refused, and in `seconds` open work ends; never later than said before.

        May be called in a signal handler.
        """
        self.ends_at = min(self.ends_at, time.monotonic() + max(0.0, seconds))
        self.begun = True
        self.leave()

    def leave(self) -> None:
        """From now on connections that could serve further requests end with the answer that is under way,
        and those without one at once.

        May be called in a signal handler.
        """
        self.leaving = True
        for wake in list(self._sleepers):
            wake()

    @contextmanager
    def waking(self, wake: Callable[[], None]) -> Iterator[None]:
        """While the block runs, `wake` is called when connections are to end. It may be a signal handler that
        calls it, and may have done so before the block looks at `leaving`."""
        self._sleepers.add(wake)
        try:
            yield
        finally:
            self._sleepers.discard(wake)

    def admit(self) -> None:
        """Raises `Draining` where new work is refused."""
        if self.begun:
            raise self.error()

    def check(self) -> None:
        """Raises `Draining` where open work has to end."""
        if time.monotonic() >= self.ends_at:
            raise self.error()

    def finish(self) -> None:
        """The process ends: waits for who is still at work, as long as there is time."""
        until = time.monotonic() if math.isinf(self.ends_at) else self.ends_at + LAST_WORDS_SECONDS / 2
        while self.working and time.monotonic() < until:
            time.sleep(_LOOK_SECONDS)

    @staticmethod
    def error() -> Draining:
        return Draining("The gateway is stopping. Send the request again.", retry_after=_RETRY_AFTER_SECONDS)


def follow_server(drain: Drain) -> None:
    """Has `drain` begin when the gunicorn worker that this process is gets the signal to stop.

    gunicorn has no hook for that, but its own handlers are in place when it loads the application: they are
    called after ours. In any other process nothing happens: `flask run` ends at once, as a laptop expects.

    `worker.server_ends`, where the worker has it (`ops.arbiter`), tells the end of the server from that of
    this worker alone, which is being replaced: that one lets running answers take their time.
    """
    worker: Any = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
    if not hasattr(worker, "cfg"):
        return
    seconds = worker.cfg.graceful_timeout - LAST_WORDS_SECONDS
    server_ends: Callable[[], bool] = getattr(worker, "server_ends", lambda: True)

    def stop() -> None:
        if server_ends():
            drain.begin(seconds)
        else:
            drain.leave()

    def stop_at_once() -> None:
        drain.begin(0)

    worker.is_busy = lambda: bool(drain.working)
    worker.cfg.set("worker_exit", lambda _server, _worker: drain.finish())
    _before_handler(signal.SIGTERM, stop)
    signal.siginterrupt(signal.SIGTERM, False)  # as gunicorn has it, and as every new handler undoes it
    for number in (signal.SIGQUIT, signal.SIGINT):
        _before_handler(number, stop_at_once)


def _before_handler(number: signal.Signals, act: Callable[[], None]) -> None:
    previous: Any = signal.getsignal(number)

    def handler(received: int, frame: Any) -> None:
        act()
        if callable(previous):
            previous(received, frame)

    signal.signal(number, handler)
