"""The file of the SQLite store: its tables, its connections, its transactions.

Made for many processes at once: a write-ahead log, so that readers wait for nobody, and short write
transactions that wait for each other. The log is synced at checkpoints only: a process that is killed loses
nothing that was committed, a power failure may lose the last moments, neither harms the file.

Under gevent a call into SQLite stops every stream of the worker. So what is slow in it happens elsewhere: the
wait for another process' transaction is made of small sleeps here, and checkpoints, which wait for the disk,
are made by a thread of the operating system (`lane`). What remains writes to memory, in a fraction of a
millisecond. To make all calls in such a thread was measured, too: each of a transaction's statements then
has to fight for the interpreter with the streams, and the end of an answer took a hundred times as long.

Rows are counted by triggers, so that sizes cannot drift from what is there. Refuses to know what rows mean.
SQLite 3.35 or later.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

from deepseek_proxy.errors import StoreUnavailable
from deepseek_proxy.store.base import ROW_BYTES, Watcher
from deepseek_proxy.store.lane import lane

BUSY_SECONDS: Final = 5.0
"""Longest wait for other processes' transactions; each takes milliseconds."""
_VERSION: Final = 1
CHECKPOINT_BYTES: Final = 4 * 1024 * 1024
"""How large the log is when a checkpoint is due."""
_LAST_CHECKPOINT_PAGES: Final = 16_384
"""At 64 MB it is made by whoever writes, if nobody else did."""
_WAL_BYTES: Final = 16 * 1024 * 1024
"""To what a log that had to grow, while somebody read for long, is cut again."""
_FREED_PAGES: Final = 1000
"""How many pages are given back to the disk at a time."""
_FIRST_SLEEP_SECONDS: Final = 0.0005
_LAST_SLEEP_SECONDS: Final = 0.01

