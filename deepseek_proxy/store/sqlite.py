"""The store in a SQLite file, shared by the worker processes of one machine (`base.Backend`).

Refuses to know how the file is opened and locked (`sqlite_file`), and what is in the blobs.
"""

from __future__ import annotations

import sqlite3
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Final

from deepseek_proxy.errors import StoreUnavailable
from deepseek_proxy.store import sqlite_rows as rows
from deepseek_proxy.store.base import (
    ENDED,
    Conversation,
    Ending,
    Entry,
    Head,
    Limits,
    Located,
    LogPiece,
    Nobody,
    RawEvents,
    RawPage,
    Segment,
    StoredResponse,
    Thought,
    Usage,
    Watcher,
    full,
    page,
    too_large,
)
from deepseek_proxy.store.sqlite_file import Format, SqliteFile, one
from deepseek_proxy.store.sqlite_tables import SCHEMA, VERSION

_PIECES_AT_ONCE: Final = 32
"""Half a millisecond's work."""
_VALUES_AT_ONCE: Final = 500
"""SQLite's old limit for the values of one statement is 999."""

_RESPONSE: Final = """
    SELECT r.id, r.created_at, r.expires_at, r.status, r.blob, i.head, r.own_input, h.head, r.conversation,
        r.background, r.worker, r.gaps, r.ended, w.until
    FROM owners o JOIN responses r ON r.owner = o.n
        LEFT JOIN segments i ON i.n = r.input LEFT JOIN segments h ON h.n = r.head
        LEFT JOIN workers w ON w.id = r.worker
    WHERE o.name = ? AND r.id = ? AND r.expires_at > ?"""
_UP_THE_CHAIN: Final = """
    WITH RECURSIVE chain (n, depth) AS (
        SELECT n, 0 FROM segments WHERE owner = ? AND head = ?
        UNION ALL SELECT s.parent, depth + 1 FROM chain JOIN segments s USING (n) WHERE s.parent IS NOT NULL)
    SELECT %s FROM chain JOIN segments USING (n)"""
_CHAIN: Final = _UP_THE_CHAIN % "blob" + " ORDER BY depth DESC"
_CHAIN_SIZE: Final = _UP_THE_CHAIN % "sum(length(blob))"
_RUNNING: Final = """
    SELECT r.n FROM owners o JOIN responses r ON r.owner = o.n
    WHERE o.name = ? AND r.id = ? AND NOT r.ended AND r.expires_at > ?"""


