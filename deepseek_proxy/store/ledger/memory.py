"""The ledger of one process: dictionaries under one lock."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import takewhile
from typing import Generic, TypeVar

from deepseek_proxy.store.ledger import rates, turns
from deepseek_proxy.store.ledger.base import QUEUE_SECONDS, Hold, Lease, Mark, Taken, Ticket

_FEW = 1024
"""So many expired entries may lie about before they are swept out."""

V = TypeVar("V")


class _Expiring(Generic[V]):
    """Values by name, each until its moment. Sweeps whenever it has doubled since it last did."""

    def __init__(self) -> None:
        self._entries: dict[str, tuple[V, float]] = {}
        self._sweep_above = _FEW

    def get(self, name: str, now: float) -> tuple[V, float] | None:
        """The value and the moment; None where there is none, or none any more."""
        entry = self._entries.get(name)
        return entry if entry is not None and entry[1] > now else None

    def set(self, name: str, value: V, until: float, now: float) -> None:
        self._entries[name] = (value, until)
        if len(self._entries) > self._sweep_above:
            self._entries = {n: entry for n, entry in self._entries.items() if entry[1] > now}
            self._sweep_above = max(_FEW, 2 * len(self._entries))

    def drop(self, name: str) -> None:
        self._entries.pop(name, None)


class MemoryLedger:
    """A `Ledger`. `clock` returns Unix time."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._alive_until: dict[str, float] = {}  # by holder
        self._heard: dict[str, float] = {}  # when, of those who have tickets
        self._leases: dict[str, Lease] = {}
        self._held: defaultdict[str, int] = defaultdict(int)
        self._tickets: dict[str, Ticket] = {}
        self._queues: defaultdict[str, dict[int, None]] = defaultdict(dict)  # numbers, in order of arrival
        # The same numbers by all that they wait for, together.
        self._wishes: defaultdict[frozenset[str], dict[int, None]] = defaultdict(dict)
        self._last_number = 0
        self._counters = _Expiring[int]()
        self._rates = _Expiring[None]()  # each until all of its limit is free again
        self._marks = _Expiring[str]()

    # -- leases -----------------------------------------------------------------------------------

    def acquire(
        self,
        lease_id: str,
        choices: Sequence[Sequence[Hold]],
        holder: str,
        ttl_seconds: float,
        ticket: Ticket | None = None,
    ) -> Lease | None:
        with self._lock:
            self._bury_the_dead(holder, ttl_seconds)
            names = {hold.name for holds in choices for hold in holds}
            held = {name: self._held.get(name, 0) for name in names}
            earlier = {name: self._earlier(self._queues.get(name, ()), ticket) for name in names}
            if ticket is None:
                index = turns.first_choice(choices, held, earlier)
            else:
                same = self._earlier(self._wishes.get(frozenset(ticket.names), ()), ticket)
                index = turns.first_choice(choices, held, earlier, same, ticket.names)
            if index is None:
                return None
            lease = Lease(lease_id, holder, tuple(hold.name for hold in choices[index]), index)
            self._enter_lease(lease)
            if ticket is not None:
                self._drop_ticket(ticket.id)
            return lease

    def renew(self, holder: str, leases: Sequence[Lease], ttl_seconds: float) -> None:
        with self._lock:
            self._bury_the_dead(holder, ttl_seconds)
            for lease in leases:
                if lease.id not in self._leases:
                    self._enter_lease(lease)

    def release(self, lease: Lease) -> bool:
        with self._lock:
            return self._drop_lease(lease.id)

    def held(self, names: Sequence[str]) -> dict[str, int]:
        with self._lock:
            self._bury_the_dead()
            return {name: self._held.get(name, 0) for name in names}

    # -- queues -----------------------------------------------------------------------------------

    def enter(
        self, ticket_id: str, names: Sequence[str], holder: str, ttl_seconds: float, max_waiting: int
    ) -> Ticket | None:
        with self._lock:
            self._bury_the_dead(holder, ttl_seconds)
            if all(len(self._queues.get(name, ())) >= max_waiting for name in names):
                return None
            self._last_number += 1
            ticket = Ticket(ticket_id, holder, tuple(names), self._last_number)
            self._tickets[ticket_id] = ticket
            self._heard[holder] = self._clock()
            for name in names:
                self._queues[name][ticket.number] = None
            self._wishes[frozenset(names)][ticket.number] = None
            return ticket

    def leave(self, ticket: Ticket) -> None:
        with self._lock:
            self._drop_ticket(ticket.id)

    def waiting(self, names: Sequence[str]) -> dict[str, int]:
        with self._lock:
            self._bury_the_dead()
            return {name: len(self._queues.get(name, ())) for name in names}

    # -- counters ---------------------------------------------------------------------------------

    def add(self, amounts: Mapping[str, int], expires_at: float) -> dict[str, int]:
        with self._lock:
            now, totals = self._clock(), {}
            for name, amount in amounts.items():
                total, until = self._counters.get(name, now) or (0, expires_at)
                totals[name] = total + amount
                self._counters.set(name, totals[name], until, now)
            return totals

    def read(self, names: Sequence[str]) -> dict[str, int]:
        with self._lock:
            now = self._clock()
            return {name: (self._counters.get(name, now) or (0,))[0] for name in names}

    # -- rates ------------------------------------------------------------------------------------

    def take(self, name: str, limit: int, window_seconds: float) -> Taken:
        with self._lock:
            now = self._clock()
            _, full_at = self._rates.get(name, now) or (None, now)
            taken, full_at = rates.take(full_at, now, limit, window_seconds)
            self._rates.set(name, None, full_at, now)
            return taken

    # -- marks ------------------------------------------------------------------------------------

    def mark(self, name: str, text: str, seconds: float) -> None:
        with self._lock:
            now = self._clock()
            self._marks.set(name, text, now + seconds, now)

    def unmark(self, name: str) -> None:
        with self._lock:
            self._marks.drop(name)

    def marks(self, names: Sequence[str]) -> dict[str, Mark]:
        with self._lock:
            now = self._clock()
            found = {name: self._marks.get(name, now) for name in names}
            return {name: Mark(entry[0], entry[1] - now) for name, entry in found.items() if entry}

    def close(self) -> None:
        pass

    # -- inside, under the lock -------------------------------------------------------------------

    @staticmethod
    def _earlier(numbers: Collection[int], ticket: Ticket | None) -> int:
        """How many of the numbers, in ascending order, are before the ticket's."""
        if ticket is None:
            return len(numbers)
        return sum(1 for _ in takewhile(lambda number: number < ticket.number, numbers))

    def _enter_lease(self, lease: Lease) -> None:
        self._leases[lease.id] = lease
        for name in lease.names:
            self._held[name] += 1

    def _drop_lease(self, lease_id: str) -> bool:
        lease = self._leases.pop(lease_id, None)
        if lease is None:
            return False
        for name in lease.names:
            self._held[name] -= 1
            if not self._held[name]:
                del self._held[name]
        return True

    def _drop_ticket(self, ticket_id: str) -> None:
        ticket = self._tickets.pop(ticket_id, None)
        if ticket is None:
            return
        for name in ticket.names:
            del self._queues[name][ticket.number]
            if not self._queues[name]:
                del self._queues[name]
        wish = frozenset(ticket.names)
        del self._wishes[wish][ticket.number]
        if not self._wishes[wish]:
            del self._wishes[wish]

    def _bury_the_dead(self, living: str | None = None, ttl_seconds: float = 0) -> None:
        now = self._clock()
        if any(until <= now for until in self._alive_until.values()):
            dead = {holder for holder, until in self._alive_until.items() if until <= now}
            for lease in [lease for lease in self._leases.values() if lease.holder in dead]:
                self._drop_lease(lease.id)
            for holder in dead:
                del self._alive_until[holder]
        if living in self._heard:
            self._heard[living] = now
        if any(heard <= now - QUEUE_SECONDS for heard in self._heard.values()):
            silent = {holder for holder, heard in self._heard.items() if heard <= now - QUEUE_SECONDS}
            for ticket in [ticket for ticket in self._tickets.values() if ticket.holder in silent]:
                self._drop_ticket(ticket.id)
            for holder in silent:
                del self._heard[holder]
        if living is not None:
            self._alive_until[living] = now + ttl_seconds
