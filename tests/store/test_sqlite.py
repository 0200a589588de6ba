"""What only the SQLite store can get wrong: files, processes, and what a killed one leaves behind."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from deepseek_proxy.errors import StoreUnavailable
from deepseek_proxy.store.base import Item, Limits, NewResponse
from deepseek_proxy.store.keeper import Recording
from deepseek_proxy.store.sqlite import SqliteBackend
from deepseek_proxy.store.sqlite_file import CHECKPOINT_BYTES
from deepseek_proxy.store.store import Store

ROOMY = Limits(1 << 30, 1 << 30)

# Writes one response after another, and says the id of each that is finished; meanwhile another goes on.
WRITER = """
import sys, pathlib
from deepseek_proxy.store.base import Item, Limits, NewResponse
from deepseek_proxy.store.sqlite import SqliteBackend
from deepseek_proxy.store.store import Store

store = Store(SqliteBackend(pathlib.Path(sys.argv[1]), Limits(1 << 30, 1 << 30)))
running = store.begin(NewResponse("resp_running" + sys.argv[2], "ann", 1, "in_progress", b"{}"))
head, number = None, 0
while True:
    id = f"resp_{sys.argv[2]}_{number}"
    recording = store.begin(NewResponse(id, "ann", 1, "in_progress", b"{}", head, [Item(f"q{id}", b"{}")]))
    for first in range(20):
        recording.append(first, b"data: %d\\n\\n" % first)
        running.append(number * 20 + first, b"x" * 100)
    store.finish(recording, "completed", b'{"n":%d}' % number, [Item(f"a{id}", b"{}")])
    head = store.get("ann", id).head
    print(id, flush=True)
    number += 1
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    store = Store(SqliteBackend(path, ROOMY))
    yield store
    store.close()


def begin(store: Store, id: str) -> Recording:
    return store.begin(NewResponse(id, "ann", 1, "in_progress", b"{}", None, [Item(f"q{id}", b"{}")]))


def is_sound(path: Path) -> bool:
    db = sqlite3.connect(path)
    try:
        return db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    finally:
        db.close()


def test_killed_processes_lose_nothing_that_was_finished(path: Path, store: Store) -> None:
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(path), str(n)], stdout=subprocess.PIPE, text=True)
        for n in range(2)
    ]
    said: list[tuple[int, str]] = []
    for n, writer in enumerate(writers):
        assert writer.stdout is not None
        said += [(n, writer.stdout.readline().strip()) for _ in range(12)]
    time.sleep(0.3)
    for writer in writers:
        os.kill(writer.pid, signal.SIGKILL)
    for n, writer in enumerate(writers):
        rest, _ = writer.communicate()
        assert writer.returncode == -signal.SIGKILL
        # The last line may have been cut.
        said += [(n, id) for id in rest.split("\n")[:-1]]
    assert is_sound(path)
    for n, id in said:
        found = store.get("ann", id)
        assert found is not None, id
        assert found.status == "completed"
        events = store.events("ann", id)
        assert events is not None
        assert b"".join(piece.data for piece in events.pieces).count(b"data: ") == 20
        turn = int(id.rpartition("_")[2])
        assert found.body == b'{"n":%d}' % turn
        assert len(store.items("ann", found.head)) == 2 * (turn + 1)
        assert id.startswith(f"resp_{n}_")
    # And others go on at once.
    recording = store.begin(
        NewResponse("resp_after", "ann", 1, "in_progress", b"{}", None, [Item("i", b"{}")])
    )
    assert store.finish(recording, "completed", b"{}")


def test_sizes_are_those_of_the_rows(path: Path, store: Store) -> None:
    for number in range(20):
        recording = begin(store, f"resp_{number}")
        recording.append(0, os.urandom(20_000))
        store.finish(recording, "completed", os.urandom(20_000))
    said = store.usage().bytes
    store.close()
    assert 0.9 < path.stat().st_size / said < 1.5


def test_room_is_given_back_to_the_disk(path: Path) -> None:
    store = Store(SqliteBackend(path, Limits(10_000, 1 << 30)))
    store.finish(begin(store, "resp_1"), "completed", os.urandom(CHECKPOINT_BYTES))
    store.backend.tidy()
    assert path.stat().st_size > CHECKPOINT_BYTES
    assert store.backend.sweep(10) == 1
    store.finish(begin(store, "resp_2"), "completed", os.urandom(CHECKPOINT_BYTES))
    assert store.backend.sweep(10) == 1
    store.backend.tidy()
    assert path.stat().st_size < CHECKPOINT_BYTES / 4
    store.close()


def test_the_log_does_not_grow_for_ever(path: Path, store: Store) -> None:
    for number in range(8):
        store.finish(begin(store, f"resp_{number}"), "completed", os.urandom(CHECKPOINT_BYTES // 2))
        store.backend.tidy()
    assert path.with_name("store.db-wal").stat().st_size < 3 * CHECKPOINT_BYTES


def test_another_programs_file_is_left_alone(path: Path, store: Store) -> None:
    path.write_bytes(b"this is no database, but somebody's text " * 100)
    before = path.read_bytes()
    with pytest.raises(StoreUnavailable, match="not a database"):
        store.usage()
    assert path.read_bytes() == before


def test_another_versions_file_is_left_alone(path: Path, store: Store) -> None:
    db = sqlite3.connect(path)
    db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(StoreUnavailable, match="another version"):
        store.usage()


def test_a_lock_that_nobody_gives_back_is_not_waited_for_for_ever(
    path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deepseek_proxy.store.sqlite_file.BUSY_SECONDS", 0.2)
    store.usage()
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    started = time.monotonic()
    with pytest.raises(StoreUnavailable, match="locked"):
        begin(store, "resp_1")
    assert time.monotonic() - started < 5
    assert store.usage().responses == 0  # reading goes on
    other.execute("ROLLBACK")
    other.close()
    begin(store, "resp_1")
