"""What this process holds in the ledger: kept alive while it is held, and given back once, come what may.

Every process has a name of its own, under which it holds things; a thread tells the ledger now and then that
the process lives. What cannot be given back because the ledger is out of reach is owed, and given back
later: it would be lost for as long as the process lives. Refuses to know what is held.
"""

from __future__ import annotations

import logging
import os
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from typing import Final

from deepseek_proxy.store.ledger.base import Hold, Lease, Ledger, LedgerUnavailable, Ticket

TTL_SECONDS: Final = 15.0
"""So long after its last sign of life, what a killed process held is free again."""
RENEWALS: Final = 3  # within one time to live
MAX_OWED: Final = 50_000
"""More than a process can come to owe within a time to live: what is older has lapsed by itself."""

logger = logging.getLogger(__name__)


class Holdings:
    """One for each process. `close()` gives everything back."""

    def __init__(self, ledger: Ledger, ttl_seconds: float = TTL_SECONDS) -> None:
        self.holder: Final = f"{os.getpid()}-{secrets.token_hex(8)}"
        self._ledger = ledger
        self._ttl = ttl_seconds
        self._lock = threading.Lock()
        self._leases: dict[str, Lease] = {}
        self._owed: dict[str, Callable[[], object]] = {}
        self._thread: threading.Thread | None = None
        self._closed = threading.Event()

    def acquire(self, choices: Sequence[Sequence[Hold]], ticket: Ticket | None = None) -> Lease | None:
        """A lease on the first choice that can be had, or None (`Ledger.acquire`)."""
        asked = Lease(secrets.token_hex(8), self.holder, ())
        try:
            lease = self._ledger.acquire(asked.id, choices, self.holder, self._ttl, ticket)
        except LedgerUnavailable:
            self._owe(asked.id, lambda: self._ledger.release(asked))
            raise
        if lease is not None:
            with self._lock:
                self._leases[lease.id] = lease
            self._stay_alive()
        return lease

    def release(self, lease: Lease) -> None:
        """Gives a lease back; only the first time counts. Never raises."""
        with self._lock:
            if self._leases.pop(lease.id, None) is None:
                return
        try:
            self._ledger.release(lease)
        except LedgerUnavailable:
            self._owe(lease.id, lambda: self._ledger.release(lease))

    def enter(self, names: Sequence[str], max_waiting: int) -> Ticket | None:
        """A place in the queue, or None (`Ledger.enter`)."""
        asked = Ticket(secrets.token_hex(8), self.holder, ())
        try:
            ticket = self._ledger.enter(asked.id, names, self.holder, self._ttl, max_waiting)
        except LedgerUnavailable:
            self._owe(asked.id, lambda: self._ledger.leave(asked))
            raise
        self._stay_alive()
        return ticket

    def leave(self, ticket: Ticket) -> None:
        """Gives a place up. Never raises."""
        try:
            self._ledger.leave(ticket)
        except LedgerUnavailable:
            self._owe(ticket.id, lambda: self._ledger.leave(ticket))

    def renew(self) -> None:
        """Says that this process lives, and pays what is owed. Raises `LedgerUnavailable`."""
        with self._lock:
            leases = list(self._leases.values())
        self._ledger.renew(self.holder, leases, self._ttl)
        self._give_back_the_released(leases)
        self._pay()

    def close(self) -> None:
        """Gives back what is held, and ends the thread."""
        self._closed.set()
        with self._lock:
            leases = list(self._leases.values())
        for lease in leases:
            self.release(lease)

    # -- inside -----------------------------------------------------------------------------------

    def _give_back_the_released(self, renewed: Sequence[Lease]) -> None:
        """A lease that was released while it was being renewed may have been entered again."""
        with self._lock:
            released = [lease for lease in renewed if lease.id not in self._leases]
        for lease in released:
            self._ledger.release(lease)

    def _owe(self, name: str, pay: Callable[[], object]) -> None:
        with self._lock:
            if len(self._owed) >= MAX_OWED:
                del self._owed[next(iter(self._owed))]
            self._owed[name] = pay
        self._stay_alive()

    def _pay(self) -> None:
        give_up = time.monotonic() + self._ttl / RENEWALS  # the rest waits: what is held comes first
        with self._lock:
            owed = list(self._owed.items())
        for name, pay in owed:
            if time.monotonic() >= give_up:
                return
            pay()
            with self._lock:
                self._owed.pop(name, None)

    def _stay_alive(self) -> None:
        if self._thread is None:
            with self._lock:
                if self._thread is None:
                    self._thread = threading.Thread(target=self._run, daemon=True, name="ledger-holdings")
                    self._thread.start()

    def _run(self) -> None:
        while not self._closed.wait(self._ttl / RENEWALS):
            try:
                self.renew()
            except LedgerUnavailable as error:
                logger.warning("The ledger cannot be reached, what is held may lapse: %s", error.message)