_TABLES: Final = """
CREATE TABLE totals (bytes INTEGER NOT NULL);
INSERT INTO totals VALUES (0);
CREATE TABLE owners (n INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, bytes INTEGER NOT NULL DEFAULT 0);
CREATE TRIGGER owners_counted AFTER UPDATE OF bytes ON owners BEGIN
    UPDATE totals SET bytes = bytes + NEW.bytes - OLD.bytes; END;

CREATE TABLE segments (
    n INTEGER PRIMARY KEY, owner INTEGER NOT NULL, head BLOB NOT NULL, parent INTEGER,
    refs INTEGER NOT NULL DEFAULT 0, ids TEXT NOT NULL, blob BLOB NOT NULL, UNIQUE (owner, head));
CREATE TRIGGER segments_referred AFTER INSERT ON segments WHEN NEW.parent IS NOT NULL BEGIN
    UPDATE segments SET refs = refs + 1 WHERE n = NEW.parent; END;

CREATE TABLE places (
    owner INTEGER NOT NULL, item TEXT NOT NULL, segment INTEGER, entry INTEGER,
    PRIMARY KEY (owner, item)) WITHOUT ROWID;

CREATE TABLE responses (
    n INTEGER PRIMARY KEY, owner INTEGER NOT NULL, id TEXT NOT NULL, created_at INTEGER NOT NULL,
    expires_at REAL NOT NULL, status TEXT NOT NULL, ended INTEGER NOT NULL, blob BLOB NOT NULL,
    input INTEGER, own_input INTEGER NOT NULL, head INTEGER, conversation TEXT, background INTEGER NOT NULL,
    worker TEXT NOT NULL, cancel INTEGER NOT NULL DEFAULT 0, gaps INTEGER NOT NULL DEFAULT 0,
    UNIQUE (owner, id));
CREATE INDEX responses_by_age ON responses (expires_at);
CREATE INDEX responses_by_owner ON responses (owner);
CREATE INDEX responses_to_cancel ON responses (worker) WHERE cancel AND NOT ended;

CREATE TABLE pieces (
    n INTEGER PRIMARY KEY, owner INTEGER NOT NULL, response INTEGER NOT NULL, first INTEGER NOT NULL,
    blob BLOB NOT NULL);
CREATE UNIQUE INDEX pieces_by_response ON pieces (response, first);

CREATE TABLE conversations (
    n INTEGER PRIMARY KEY, owner INTEGER NOT NULL, id TEXT NOT NULL, created_at INTEGER NOT NULL,
    expires_at REAL NOT NULL, blob BLOB NOT NULL, UNIQUE (owner, id));
CREATE INDEX conversations_by_age ON conversations (expires_at);
CREATE TABLE entries (
    n INTEGER PRIMARY KEY AUTOINCREMENT, owner INTEGER NOT NULL, conversation INTEGER NOT NULL,
    item TEXT NOT NULL, blob BLOB NOT NULL, UNIQUE (conversation, item));

CREATE TABLE thoughts (
    n INTEGER PRIMARY KEY, owner INTEGER NOT NULL, name TEXT NOT NULL, expires_at REAL NOT NULL,
    blob BLOB NOT NULL, UNIQUE (owner, name));
CREATE INDEX thoughts_by_age ON thoughts (expires_at);
CREATE INDEX thoughts_by_owner ON thoughts (owner);
CREATE TABLE workers (id TEXT PRIMARY KEY, until REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE duties (name TEXT PRIMARY KEY, worker TEXT NOT NULL, until REAL NOT NULL) WITHOUT ROWID;
"""
_COUNTED: Final = ("segments", "responses", "pieces", "conversations", "entries", "thoughts")
_COUNT: Final = """
CREATE TRIGGER %(table)s_come AFTER INSERT ON %(table)s BEGIN
    UPDATE owners SET bytes = bytes + %(row)d + length(NEW.blob) WHERE n = NEW.owner; END;
CREATE TRIGGER %(table)s_change AFTER UPDATE OF blob ON %(table)s BEGIN
    UPDATE owners SET bytes = bytes + length(NEW.blob) - length(OLD.blob) WHERE n = NEW.owner; END;
CREATE TRIGGER %(table)s_go AFTER DELETE ON %(table)s BEGIN
    UPDATE owners SET bytes = bytes - %(row)d - length(OLD.blob) WHERE n = OLD.owner; END;
"""
_COUNT_PLACES: Final = """
CREATE TRIGGER places_come AFTER INSERT ON places BEGIN
    UPDATE owners SET bytes = bytes + %(row)d WHERE n = NEW.owner; END;
CREATE TRIGGER places_go AFTER DELETE ON places BEGIN
    UPDATE owners SET bytes = bytes - %(row)d WHERE n = OLD.owner; END;
"""
SCHEMA: Final = "".join(
    (
        _TABLES,
        _COUNT_PLACES % {"row": ROW_BYTES},
        *(_COUNT % {"row": ROW_BYTES, "table": table} for table in _COUNTED),
    )
)

T = TypeVar("T")


class SqliteFile:
    """The file `path`, which is made with the first use. One connection writes, another reads meanwhile.

    What is given to `read` and `write` must be quick, and wait for nothing but SQLite.
    """

    def __init__(self, path: Path, watcher: Watcher) -> None:
        self._path = path
        self._watcher = watcher
        self._reader, self._writer = _Connection(path, watcher), _Connection(path, watcher)
        self._lane = lane()

    def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """`work` sees one state of the file. Raises `StoreUnavailable`."""
        return self._reader.run("BEGIN", work)

    def write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """`work` is done as a whole, or, where it raises, not at all. Raises `StoreUnavailable`."""
        return self._writer.run("BEGIN IMMEDIATE", work)

    def tidy(self) -> None:
        """Moves what was written from the log to its place, once there is much, and gives pages that nothing
        uses any more back to the disk. Only its caller waits. Raises `StoreUnavailable`."""
        log = self._path.with_name(f"{self._path.name}-wal")
        try:
            if log.stat().st_size >= CHECKPOINT_BYTES:
                with _errors(self._path, self._watcher):
                    self._lane.run(partial(_tidy, self._path))
        except FileNotFoundError:
            pass  # nothing was written yet

    def close(self) -> None:
        self._lane.close()
        self._reader.close()
        self._writer.close()


