"""Those of this process who wait for an account: woken one by one, in the order in which they came.

The ledger keeps the order; this only saves asking it all the time. What is given back in this process wakes
the first who waits for it. What is given back elsewhere nobody here is told of: the first in line
looks often, the others now and then. Refuses to know the ledger.
"""

from __future__ import annotations

import bisect
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Final

from deepseek_proxy.store.ledger.base import Ticket

FIRST_LOOKS_SECONDS: Final = 0.05
OTHERS_LOOK_SECONDS: Final = 2.0


class Waiter:
    """One who waits with its ticket."""

    __slots__ = ("_event", "_room", "ticket")

    def __init__(self, ticket: Ticket, room: WaitingRoom) -> None:
        self.ticket = ticket
        self._room = room
        self._event = threading.Event()

    def wake(self) -> None:
        self._event.set()

    def wait(self, seconds: float) -> None:
        """Waits to be woken, for `seconds` at most; who is first in line only until it is time to look."""
        look = FIRST_LOOKS_SECONDS if self._room.is_first(self) else OTHERS_LOOK_SECONDS
        self._event.wait(min(seconds, look))
        self._event.clear()


class WaitingRoom:
    """One for each process. Safe between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lines: dict[str, list[Waiter]] = {}  # by name, in the order of the tickets

    @contextmanager
    def joined(self, ticket: Ticket) -> Iterator[Waiter]:
        """Waits inside this block; whoever is next is woken at its end."""
        waiter = Waiter(ticket, self)
        with self._lock:
            for name in ticket.names:
                bisect.insort(self._lines.setdefault(name, []), waiter, key=_number)
        try:
            yield waiter
        finally:
            with self._lock:
                for name in ticket.names:
                    self._lines[name].remove(waiter)
                    if not self._lines[name]:
                        del self._lines[name]
            self.wake(ticket.names)

    def wake(self, names: Iterable[str]) -> None:
        """Wakes the first who waits for each of the names."""
        with self._lock:
            first = {line[0] for name in names if (line := self._lines.get(name))}
        for waiter in first:
            waiter.wake()

    def is_first(self, waiter: Waiter) -> bool:
        with self._lock:
            return any(self._lines[name][0] is waiter for name in waiter.ticket.names)


def _number(waiter: Waiter) -> int:
    return waiter.ticket.number
