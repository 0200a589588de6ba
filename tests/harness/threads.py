"""Threads that do the same at the same time."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor


def at_once(count: int, work: Callable[[int], object]) -> None:
    """Runs `work(0)`, `work(1)`, … in threads that begin together; raises what the first of them raised."""
    beginning = threading.Barrier(count)

    def begin(number: int) -> None:
        beginning.wait()
        work(number)

    with ThreadPoolExecutor(count) as pool:
        for done in [pool.submit(begin, number) for number in range(count)]:
            done.result()