class SqliteBackend:
    """`clock` gives the seconds of the epoch."""

    name = "sqlite"

    def __init__(
        self,
        path: Path,
        limits: Limits,
        clock: Callable[[], float] = time.time,
        watcher: Watcher | None = None,
    ) -> None:
        self._file = SqliteFile(path, Format(SCHEMA, VERSION), self._failed, is_tidied=True)
        self._path = path
        self._watcher = watcher or Nobody()
        self._limits = limits
        self._clock = clock

    def close(self) -> None:
        self._file.close()

    def is_there(self) -> bool:
        return self._path.exists()

    def advice(self) -> Sequence[str]:
        if sqlite3.sqlite_version_info < (3, 35):
            return [f"SQLite {sqlite3.sqlite_version} is too old: 3.35 or later is needed"]
        return ()

    def _failed(self, reason: str) -> StoreUnavailable:
        self._watcher.failed()
        return StoreUnavailable(
            f"The gateway's store ({self._path.name}) cannot be used: {reason}.", retry_after=5
        )

    # -- chains

    def longest(self, owner: str, heads: Sequence[Head]) -> Head | None:
        def work(db: sqlite3.Connection) -> Head | None:
            for end in range(len(heads), 0, -_VALUES_AT_ONCE):
                part = heads[max(end - _VALUES_AT_ONCE, 0) : end]
                marks = ",".join("?" * len(part))
                query = f"SELECT head FROM segments WHERE owner = ? AND head IN ({marks})"  # noqa: S608  # marks
                found = {head for (head,) in db.execute(query, (rows.number_of(db, owner), *part))}
                if found:
                    return next(head for head in reversed(part) if head in found)
            return None

        return self._file.read(work)

    def chain(self, owner: str, head: Head, most_bytes: int) -> list[bytes]:
        def work(db: sqlite3.Connection) -> list[bytes]:
            n = rows.number_of(db, owner)
            if (one(db, _CHAIN_SIZE, n, head) or 0) > most_bytes:
                raise too_large(most_bytes)
            return [blob for (blob,) in db.execute(_CHAIN, (n, head))]

        blobs = self._file.read(work)
        if not blobs:
            raise LookupError("there is no such chain")
        return blobs

    def locate(self, owner: str, ids: Sequence[str], most_bytes: int) -> Sequence[Located]:
        def work(db: sqlite3.Connection) -> Sequence[Located]:
            places: defaultdict[tuple[int | None, int | None], list[str]] = defaultdict(list)
            n = rows.number_of(db, owner)
            query = "SELECT segment, entry FROM places WHERE owner = ? AND item = ?"
            for id in ids:
                for place in db.execute(query, (n, id)).fetchall():
                    places[place].append(id)
            query = "SELECT blob FROM segments WHERE n = ? UNION ALL SELECT blob FROM entries WHERE n = ?"
            found: list[Located] = []
            size = 0
            for place, held in places.items():
                blob = one(db, query, *place)
                size += len(blob)
                if size > most_bytes:
                    raise too_large(most_bytes)
                found.append(Located(blob, held))
            return found

        return self._file.read(work)

    # -- responses

    def insert(self, response: StoredResponse, segment: Segment | None) -> bool:
        def work(db: sqlite3.Connection) -> bool:
            owner = rows.made_number_of(db, response.owner)
            base = segment.parent if segment is not None else response.input
            last = rows.segment_of(db, owner, base)
            if base is not None and last is None:
                return False
            size = len(response.body) + (len(segment.blob) if segment is not None else 0)
            self._make_room(db, owner, size)
            if segment is not None:
                last = rows.keep(db, owner, segment, last)
            rows.refer(db, last)
            db.execute(
                "INSERT INTO responses (owner, id, created_at, expires_at, status, ended, blob, input,"
                " own_input, conversation, background, worker) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    owner,
                    response.id,
                    response.created_at,
                    response.expires_at,
                    response.status,
                    response.status in ENDED,
                    response.body,
                    last,
                    response.own_input,
                    response.conversation,
                    response.background,
                    response.worker,
                ),
            )
            return True

        return self._file.write(work)

    def response(self, owner: str, id: str) -> StoredResponse | None:
        now = self._clock()
        row = self._file.read(lambda db: db.execute(_RESPONSE, (owner, id, now)).fetchone())
        if row is None:
            return None
        *_, gaps, ended, alive_until = row
        return StoredResponse(
            id=row[0],
            owner=owner,
            created_at=row[1],
            expires_at=row[2],
            status=row[3],
            body=row[4],
            input=row[5],
            own_input=row[6],
            head=row[7],
            conversation=row[8],
            background=bool(row[9]),
            worker=row[10],
            abandoned=not ended and (alive_until or 0) <= now,
            gaps=bool(gaps),
        )

    def update(self, owner: str, id: str, status: str, body: bytes) -> bool:
        def work(db: sqlite3.Connection) -> bool:
            n = one(db, _RUNNING, owner, id, self._clock())
            db.execute("UPDATE responses SET status = ?, blob = ? WHERE n = ?", (status, body, n))
            return n is not None

        return self._file.write(work)

    def finish(self, owner: str, id: str, ending: Ending) -> bool:
        def work(db: sqlite3.Connection) -> bool:
            n = one(db, _RUNNING, owner, id, self._clock())
            if n is None:
                return False
            query = "SELECT owner, input, conversation, expires_at FROM responses WHERE n = ?"
            owner_n, head, conversation, expires_at = db.execute(query, (n,)).fetchone()
            self._append(db, ending.pieces)
            if ending.output is not None:
                head = rows.keep(db, owner_n, ending.output, head)
            rows.refer(db, head)
            db.execute(
                "UPDATE responses SET status = ?, ended = 1, blob = ?, head = ?, gaps = ? WHERE n = ?",
                (ending.status, ending.body, head, ending.gaps, n),
            )
            talk = self._talk(db, owner, conversation) if ending.entries else None
            if talk is not None:
                rows.extend(db, owner_n, talk, ending.entries, expires_at)
            return True

        return self._file.write(work)

    def delete(self, owner: str, id: str) -> bool:
        def work(db: sqlite3.Connection) -> bool:
            query = "SELECT r.n FROM owners o JOIN responses r ON r.owner = o.n"
            query += " WHERE o.name = ? AND r.id = ? AND r.expires_at > ?"
            n = one(db, query, owner, id, self._clock())
            if n is not None:
                rows.remove(db, n)
            return n is not None

        return self._file.write(work)

    def _make_room(self, db: sqlite3.Connection, owner: int, size: int) -> None:
        held = one(db, "SELECT bytes FROM owners WHERE n = ?", owner)
        if held + size > self._limits.owner_bytes:
            raise full(for_owner=True)
        if one(db, "SELECT bytes FROM totals") + size > self._limits.total_bytes:
            raise full(for_owner=False)

    # -- event logs

    def append(self, pieces: Sequence[LogPiece]) -> None:
        for start in range(0, len(pieces), _PIECES_AT_ONCE):
            part = pieces[start : start + _PIECES_AT_ONCE]
            self._file.write(partial(self._append, pieces=part))
            time.sleep(0)  # others' turn

    def _append(self, db: sqlite3.Connection, pieces: Sequence[LogPiece]) -> None:
        now = self._clock()
        db.executemany(
            "INSERT OR IGNORE INTO pieces (owner, response, first, blob)"
            " SELECT r.owner, r.n, ?, ? FROM owners o JOIN responses r ON r.owner = o.n"
            " WHERE o.name = ? AND r.id = ? AND NOT r.ended AND r.expires_at > ?",
            [(piece.first, piece.blob, piece.owner, piece.response, now) for piece in pieces],
        )

    def events(self, owner: str, id: str, after: int, most_bytes: int) -> RawEvents | None:
        def work(db: sqlite3.Connection) -> RawEvents | None:
            query = "SELECT r.n, r.ended, r.gaps, w.until FROM owners o JOIN responses r ON r.owner = o.n"
            query += (
                " LEFT JOIN workers w ON w.id = r.worker WHERE o.name = ? AND r.id = ? AND r.expires_at > ?"
            )
            row = db.execute(query, (owner, id, now := self._clock())).fetchone()
            if row is None:
                return None
            n, ended, gaps, alive_until = row
            query = "SELECT max(first) FROM pieces WHERE response = ? AND first <= ?"
            start = one(db, query, n, after + 1)
            query = "SELECT first, blob FROM pieces WHERE response = ? AND first >= ? ORDER BY first"
            pieces: list[tuple[int, bytes]] = []
            size = 0
            for piece in db.execute(query, (n, start or 0)):
                if pieces and size + len(piece[1]) > most_bytes:
                    return RawEvents(pieces, False, False, bool(gaps))
                pieces.append(piece)
                size += len(piece[1])
            return RawEvents(pieces, bool(ended), not ended and (alive_until or 0) <= now, bool(gaps))

        return self._file.read(work)

    # -- workers

    def beat(self, worker: str, seconds: float) -> None:
        until = self._clock() + seconds
        self._file.write(lambda db: db.execute("REPLACE INTO workers VALUES (?, ?)", (worker, until)))

    def request_cancel(self, owner: str, id: str) -> bool:
        def work(db: sqlite3.Connection) -> bool:
            n = one(db, _RUNNING, owner, id, self._clock())
            db.execute("UPDATE responses SET cancel = 1 WHERE n = ?", (n,))
            return n is not None

        return self._file.write(work)

    def cancels(self, worker: str) -> Sequence[tuple[str, str]]:
        query = """
            SELECT o.name, r.id FROM responses r JOIN owners o ON o.n = r.owner
            WHERE r.worker = ? AND r.cancel AND NOT r.ended"""
        return self._file.read(lambda db: db.execute(query, (worker,)).fetchall())

    # -- conversations

    def create(self, conversation: Conversation, entries: Sequence[Entry], expires_at: float) -> None:
        def work(db: sqlite3.Connection) -> None:
            owner = rows.made_number_of(db, conversation.owner)
            self._make_room(db, owner, sum(len(entry.blob) for entry in entries))
            n = one(
                db,
                "INSERT INTO conversations (owner, id, created_at, expires_at, blob) VALUES (?, ?, ?, ?, ?)"
                " RETURNING n",
                owner,
                conversation.id,
                conversation.created_at,
                expires_at,
                conversation.metadata,
            )
            rows.extend(db, owner, n, entries, expires_at)

        self._file.write(work)

    def conversation(self, owner: str, id: str) -> Conversation | None:
        def work(db: sqlite3.Connection) -> Conversation | None:
            n = self._talk(db, owner, id)
            query = "SELECT created_at, blob FROM conversations WHERE n = ?"
            row = db.execute(query, (n,)).fetchone()
            return Conversation(id, owner, *row) if row is not None else None

        return self._file.read(work)

    def change(self, owner: str, id: str, metadata: bytes, expires_at: float) -> bool:
        def work(db: sqlite3.Connection) -> bool:
            n = self._talk(db, owner, id)
            query = "UPDATE conversations SET blob = ?, expires_at = ? WHERE n = ?"
            db.execute(query, (metadata, expires_at, n))
            return n is not None

        return self._file.write(work)

    def drop(self, owner: str, id: str) -> bool:
        def work(db: sqlite3.Connection) -> bool:
            n = self._talk(db, owner, id)
            if n is not None:
                rows.end(db, n)
            return n is not None

        return self._file.write(work)

    def add(self, owner: str, id: str, entries: Sequence[Entry], expires_at: float) -> bool:
        def work(db: sqlite3.Connection) -> bool:
            n = self._talk(db, owner, id)
            if n is None:
                return False
            owner_n = rows.number_of(db, owner)
            self._make_room(db, owner_n, sum(len(entry.blob) for entry in entries))
            rows.extend(db, owner_n, n, entries, expires_at)
            return True

        return self._file.write(work)

    def entries(
        self, owner: str, id: str, after: str | None, limit: int | None, descending: bool, most_bytes: int
    ) -> RawPage | None:
        def work(db: sqlite3.Connection) -> RawPage | None:
            n = self._talk(db, owner, id)
            if n is None:
                return None
            start = None
            if after is not None:
                query = "SELECT n FROM entries WHERE conversation = ? AND item = ?"
                start = one(db, query, n, after)
                if start is None:
                    raise LookupError(after)
            way, order = ("<", "DESC") if descending else (">", "ASC")
            query = f"""
                SELECT blob FROM entries WHERE conversation = ? AND (? IS NULL OR n {way} ?)
                ORDER BY n {order}"""  # noqa: S608  # two words of our own
            found = db.execute(query, (n, start, start))
            return page((blob for (blob,) in found), limit, most_bytes)

        return self._file.read(work)

    def entry(self, owner: str, id: str, item: str) -> bytes | None:
        def work(db: sqlite3.Connection) -> bytes | None:
            query = "SELECT blob FROM entries WHERE conversation = ? AND item = ?"
            found: bytes | None = one(db, query, self._talk(db, owner, id), item)
            return found

        return self._file.read(work)

    def remove(self, owner: str, id: str, item: str) -> bool:
        def work(db: sqlite3.Connection) -> bool:
            query = "DELETE FROM entries WHERE conversation = ? AND item = ? RETURNING n"
            n = one(db, query, self._talk(db, owner, id), item)
            query = "DELETE FROM places WHERE owner = ? AND item = ? AND entry = ?"
            db.execute(query, (rows.number_of(db, owner), item, n))
            return n is not None

        return self._file.write(work)

    def _talk(self, db: sqlite3.Connection, owner: str, id: str) -> int | None:
        query = "SELECT c.n FROM owners o JOIN conversations c ON c.owner = o.n"
        query += " WHERE o.name = ? AND c.id = ? AND c.expires_at > ?"
        n: int | None = one(db, query, owner, id, self._clock())
        return n

    # -- thoughts

    def remember(self, thoughts: Sequence[Thought]) -> None:
        def work(db: sqlite3.Connection) -> None:
            for thought in thoughts:
                owner = rows.made_number_of(db, thought.owner)
                db.execute(
                    "INSERT INTO thoughts (owner, name, expires_at, blob) VALUES (?, ?, ?, ?)"
                    " ON CONFLICT (owner, name) DO UPDATE"
                    " SET expires_at = excluded.expires_at, blob = excluded.blob",
                    (owner, thought.name, thought.expires_at, thought.blob),
                )

        self._file.write(work)

    def recall(self, owner: str, name: str) -> bytes | None:
        query = "SELECT t.blob FROM owners o JOIN thoughts t ON t.owner = o.n"
        query += " WHERE o.name = ? AND t.name = ? AND t.expires_at > ?"
        found: bytes | None = self._file.read(lambda db: one(db, query, owner, name, self._clock()))
        return found

    # -- upkeep

    def claim(self, duty: str, worker: str, seconds: float) -> bool:
        def work(db: sqlite3.Connection) -> bool:
            row = db.execute("SELECT worker, until FROM duties WHERE name = ?", (duty,)).fetchone()
            if row is not None and row[0] != worker and row[1] > self._clock():
                return False
            db.execute("REPLACE INTO duties VALUES (?, ?, ?)", (duty, worker, self._clock() + seconds))
            return True

        return self._file.write(work)

    def sweep(self, most: int) -> int:
        return self._file.write(lambda db: self._sweep(db, most))

    def tidy(self) -> None:
        self._file.tidy()

    def _sweep(self, db: sqlite3.Connection, most: int) -> int:
        now = self._clock()
        done = 0
        for table, take_out in rows.AGING.items():
            query = f"SELECT n FROM {table} WHERE expires_at <= ? LIMIT ?"  # noqa: S608  # names of our own
            for (n,) in db.execute(query, (now, most - done)).fetchall():
                take_out(db, n)
                done += 1
        for take_out, n in self._superfluous(db, most - done):
            take_out(db, n)
            done += 1
        if done < most:
            db.execute("DELETE FROM workers WHERE until <= ?", (now,))
            db.execute("DELETE FROM duties WHERE until <= ?", (now,))
            db.execute("DELETE FROM owners WHERE bytes = 0")
        return done

    def _superfluous(self, db: sqlite3.Connection, most: int) -> Iterator[tuple[rows.TakeOut, int]]:
        """The oldest of those who have too much, then the oldest of all, one at a time."""
        query = "SELECT n FROM owners WHERE bytes > ?"
        full = [n for (n,) in db.execute(query, (0.9 * self._limits.owner_bytes,)).fetchall()]
        for owner in (*full, None):
            is_full = "SELECT bytes > ? FROM owners WHERE n = ?", 0.9 * self._limits.owner_bytes, owner
            if owner is None:
                is_full = "SELECT bytes > ? FROM totals WHERE ? IS NULL", 0.9 * self._limits.total_bytes, None
            while most > 0 and one(db, *is_full):
                found = self._oldest(db, owner)
                if found is None:
                    break
                yield found
                most -= 1

    def _oldest(self, db: sqlite3.Connection, owner: int | None) -> tuple[rows.TakeOut, int] | None:
        whose = "owner = ?" if owner is not None else "? IS NULL"
        n = one(db, f"SELECT n FROM thoughts WHERE {whose} ORDER BY n LIMIT 1", owner)  # noqa: S608  # own words
        if n is not None:
            return rows.forget, n
        query = f"""
            SELECT n FROM responses WHERE {whose}
            AND (ended OR worker NOT IN (SELECT id FROM workers WHERE until > ?)) ORDER BY n LIMIT 1"""  # noqa: S608
        n = one(db, query, owner, self._clock())
        return (rows.remove, n) if n is not None else None

    def usage(self, owner: str | None) -> Usage:
        def work(db: sqlite3.Connection) -> Usage:
            if owner is None:
                size = one(db, "SELECT bytes FROM totals")
                responses = one(db, "SELECT count(*) FROM responses")
                return Usage(size, responses, one(db, "SELECT count(*) FROM conversations"))
            n = rows.number_of(db, owner)
            return Usage(
                one(db, "SELECT bytes FROM owners WHERE n = ?", n) or 0,
                one(db, "SELECT count(*) FROM responses WHERE owner = ?", n),
                one(db, "SELECT count(*) FROM conversations WHERE owner = ?", n),
            )

        return self._file.read(work)
