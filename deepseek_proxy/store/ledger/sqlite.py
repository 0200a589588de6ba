"""The ledger of several worker processes on one machine: a SQLite file that all of them open.

Every change is one short write transaction. The journal is not synced at every commit: a power failure may
lose the last moments, which is when all leases end anyway. Refuses to know how the file is opened and locked
(`sqlite_file`).
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final, TypeVar

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
from deepseek_proxy.store.sqlite_file import Format, SqliteFile, one

_SWEEP_SECONDS: Final = 60.0
_AFTER_ALL: Final = 2**62

_TABLES: Final = """
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

T = TypeVar("T")


class SqliteLedger:
    """A `Ledger` in the file `path`, which is made where there is none. `clock` returns Unix time.

    Raises `LedgerUnavailable` where the file cannot be used.
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.time) -> None:
        self._path = path
        self._clock = clock
        self._swept = 0.0
        self._file = SqliteFile(path, Format(_TABLES, version=1), self._failed)
        self._file.read(lambda db: None)

    # -- leases -----------------------------------------------------------------------------------

    def acquire(
        self,
        lease_id: str,
        choices: Sequence[Sequence[Hold]],
        holder: str,
        ttl_seconds: float,
        ticket: Ticket | None = None,
    ) -> Lease | None:
        def work(db: sqlite3.Connection) -> Lease | None:
            self._live(db, holder, ttl_seconds)
            index = _turn(db, choices, ticket)
            if index is None:
                return None
            lease = Lease(lease_id, holder, tuple(hold.name for hold in choices[index]), index)
            _enter_leases(db, [lease])
            if ticket is not None:
                db.execute("DELETE FROM tickets WHERE id = ?", (ticket.id,))
            return lease

        return self._change(work)

    def renew(self, holder: str, leases: Sequence[Lease], ttl_seconds: float) -> None:
        def work(db: sqlite3.Connection) -> None:
            self._bury_the_dead(db)
            was_alive = one(db, "SELECT 1 FROM holders WHERE id = ?", holder)
            self._live(db, holder, ttl_seconds)
            if not was_alive:
                _enter_leases(db, leases)

        self._change(work)

    def release(self, lease: Lease) -> bool:
        query = "DELETE FROM leases WHERE id = ?"
        return self._change(lambda db: db.execute(query, (lease.id,)).rowcount > 0)

    def held(self, names: Sequence[str]) -> dict[str, int]:
        return self._of_the_living(lambda db: _held(db, names))

    # -- queues -----------------------------------------------------------------------------------

    def enter(
        self, ticket_id: str, names: Sequence[str], holder: str, ttl_seconds: float, max_waiting: int
    ) -> Ticket | None:
        def work(db: sqlite3.Connection) -> Ticket | None:
            self._live(db, holder, ttl_seconds)
            if all(waiting >= max_waiting for waiting in _waiting(db, names).values()):
                return None
            query = "INSERT INTO tickets (id, holder, wish) VALUES (?, ?, ?)"
            number = db.execute(query, (ticket_id, holder, _wish(names))).lastrowid or 0
            db.executemany("INSERT INTO queues VALUES (?, ?)", [(name, number) for name in names])
            return Ticket(ticket_id, holder, tuple(names), number)

        return self._change(work)

    def leave(self, ticket: Ticket) -> None:
        self._change(lambda db: db.execute("DELETE FROM tickets WHERE id = ?", (ticket.id,)))

    def waiting(self, names: Sequence[str]) -> dict[str, int]:
        return self._of_the_living(lambda db: _waiting(db, names))

    # -- counters ---------------------------------------------------------------------------------

    def add(self, amounts: Mapping[str, int], expires_at: float) -> dict[str, int]:
        def work(db: sqlite3.Connection) -> dict[str, int]:
            totals: dict[str, int] = {}
            for name, amount in amounts.items():
                query = "SELECT total, until FROM counters WHERE name = ? AND until > ?"
                known = db.execute(query, (name, self._clock())).fetchone()
                total, until = known or (0, expires_at)
                totals[name] = total + amount
                db.execute("REPLACE INTO counters VALUES (?, ?, ?)", (name, totals[name], until))
            return totals

        return self._change(work)

    def read(self, names: Sequence[str]) -> dict[str, int]:
        query = f"SELECT name, total FROM counters WHERE until > ? AND name IN ({_places(names)})"  # noqa: S608
        values = self._clock(), *names
        found = self._file.read(lambda db: db.execute(query, values).fetchall())
        return dict.fromkeys(names, 0) | dict(found)

    # -- rates ------------------------------------------------------------------------------------

    def take(self, name: str, limit: int, window_seconds: float) -> Taken:
        def work(db: sqlite3.Connection) -> Taken:
            now = self._clock()
            known = one(db, "SELECT until FROM rates WHERE name = ?", name)
            taken, full_at = rates.take(now if known is None else known, now, limit, window_seconds)
            db.execute("REPLACE INTO rates VALUES (?, ?)", (name, full_at))
            return taken

        return self._change(work)

    # -- marks ------------------------------------------------------------------------------------

    def mark(self, name: str, text: str, seconds: float) -> None:
        values = name, text, self._clock() + seconds
        self._change(lambda db: db.execute("REPLACE INTO marks VALUES (?, ?, ?)", values))

    def unmark(self, name: str) -> None:
        self._change(lambda db: db.execute("DELETE FROM marks WHERE name = ?", (name,)))

    def marks(self, names: Sequence[str]) -> dict[str, Mark]:
        now = self._clock()
        query = f"SELECT name, text, until FROM marks WHERE until > ? AND name IN ({_places(names)})"  # noqa: S608
        rows = self._file.read(lambda db: db.execute(query, (now, *names)).fetchall())
        return {name: Mark(text, until - now) for name, text, until in rows}

    def close(self) -> None:
        self._file.close()

    # -- transactions -----------------------------------------------------------------------------

    def _change(self, work: Callable[[sqlite3.Connection], T]) -> T:
        def swept(db: sqlite3.Connection) -> T:
            done = work(db)
            self._sweep(db)
            return done

        return self._file.write(swept)

    def _of_the_living(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """What `work` reads once those who have died are buried, for which somebody has to write."""
        lapsed, found = self._file.read(lambda db: (self._lapsed(db), work(db)))
        if lapsed:
            self._change(self._bury_the_dead)
            found = self._file.read(work)
        return found

    def _failed(self, reason: str) -> LedgerUnavailable:
        return LedgerUnavailable(
            f"The gateway's own records ({self._path.name}) cannot be used: {reason}.", retry_after=5
        )

    # -- inside a transaction ---------------------------------------------------------------------

    def _live(self, db: sqlite3.Connection, holder: str, ttl_seconds: float) -> None:
        self._bury_the_dead(db)
        now = self._clock()
        db.execute("REPLACE INTO holders VALUES (?, ?, ?)", (holder, now + ttl_seconds, now))

    def _lapsed(self, db: sqlite3.Connection) -> list[tuple[str, bool]]:
        """Holders of whom something lapses, and whether all does."""
        now = self._clock()
        query = "SELECT id, alive_until <= ? FROM holders WHERE alive_until <= ? OR (heard <= ? AND id IN"
        query += " (SELECT holder FROM tickets))"
        return db.execute(query, (now, now, now - QUEUE_SECONDS)).fetchall()

    def _bury_the_dead(self, db: sqlite3.Connection) -> None:
        for holder, dead in self._lapsed(db):
            db.execute("DELETE FROM tickets WHERE holder = ?", (holder,))
            if dead:
                db.execute("DELETE FROM leases WHERE holder = ?", (holder,))
                db.execute("DELETE FROM holders WHERE id = ?", (holder,))

    def _sweep(self, db: sqlite3.Connection) -> None:
        """Now and then what has expired is deleted; until then nobody sees it."""
        now = self._clock()
        if abs(now - self._swept) >= _SWEEP_SECONDS:
            self._swept = now
            db.execute("DELETE FROM counters WHERE until <= ?", (now,))
            db.execute("DELETE FROM rates WHERE until <= ?", (now,))
            db.execute("DELETE FROM marks WHERE until <= ?", (now,))
            db.execute("DELETE FROM held WHERE leases = 0")


def _turn(db: sqlite3.Connection, choices: Sequence[Sequence[Hold]], ticket: Ticket | None) -> int | None:
    """The choice that is had; usually all is taken, and the queues are of no interest."""
    limits = {hold.name: hold.limit for holds in choices for hold in holds}
    held = _held(db, [*limits])
    if all(held[name] >= limit for name, limit in limits.items()):
        return None
    number = ticket.number if ticket is not None else _AFTER_ALL
    earlier = _waiting(db, limits, before=number)
    if ticket is None:
        return turns.first_choice(choices, held, earlier)
    query = "SELECT count(*) FROM tickets WHERE wish = ? AND number < ?"
    same: int = one(db, query, _wish(ticket.names), number)
    return turns.first_choice(choices, held, earlier, same, ticket.names)


def _enter_leases(db: sqlite3.Connection, leases: Sequence[Lease]) -> None:
    rows = [(lease.id, name, lease.holder) for lease in leases for name in lease.names]
    db.executemany("INSERT OR IGNORE INTO leases VALUES (?, ?, ?)", rows)


def _held(db: sqlite3.Connection, names: Sequence[str]) -> dict[str, int]:
    query = f"SELECT name, leases FROM held WHERE name IN ({_places(names)})"  # noqa: S608
    return dict.fromkeys(names, 0) | dict(db.execute(query, names).fetchall())


def _waiting(db: sqlite3.Connection, names: Iterable[str], before: int = _AFTER_ALL) -> dict[str, int]:
    query = "SELECT count(*) FROM queues WHERE name = ? AND number < ?"
    return {name: one(db, query, name, before) for name in names}


def _wish(names: Sequence[str]) -> str:
    """All that a ticket waits for, as one text."""
    return "\n".join(sorted(names))


def _places(names: Sequence[str]) -> str:
    """Placeholders for so many values: nothing but these is written into a statement."""
    return ", ".join("?" * len(names))
