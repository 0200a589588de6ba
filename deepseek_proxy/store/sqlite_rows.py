"""Changes to the SQLite store that several operations have in common, each inside a transaction of theirs.

Owners, segments, responses, conversations and thoughts go by their row numbers here. Segments are counted by
reference: one that nothing refers to any more is deleted, and what it stood on with it.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from deepseek_proxy.store.base import Entry, Head, Segment
from deepseek_proxy.store.sqlite_file import one

TakeOut = Callable[[sqlite3.Connection, int], None]


def number_of(db: sqlite3.Connection, name: str) -> int:
    """The number of an owner; 0, which nobody has, where nothing of it is kept."""
    n: int | None = one(db, "SELECT n FROM owners WHERE name = ?", name)
    return n or 0


def made_number_of(db: sqlite3.Connection, name: str) -> int:
    db.execute("INSERT OR IGNORE INTO owners (name) VALUES (?)", (name,))
    return number_of(db, name)


def segment_of(db: sqlite3.Connection, owner: int, head: Head | None) -> int | None:
    n: int | None = one(db, "SELECT n FROM segments WHERE owner = ? AND head = ?", owner, head)
    return n


def keep(db: sqlite3.Connection, owner: int, segment: Segment, parent: int | None) -> int:
    """The number of a segment, which is entered where it is not there."""
    known = segment_of(db, owner, segment.head)
    if known is not None:
        return known
    ids = json.dumps(segment.ids)
    query = "INSERT INTO segments (owner, head, parent, ids, blob) VALUES (?, ?, ?, ?, ?) RETURNING n"
    n: int = one(db, query, owner, segment.head, parent, ids, segment.blob)
    place(db, [(owner, id, n, None) for id in segment.ids])
    return n


def place(db: sqlite3.Connection, places: Sequence[tuple[int, str, int | None, int | None]]) -> None:
    db.executemany(
        "INSERT INTO places VALUES (?, ?, ?, ?)"
        " ON CONFLICT (owner, item) DO UPDATE SET segment = excluded.segment, entry = excluded.entry",
        places,
    )


def refer(db: sqlite3.Connection, segment: int | None) -> None:
    db.execute("UPDATE segments SET refs = refs + 1 WHERE n = ?", (segment,))


def let_go(db: sqlite3.Connection, segment: int | None) -> None:
    """Takes back a reference, and deletes what has none any more, up the chain."""
    while segment is not None:
        query = "UPDATE segments SET refs = refs - 1 WHERE n = ? RETURNING refs, owner, parent, ids"
        ((refs, owner, parent, ids),) = db.execute(query, (segment,)).fetchall()
        if refs:
            return
        db.execute("DELETE FROM segments WHERE n = ?", (segment,))
        db.executemany(
            "DELETE FROM places WHERE owner = ? AND item = ? AND segment = ?",
            [(owner, id, segment) for id in json.loads(ids)],
        )
        segment = parent


def remove(db: sqlite3.Connection, response: int) -> None:
    db.execute("DELETE FROM pieces WHERE response = ?", (response,))
    query = "DELETE FROM responses WHERE n = ? RETURNING head, input"
    ((head, input),) = db.execute(query, (response,)).fetchall()
    let_go(db, head)
    let_go(db, input)


def extend(
    db: sqlite3.Connection, owner: int, conversation: int, entries: Sequence[Entry], expires_at: float
) -> None:
    db.execute("UPDATE conversations SET expires_at = ? WHERE n = ?", (expires_at, conversation))
    for entry in entries:
        query = "INSERT OR IGNORE INTO entries (owner, conversation, item, blob) VALUES (?, ?, ?, ?)"
        made = db.execute(query, (owner, conversation, entry.id, entry.blob))
        if made.rowcount:
            place(db, [(owner, entry.id, None, made.lastrowid)])


def end(db: sqlite3.Connection, conversation: int) -> None:
    query = "DELETE FROM entries WHERE conversation = ? RETURNING owner, item, n"
    gone = db.execute(query, (conversation,)).fetchall()
    db.executemany("DELETE FROM places WHERE owner = ? AND item = ? AND entry = ?", gone)
    db.execute("DELETE FROM conversations WHERE n = ?", (conversation,))


def forget(db: sqlite3.Connection, thought: int) -> None:
    db.execute("DELETE FROM thoughts WHERE n = ?", (thought,))


AGING: Final[Mapping[str, TakeOut]] = {"responses": remove, "conversations": end, "thoughts": forget}
