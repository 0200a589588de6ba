"""The tables of the SQLite store.

Rows are counted by triggers, so that sizes cannot drift from what is there. Refuses to know who reads and
writes them (`sqlite`, `sqlite_rows`).
"""

from __future__ import annotations

from typing import Final

from deepseek_proxy.store.base import ROW_BYTES

VERSION: Final = 1
"""Of the format: to be raised with each change of it."""
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
