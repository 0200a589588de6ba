"""A SQLite file that several processes share: its connections, its transactions, its failures.

Made for many processes at once: a write-ahead log, so that readers wait for nobody, and short write
transactions that wait for each other. The log is synced at checkpoints only: a process that is killed loses
nothing that was committed, a power failure may lose the last moments, neither harms the file.

Under gevent a call into SQLite stops every stream of the worker. So what is slow in it happens elsewhere: the
wait for another process' transaction is made of small sleeps here, and checkpoints, which wait for the disk,
can be made by a thread of the operating system (`lane`). What remains writes to memory, in a fraction of a
millisecond. To make all calls in such a thread was measured, too: each of a transaction's statements then
has to fight for the interpreter with the streams, and the end of an answer took a hundred times as long.

Refuses to know what is in its tables. SQLite 3.35 or later.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

from deepseek_proxy.errors import ProxyError
from deepseek_proxy.store.lane import lane

BUSY_SECONDS: Final = 5.0
"""Longest wait for other processes' transactions; each takes milliseconds."""
CHECKPOINT_BYTES: Final = 4 * 1024 * 1024
"""How large the log is when a checkpoint is due."""
_CHECKPOINT_PAGES: Final = 1000  # the same
_LAST_CHECKPOINT_PAGES: Final = 16_384
"""At 64 MB it is made by whoever writes, where it is others' business and nobody did."""
_WAL_BYTES: Final = 16 * 1024 * 1024
"""To what a log that had to grow, while somebody read for long, is cut again."""
_FREED_PAGES: Final = 1000
"""How many pages are given back to the disk at a time."""
_FIRST_SLEEP_SECONDS: Final = 0.0005
_LAST_SLEEP_SECONDS: Final = 0.01

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Format:
    """What a file is made with: the script of its tables, and their version, which no other file may have."""

    script: str
    version: int


class SqliteFile:
    """The file `path`, which is made with the first use. One connection writes, another reads meanwhile.

    `failed` makes the error of a call from its reason. With `is_tidied` somebody calls `tidy` now and then;
    without, whoever writes waits for the disk once in a while. What is given to `read` and `write` must be
    quick, and wait for nothing but SQLite.
    """

    def __init__(
        self, path: Path, format: Format, failed: Callable[[str], ProxyError], *, is_tidied: bool = False
    ) -> None:
        self._path = path
        self._failed = failed
        pages = _LAST_CHECKPOINT_PAGES if is_tidied else _CHECKPOINT_PAGES
        self._reader, self._writer = (_Connection(path, format, failed, pages) for _ in range(2))
        self._lane = lane()

    def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """`work` sees one state of the file. Raises what `failed` makes."""
        return self._reader.run("BEGIN", work)

    def write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """`work` is done as a whole, or, where it raises, not at all. Raises what `failed` makes."""
        return self._writer.run("BEGIN IMMEDIATE", work)

    def tidy(self) -> None:
        """Moves what was written from the log to its place, once there is much, and gives pages that nothing
        uses any more back to the disk. Only its caller waits. Raises what `failed` makes."""
        log = self._path.with_name(f"{self._path.name}-wal")
        try:
            if log.stat().st_size >= CHECKPOINT_BYTES:
                with _errors(self._failed):
                    self._lane.run(partial(_tidy, self._path))
        except FileNotFoundError:
            pass  # nothing was written yet

    def close(self) -> None:
        self._lane.close()
        self._reader.close()
        self._writer.close()


class _Connection:
    """Connects with the first use, and once more after a fork: connections do not outlive one."""

    def __init__(
        self, path: Path, format: Format, failed: Callable[[str], ProxyError], checkpoint_pages: int
    ) -> None:
        self._path = path
        self._format = format
        self._failed = failed
        self._checkpoint_pages = checkpoint_pages
        self._lock = threading.Lock()
        self._pid = 0
        self._db: sqlite3.Connection | None = None

    def run(self, begin: str, work: Callable[[sqlite3.Connection], T]) -> T:
        """`work` inside a transaction, which is begun again while another process keeps it from running."""
        give_up = time.monotonic() + BUSY_SECONDS  # from now on: others may be in front of the lock
        pause = _FIRST_SLEEP_SECONDS
        with self._lock, _errors(self._failed):
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
                self._prepare(db)
            except BaseException:
                db.close()
                raise
            self._db, self._pid = db, os.getpid()
        return self._db

    def _prepare(self, db: sqlite3.Connection) -> None:
        """Makes the tables, where there are none."""
        format = self._format
        if _version(db) != format.version:
            db.execute("PRAGMA auto_vacuum = INCREMENTAL")  # before the first table, or never
            db.execute("PRAGMA journal_mode = WAL")
            with _transaction(db, "BEGIN IMMEDIATE"):
                found = _version(db)
                if found == 0:  # else: another process was faster
                    for statement in _statements(format.script):
                        db.execute(statement)
                    db.execute(f"PRAGMA user_version = {format.version}")
                elif found != format.version:
                    raise self._failed(
                        f"it was made by another version of deepseek-proxy (its format is {found}, this "
                        f"one's {format.version}): move it away"
                    )
        db.execute("PRAGMA synchronous = NORMAL")
        db.execute(f"PRAGMA wal_autocheckpoint = {self._checkpoint_pages}")
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
def _errors(failed: Callable[[str], ProxyError]) -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        # Without the path: clients read it.
        raise failed(error.strerror or "" if isinstance(error, OSError) else str(error)) from error


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
