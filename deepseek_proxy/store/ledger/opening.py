"""The ledger that the settings ask for, opened when it is first needed: most gateways never need one.

Limits have to hold over worker processes and outlive a restart, so if nothing else is said it is a file.
Refuses to know what is entered in it.
"""

from __future__ import annotations

import threading

from deepseek_proxy.settings import Settings
from deepseek_proxy.store.ledger.base import Ledger
from deepseek_proxy.store.ledger.holdings import Holdings
from deepseek_proxy.store.ledger.memory import MemoryLedger
from deepseek_proxy.store.ledger.sqlite import SqliteLedger
from deepseek_proxy.values import IN_MEMORY, REDIS_URLS

FILE_NAME = "ledger.db"


class Books:
    """The ledger, and what this process holds in it. One for each process, made after a fork."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._opened: tuple[Ledger, Holdings] | None = None

    @property
    def ledger(self) -> Ledger:
        """Raises `LedgerUnavailable` where it cannot be opened."""
        return (self._opened or self._open())[0]

    @property
    def holdings(self) -> Holdings:
        """Raises `LedgerUnavailable`, as `ledger` does."""
        return (self._opened or self._open())[1]

    def close(self) -> None:
        """Gives back what is held. What is asked for later opens the ledger again."""
        with self._lock:
            opened, self._opened = self._opened, None
        if opened is not None:
            ledger, holdings = opened
            holdings.close()
            ledger.close()

    def _open(self) -> tuple[Ledger, Holdings]:
        with self._lock:
            if self._opened is None:
                ledger = open_ledger(self._settings)
                self._opened = ledger, Holdings(ledger)
            return self._opened


def open_ledger(settings: Settings) -> Ledger:
    """Redis or memory (of the one worker) where the store is there, else a file in `state_dir`.

    Raises `LedgerUnavailable`.
    """
    url = settings.store_url.get_secret_value() if settings.store_url is not None else ""
    if url.startswith(REDIS_URLS):
        from deepseek_proxy.store.ledger.redis import RedisLedger  # its library is large

        return RedisLedger(url)
    if url == IN_MEMORY:
        return MemoryLedger()
    return SqliteLedger(settings.state_dir / FILE_NAME)