class _Connection:
    """Connects with the first use, and once more after a fork: connections do not outlive one."""

    def __init__(self, path: Path, watcher: Watcher) -> None:
        self._path = path
        self._watcher = watcher
        self._lock = threading.Lock()
        self._pid = 0
        self._db: sqlite3.Connection | None = None

    def run(self, begin: str, work: Callable[[sqlite3.Connection], T]) -> T:
        """`work` inside a transaction, which is begun again while another process keeps it from running."""
        give_up = time.monotonic() + BUSY_SECONDS
        pause = _FIRST_SLEEP_SECONDS
        with self._lock, _errors(self._path, self._watcher):
            while True:
                try:
                    db = self._connected()
                    with _transaction(db, begin):
                        return work(db)
                except sqlite3.OperationalError as error:
                    if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > give_up:
                        raise
                time.sleep(pause)
                pause = min(2 * pause, _LAST_SLEEP_SECONDS)

    def close(self) -> None:
        if self._db is not None and self._pid == os.getpid():
            self._db.close()
        self._db = None

    def _connected(self) -> sqlite3.Connection:
        if self._db is None or self._pid != os.getpid():
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._path.touch(mode=0o600)
            # Transactions are begun and ended here; the lock keeps threads apart.
            db = sqlite3.connect(self._path, timeout=0, isolation_level=None, check_same_thread=False)
            try:
                _prepare(db, self._path)
            except BaseException:
                db.close()
                raise
            self._db, self._pid = db, os.getpid()
        return self._db


def _prepare(db: sqlite3.Connection, path: Path) -> None:
    """Makes the tables, where there are none."""
    if _version(db) != _VERSION:
        db.execute("PRAGMA auto_vacuum = INCREMENTAL")  # before the first table, or never
        db.execute("PRAGMA journal_mode = WAL")
        with _transaction(db, "BEGIN IMMEDIATE"):
            found = _version(db)
            if found == 0:  # else: another process was faster
                for statement in _statements(SCHEMA):
                    db.execute(statement)
                db.execute(f"PRAGMA user_version = {_VERSION}")
            elif found != _VERSION:
                raise StoreUnavailable(
                    f"{path} was made by another version of deepseek-proxy (its format is {found}, this "
                    f"one's {_VERSION}): move the file away, or set store_url to another."
                )
    db.execute("PRAGMA synchronous = NORMAL")
    db.execute(f"PRAGMA wal_autocheckpoint = {_LAST_CHECKPOINT_PAGES}")
    db.execute(f"PRAGMA journal_size_limit = {_WAL_BYTES}")


def _tidy(path: Path) -> None:
    """In a thread of the operating system: it knows no locks of ours, and may wait inside SQLite."""
    with closing(sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None)) as db:
        db.execute(f"PRAGMA journal_size_limit = {_WAL_BYTES}")
        # It works a page at a time, and only a script is run to its end.
        db.executescript(f"PRAGMA incremental_vacuum({_FREED_PAGES})")
        db.execute("PRAGMA wal_checkpoint").fetchone()


@contextmanager
def _transaction(db: sqlite3.Connection, begin: str) -> Iterator[None]:
    db.execute(begin)
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        with suppress(sqlite3.Error):
            db.execute("ROLLBACK")
        raise


@contextmanager
def _errors(path: Path, watcher: Watcher) -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        watcher.failed()
        raise StoreUnavailable(
            f"The gateway's store ({path.name}) cannot be used: {error}.", retry_after=5
        ) from error


def _version(db: sqlite3.Connection) -> int:
    found: tuple[int] = db.execute("PRAGMA user_version").fetchone()
    return found[0]


def _statements(script: str) -> Iterator[str]:
    """The statements of a script, one by one: `executescript` would end the transaction."""
    statement = ""
    for line in script.strip().splitlines():
        statement += f"{line}\n"
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


def one(db: sqlite3.Connection, query: str, *values: Any) -> Any:
    """The first column of the first row; None where there is none."""
    row = db.execute(query, values).fetchone()
    return row[0] if row is not None else None
