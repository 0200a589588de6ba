"""Those of this process who wait for an account: woken one by one, in the order in which they came.

The ledger keeps the order; this only saves asking it all the time. What is given back in this process has the
first who waits for it look. What is given back elsewhere nobody here is told of: the first in line looks
often, the others now and then. Refuses to know the ledger.
"""

from __future__ import annotations

import bisect
import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Final

from deepseek_proxy.store.ledger.base import Ticket

FIRST_LOOKS_SECONDS: Final = 0.02
OTHERS_LOOK_SECONDS: Final = 2.0


class Waiter:
    """One who waits with its ticket. `is_served` is to be set when it has got what it waits for."""

    __slots__ = ("_event", "_room", "has_looked", "is_due", "is_served", "ticket")

    def __init__(self, ticket: Ticket, room: WaitingRoom) -> None:
        self.ticket = ticket
        self.is_due = False  # something was given back for it to take
        self.has_looked = False  # of itself, when it looked last
        self.is_served = False
        self._room = room
        self._event = threading.Event()

    def wake(self) -> None:
        """Ends the wait that is under way, or the next one."""
        self._event.set()

    def wait(self, seconds: float) -> bool:
        """Waits for `seconds` at most. Returns whether it is time to look.

        It is when something was given back, and now and then; not when somebody has become first in line.
        """
        look = FIRST_LOOKS_SECONDS if self._room.is_first(self) else OTHERS_LOOK_SECONDS
        woken = self._event.wait(min(seconds, look))
        self._event.clear()
        due = self._room.take_turn(self)
        self.has_looked = not due
        return due or not woken


class WaitingRoom:
    """One for each process. Safe between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lines: dict[str, list[Waiter]] = {}  # by name, in the order of the tickets
        self._left_over: Counter[str] = Counter()  # given back while the first was about to look already

    @contextmanager
    def joined(self, ticket: Ticket) -> Iterator[Waiter]:
        """Waits inside this block; whoever is next is told at its end."""
        waiter = Waiter(ticket, self)
        with self._lock:
            for name in ticket.names:
                bisect.insort(self._lines.setdefault(name, []), waiter, key=_number)
        try:
            yield waiter
        finally:
            with self._lock:
                next_ones = self._leave(waiter)
            for one in next_ones:
                one.wake()

    def wake(self, names: Iterable[str]) -> None:
        """A place was given back for each of the names: the first who waits for it looks."""
        with self._lock:
            first = {name: line[0] for name in names if (line := self._lines.get(name))}
            self._left_over.update(name for name, waiter in first.items() if waiter.is_due)
            for waiter in first.values():
                waiter.is_due = True
        for waiter in set(first.values()):
            waiter.wake()

    def take_turn(self, waiter: Waiter) -> bool:
        """Whether something was given back for `waiter`, since it was asked for last."""
        with self._lock:
            due, waiter.is_due = waiter.is_due, False
            return due

    def is_first(self, waiter: Waiter) -> bool:
        with self._lock:
            return any(self._lines[name][0] is waiter for name in waiter.ticket.names)

    def _leave(self, waiter: Waiter) -> set[Waiter]:
        """Those who are first now, and have to look if there is something to take."""
        next_ones = set()
        for name in waiter.ticket.names:
            line = self._lines[name]
            was_first = line[0] is waiter
            line.remove(waiter)
            if not line:
                del self._lines[name], self._left_over[name]
            elif was_first:
                # What was found by looking was given back elsewhere, and more may have been.
                if self._left_over[name] > 0 or waiter.is_due or waiter.has_looked or not waiter.is_served:
                    self._left_over[name] = max(0, self._left_over[name] - 1)
                    line[0].is_due = True
                next_ones.add(line[0])
        return next_ones


def _number(waiter: Waiter) -> int:
    return waiter.ticket.number
