"""The ledger of several worker processes on one machine: a SQLite file that all of them open.

Every change is one short write transaction. Waiting for another process' transaction is done here, in small
sleeps, and not inside SQLite, where it would stop every stream of a gevent worker. The journal is a
write-ahead log that is not synced at every commit: a power failure may lose the last moments, which is when
all leases end anyway.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from deepseek_proxy.store.ledger import rates, turns
from deepseek_proxy.store.ledger.base import (
    QUEUE_SECONDS,
    Hold,
    Lease,
    LedgerUnavailable,
    Mark,
    Taken,
    Ticket,
)

BUSY_SECONDS: Final = 5.0
"""Longest wait for other processes' transactions; each takes well below a millisecond."""
_FIRST_SLEEP_SECONDS: Final = 0.0005
_LAST_SLEEP_SECONDS: Final = 0.01
_SWEEP_SECONDS: Final = 60.0
_AFTER_ALL: Final = 2**62

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS holders (
    id TEXT PRIMARY KEY, alive_until REAL NOT NULL, heard REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS leases (
    id TEXT NOT NULL, name TEXT NOT NULL, holder TEXT NOT NULL, PRIMARY KEY (id, name)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS leases_by_holder ON leases (holder);
CREATE TABLE IF NOT EXISTS held (name TEXT PRIMARY KEY, leases INTEGER NOT NULL) WITHOUT ROWID;
CREATE TRIGGER IF NOT EXISTS lease_begins AFTER INSERT ON leases BEGIN
    INSERT INTO held VALUES (NEW.name, 1) ON CONFLICT (name) DO UPDATE SET leases = leases + 1; END;
CREATE TRIGGER IF NOT EXISTS lease_ends AFTER DELETE ON leases BEGIN
    UPDATE held SET leases = leases - 1 WHERE name = OLD.name; END;
CREATE TABLE IF NOT EXISTS tickets (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE, holder TEXT NOT NULL, wish TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS tickets_by_holder ON tickets (holder);
CREATE INDEX IF NOT EXISTS tickets_by_wish ON tickets (wish, number);
CREATE TABLE IF NOT EXISTS queues (
    name TEXT NOT NULL, number INTEGER NOT NULL, PRIMARY KEY (name, number)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS queues_by_number ON queues (number);
CREATE TRIGGER IF NOT EXISTS ticket_ends AFTER DELETE ON tickets BEGIN
    DELETE FROM queues WHERE number = OLD.number; END;
CREATE TABLE IF NOT EXISTS counters (
    name TEXT PRIMARY KEY, total INTEGER NOT NULL, until REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS rates (name TEXT PRIMARY KEY, until REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS marks (
    name TEXT PRIMARY KEY, text TEXT NOT NULL, until REAL NOT NULL) WITHOUT ROWID;
"""


class SqliteLedger:
    """A `Ledger` in the file `path`, which is made where there is none. `clock` returns Unix time.

    To be opened after a fork. Raises `LedgerUnavailable` where the file cannot be used.
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.time) -> None:
        self._path = path
        self._clock = clock
        self._lock = threading.Lock()
        self._swept = 0.0
        with self._errors():
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.touch(mode=0o600)
            # Transactions are begun and ended here; several threads take turns under the lock.
            self._db = sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)
            self._patiently("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = NORMAL")
        with self._changing():
            for statement in _statements(_SCHEMA):
                self._db.execute(statement)

    # -- leases -----------------------------------------------------------------------------------

    def acquire(
        self,
        lease_id: str,
        choices: Sequence[Sequence[Hold]],
        holder: str,
        ttl_seconds: float,
        ticket: Ticket | None = None,
    ) -> Lease | None:
        with self._changing():
            self._live(holder, ttl_seconds)
            index = self._turn(choices, ticket)
            if index is None:
                return None
            lease = Lease(lease_id, holder, tuple(hold.name for hold in choices[index]), index)
            self._enter_lease(lease)
            if ticket is not None:
                self._db.execute("DELETE FROM tickets WHERE id = ?", (ticket.id,))
            return lease

    def renew(self, holder: str, leases: Sequence[Lease], ttl_seconds: float) -> None:
        with self._changing():
            self._bury_the_dead()
            was_alive = self._one("SELECT 1 FROM holders WHERE id = ?", holder)
            self._live(holder, ttl_seconds)
            if not was_alive:
                for lease in leases:
                    self._enter_lease(lease)

    def release(self, lease: Lease) -> bool:
        with self._changing():
            return self._db.execute("DELETE FROM leases WHERE id = ?", (lease.id,)).rowcount > 0

    def held(self, names: Sequence[str]) -> dict[str, int]:
        with self._reading_the_living():
            return dict.fromkeys(names, 0) | self._found("SELECT name, leases FROM held", names)

    # -- queues -----------------------------------------------------------------------------------

    def enter(
        self, ticket_id: str, names: Sequence[str], holder: str, ttl_seconds: float, max_waiting: int
    ) -> Ticket | None:
        with self._changing():
            self._live(holder, ttl_seconds)
            if all(self._waiting(name) >= max_waiting for name in names):
                return None
            new = self._db.execute(
                "INSERT INTO tickets (id, holder, wish) VALUES (?, ?, ?)", (ticket_id, holder, _wish(names))
            )
            ticket = Ticket(ticket_id, holder, tuple(names), new.lastrowid or 0)
            self._db.executemany("INSERT INTO queues VALUES (?, ?)", [(n, ticket.number) for n in names])
            return ticket

    def leave(self, ticket: Ticket) -> None:
        with self._changing():
            self._db.execute("DELETE FROM tickets WHERE id = ?", (ticket.id,))

    def waiting(self, names: Sequence[str]) -> dict[str, int]:
        with self._reading_the_living():
            return {name: self._waiting(name) for name in names}

    # -- counters ---------------------------------------------------------------------------------

    def add(self, amounts: Mapping[str, int], expires_at: float) -> dict[str, int]:
        totals: dict[str, int] = {}
        with self._changing():
            now = self._clock()
            for name, amount in amounts.items():
                known = self._row("SELECT total, until FROM counters WHERE name = ? AND until > ?", name, now)
                total, until = known or (0, expires_at)
                totals[name] = total + amount
                self._db.execute("REPLACE INTO counters VALUES (?, ?, ?)", (name, totals[name], until))
        return totals

    def read(self, names: Sequence[str]) -> dict[str, int]:
        with self._reading():
            found = self._found("SELECT name, total FROM counters", names, self._clock())
            return dict.fromkeys(names, 0) | found

    # -- rates ------------------------------------------------------------------------------------

    def take(self, name: str, limit: int, window_seconds: float) -> Taken:
        with self._changing():
            now = self._clock()
            row = self._row("SELECT until FROM rates WHERE name = ?", name)
            taken, full_at = rates.take(row[0] if row else now, now, limit, window_seconds)
            self._db.execute("REPLACE INTO rates VALUES (?, ?)", (name, full_at))
            return taken

    # -- marks ------------------------------------------------------------------------------------

    def mark(self, name: str, text: str, seconds: float) -> None:
        with self._changing():
            self._db.execute("REPLACE INTO marks VALUES (?, ?, ?)", (name, text, self._clock() + seconds))

    def unmark(self, name: str) -> None:
        with self._changing():
            self._db.execute("DELETE FROM marks WHERE name = ?", (name,))

    def marks(self, names: Sequence[str]) -> dict[str, Mark]:
        with self._reading():
            now = self._clock()
            query = f"SELECT name, text, until FROM marks WHERE until > ? AND name IN ({_places(names)})"  # noqa: S608
            rows = self._db.execute(query, (now, *names)).fetchall()
        return {name: Mark(text, until - now) for name, text, until in rows}

    def close(self) -> None:
        with self._lock:
            self._db.close()

    # -- inside a transaction ---------------------------------------------------------------------

    def _turn(self, choices: Sequence[Sequence[Hold]], ticket: Ticket | None) -> int | None:
        """The choice that is had; usually all is taken, and the queues are of no interest."""
        limits = {hold.name: hold.limit for holds in choices for hold in holds}
        held = dict.fromkeys(limits, 0) | self._found("SELECT name, leases FROM held", [*limits])
        if all(held[name] >= limit for name, limit in limits.items()):
            return None
        number = ticket.number if ticket is not None else _AFTER_ALL
        query = "SELECT count(*) FROM queues WHERE name = ? AND number < ?"
        earlier = {name: self._one(query, name, number) or 0 for name in limits}
        if ticket is None:
            return turns.first_choice(choices, held, earlier)
        query = "SELECT count(*) FROM tickets WHERE wish = ? AND number < ?"
        same = self._one(query, _wish(ticket.names), number) or 0
        return turns.first_choice(choices, held, earlier, same, ticket.names)

    def _enter_lease(self, lease: Lease) -> None:
        rows = [(lease.id, name, lease.holder) for name in lease.names]
        self._db.executemany("INSERT OR IGNORE INTO leases VALUES (?, ?, ?)", rows)

    def _waiting(self, name: str) -> int:
        return self._one("SELECT count(*) FROM queues WHERE name = ?", name) or 0

    def _live(self, holder: str, ttl_seconds: float) -> None:
        self._bury_the_dead()
        now = self._clock()
        self._db.execute(
            "REPLACE INTO holders VALUES (?, ?, ?)",
            (holder, now + ttl_seconds, now),
        )

    def _lapsed(self) -> list[tuple[str, bool]]:
        """Holders of whom something lapses, and whether all does."""
        now = self._clock()
        query = "SELECT id, alive_until <= ? FROM holders WHERE alive_until <= ? OR (heard <= ? AND id IN"
        query += " (SELECT holder FROM tickets))"
        return self._db.execute(query, (now, now, now - QUEUE_SECONDS)).fetchall()

    def _bury_the_dead(self) -> None:
        for holder, dead in self._lapsed():
            self._db.execute("DELETE FROM tickets WHERE holder = ?", (holder,))
            if dead:
                self._db.execute("DELETE FROM leases WHERE holder = ?", (holder,))
                self._db.execute("DELETE FROM holders WHERE id = ?", (holder,))

    def _sweep(self) -> None:
        """Now and then what has expired is deleted; until then nobody sees it."""
        now = self._clock()
        if now - self._swept >= _SWEEP_SECONDS:
            self._swept = now
            self._db.execute("DELETE FROM counters WHERE until <= ?", (now,))
            self._db.execute("DELETE FROM rates WHERE until <= ?", (now,))
            self._db.execute("DELETE FROM marks WHERE until <= ?", (now,))
            self._db.execute("DELETE FROM held WHERE leases = 0")

    def _found(self, query: str, names: Sequence[str], now: float | None = None) -> dict[str, int]:
        """The numbers that `query` has for the names, of those that have not expired `now`."""
        query += f" WHERE name IN ({_places(names)})" + (" AND until > ?" if now is not None else "")
        return dict(self._db.execute(query, (*names, *([now] if now is not None else []))).fetchall())

    def _row(self, query: str, *values: object) -> tuple[Any, ...] | None:
        row: tuple[Any, ...] | None = self._db.execute(query, values).fetchone()
        return row

    def _one(self, query: str, *values: object) -> int | None:
        row = self._row(query, *values)
        return row[0] if row is not None else None

    # -- transactions -----------------------------------------------------------------------------

    @contextmanager
    def _changing(self) -> Iterator[None]:
        with self._lock, self._errors():
            self._patiently("BEGIN IMMEDIATE")
            try:
                yield
                self._sweep()
                self._db.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):
                    self._db.execute("ROLLBACK")
                raise

    @contextmanager
    def _reading(self) -> Iterator[None]:
        with self._lock, self._errors():
            yield

    @contextmanager
    def _reading_the_living(self) -> Iterator[None]:
        with self._reading():
            anybody_dead = bool(self._lapsed())
        with self._changing() if anybody_dead else self._reading():
            if anybody_dead:
                self._bury_the_dead()
            yield

    def _patiently(self, statement: str) -> None:
        """Runs what another process' transaction may keep from running."""
        give_up = time.monotonic() + BUSY_SECONDS
        pause = _FIRST_SLEEP_SECONDS
        while True:
            try:
                self._db.execute(statement)
                return
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > give_up:
                    raise
            time.sleep(pause)
            pause = min(2 * pause, _LAST_SLEEP_SECONDS)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise LedgerUnavailable(
                f"The gateway's own records ({self._path.name}) cannot be used: {error}", retry_after=5
            ) from error


def _wish(names: Sequence[str]) -> str:
    """All that a ticket waits for, as one text."""
    return "\n".join(sorted(names))


def _places(names: Sequence[str]) -> str:
    """Placeholders for so many values: nothing but these is written into a statement."""
    return ", ".join("?" * len(names))


def _statements(script: str) -> Iterator[str]:
    """The statements of a script, one by one: `executescript` would end the transaction."""
    statement = ""
    for line in script.strip().splitlines():
        statement += f"{line}\n"
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
