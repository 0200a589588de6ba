"""Runs blocking calls so that only their caller waits.

Where SQLite waits for the disk it does so inside C code, where gevent cannot switch to another stream. Under
gevent the calls of a lane are made by one thread of the operating system; under threads by the caller, one at
a time. The one module of the store that knows gevent, and only where it has patched the process.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

T = TypeVar("T")


class Lane(Protocol):
    def run(self, call: Callable[[], T]) -> T:
        """What `call` returns or raises. Calls are made one after another. `call` must not use the locks of
        `threading`, which under gevent know greenlets only."""

    def close(self) -> None: ...


def lane() -> Lane:
    """The way to make blocking calls in this process."""
    monkey: Any = sys.modules.get("gevent.monkey")
    if monkey is not None and monkey.is_module_patched("threading"):
        return _NativeLane()
    return _OwnLane()


class _OwnLane:
    def __init__(self) -> None:
        self._lock = threading.Lock()

    def run(self, call: Callable[[], T]) -> T:
        with self._lock:
            return call()

    def close(self) -> None:
        pass


class _NativeLane:
    """A caller that is killed while it waits leaves its call to run to the end: no transaction is torn."""

    def __init__(self) -> None:
        from gevent.threadpool import ThreadPool

        self._pool = ThreadPool(1)

    def run(self, call: Callable[[], T]) -> T:
        def outcome() -> tuple[T | None, BaseException | None]:
            try:
                return call(), None
            except BaseException as error:  # the pool would print it, and then raise it here as well
                return None, error

        result, error = self._pool.apply(outcome)
        if error is not None:
            raise error
        return result

    def close(self) -> None:
        self._pool.kill()
