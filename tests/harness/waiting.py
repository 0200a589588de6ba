"""Waits for what other threads and processes bring about."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def wait_for(condition: Callable[[], T], seconds: float = 20, every: float = 0.02) -> T:
    """What `condition` returns, as soon as that is true; an AssertionError after `seconds`."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"it did not come about in {seconds} seconds"
        time.sleep(every)
    return found
