"""A DeepSeek that says half of an answer, "Hel", and the rest later: when the test says so, or after a time.

Refuses to know who listens.
"""

from __future__ import annotations

import threading
from typing import Final

from harness import deepseek
from harness.wire import Handler, Request, Wire

FIRST: Final = deepseek.opening() + deepseek.text("Hel")
REST: Final = deepseek.text("lo") + deepseek.last() + deepseek.DONE
SECONDS: Final = 60.0
"""So long at most does it wait for the test."""


class Halves:
    """A handler that says the rest when `curtain` is set. `left` is when those who did not wait left."""

    def __init__(self) -> None:
        self.curtain = threading.Event()
        self.left: list[float] = []

    def __call__(self, _: Request, wire: Wire) -> None:
        wire.start_stream()
        wire.chunk(FIRST)
        for _tick in range(int(SECONDS / 0.02)):
            if self.curtain.is_set():
                wire.chunk(REST)
                wire.end()
                return
            if (left := wire.wait_closed(0.02)) is not None:
                self.left.append(left)
                return


def pausing(seconds: float) -> Handler:
    """A handler that says nothing for so long in mid answer."""

    def handler(_: Request, wire: Wire) -> None:
        wire.start_stream()
        wire.chunk(FIRST)
        wire.sleep(seconds)
        wire.chunk(REST)
        wire.end()

    return handler
