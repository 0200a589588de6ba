"""The ledger in a SQLite file: several processes, a killed one, and a file that cannot be used."""

from __future__ import annotations

import secrets
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from harness.threads import at_once
from harness.waiting import wait_for

from deepseek_proxy.store.ledger.base import Hold, LedgerUnavailable
from deepseek_proxy.store.ledger.sqlite import SqliteLedger

# Takes and gives back a place, again and again, and looks whether more are taken than may be.
WORKER = """
import secrets, sys, time
from pathlib import Path
from deepseek_proxy.store.ledger.base import Hold
from deepseek_proxy.store.ledger.sqlite import SqliteLedger

ledger, taken = SqliteLedger(Path(sys.argv[1])), 0
until = time.monotonic() + 30
while taken < 100 and time.monotonic() < until:
    lease = ledger.acquire(secrets.token_hex(8), [[Hold("a", 2)]], sys.argv[2], 30)
    if lease is not None:
        taken += 1
        assert ledger.held(["a"])["a"] <= 2
        ledger.add({"taken": 1}, time.time() + 60)
        assert ledger.release(lease)
"""

HOLDER = """
import sys, time
from pathlib import Path
from deepseek_proxy.store.ledger.base import Hold
from deepseek_proxy.store.ledger.sqlite import SqliteLedger

ledger = SqliteLedger(Path(sys.argv[1]))
assert ledger.acquire("theirs", [[Hold("a", 1)]], "killed", 0.5)
print("held", flush=True)
time.sleep(60)
"""


def test_processes_keep_to_one_limit_and_lose_no_count(tmp_path: Path) -> None:
    path = tmp_path / "state" / "ledger.db"
    workers = [
        subprocess.Popen([sys.executable, "-c", WORKER, str(path), f"w{number}"]) for number in range(4)
    ]
    assert [worker.wait(60) for worker in workers] == [0, 0, 0, 0]
    ledger = SqliteLedger(path)
    assert ledger.read(["taken"]) == {"taken": 400}
    assert ledger.held(["a"]) == {"a": 0}
    assert path.stat().st_mode & 0o777 == 0o600
    ledger.close()


def test_what_a_killed_process_held_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    worker = subprocess.Popen([sys.executable, "-c", HOLDER, str(path)], stdout=subprocess.PIPE)
    assert worker.stdout is not None
    assert worker.stdout.readline() == b"held\n"
    worker.send_signal(signal.SIGKILL)
    worker.wait()
    worker.stdout.close()
    ledger = SqliteLedger(path)
    wait_for(lambda: ledger.acquire(secrets.token_hex(8), [[Hold("a", 1)]], "heir", 30), 10)
    ledger.close()


def test_threads_take_turns(tmp_path: Path) -> None:
    ledger = SqliteLedger(tmp_path / "ledger.db")

    def work(_: int) -> None:
        for _turn in range(50):
            ledger.add({"n": 1}, time.time() + 60)
            ledger.held(["a"])

    at_once(8, work)
    assert ledger.read(["n"]) == {"n": 400}
    ledger.close()


def test_a_file_that_is_no_ledger_is_named(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    path.write_bytes(b"not a database at all, " * 100)
    with pytest.raises(LedgerUnavailable, match=r"ledger\.db.*not a database"):
        SqliteLedger(path)


def test_a_file_that_stays_locked_is_an_error_in_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deepseek_proxy.store.sqlite_file.BUSY_SECONDS", 0.1)
    path = tmp_path / "ledger.db"
    ledger = SqliteLedger(path)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(LedgerUnavailable, match="locked"):
        ledger.add({"n": 1}, time.time() + 60)
    other.execute("ROLLBACK")
    assert ledger.add({"n": 1}, time.time() + 60) == {"n": 1}
    other.close()
    ledger.close()


def test_those_behind_each_other_wait_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deepseek_proxy.store.sqlite_file.BUSY_SECONDS", 0.5)
    path = tmp_path / "ledger.db"
    ledger = SqliteLedger(path)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    refused: list[float] = []

    def work() -> None:
        with pytest.raises(LedgerUnavailable):
            ledger.mark("a", "b", 1)
        refused.append(time.monotonic())

    began = time.monotonic()
    threads = [threading.Thread(target=work) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(refused) == 10
    assert max(refused) - began < 2.5
    other.close()
    ledger.close()


def test_counters_survive_a_restart_and_old_ones_are_swept(tmp_path: Path) -> None:
    path, now = tmp_path / "ledger.db", 1_000.0
    ledger = SqliteLedger(path, lambda: now)
    ledger.add({"kept": 3}, now + 500)
    ledger.add({"old": 3}, now + 5)
    ledger.mark("old", "text", 5)
    ledger.close()
    ledger = SqliteLedger(path, lambda: now + 100)
    assert ledger.add({"kept": 1}, 0) == {"kept": 4}
    ledger.close()
    with sqlite3.connect(path) as db:
        assert [row[0] for row in db.execute("SELECT name FROM counters")] == ["kept"]
        assert db.execute("SELECT * FROM marks").fetchall() == []
    db.close()
