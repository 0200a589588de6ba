"""The ledger in memory: what is its own, besides what every ledger does."""

from __future__ import annotations

import secrets
import threading

from harness.threads import at_once

from deepseek_proxy.store.ledger.base import Hold
from deepseek_proxy.store.ledger.memory import MemoryLedger


def test_threads_never_hold_more_than_the_limit() -> None:
    ledger, seen, lock = MemoryLedger(), [], threading.Lock()
    holding = 0

    def work(_: int) -> None:
        nonlocal holding
        for _ in range(200):
            lease = ledger.acquire(secrets.token_hex(8), [[Hold("a", 3)]], "w", 30)
            if lease is None:
                continue
            with lock:
                holding += 1
                seen.append(holding)
            with lock:
                holding -= 1
            assert ledger.release(lease)

    at_once(8, work)
    assert seen
    assert max(seen) <= 3
    assert ledger.held(["a"]) == {"a": 0}


def test_what_has_expired_does_not_pile_up() -> None:
    now = 1_000.0
    ledger = MemoryLedger(lambda: now)
    for number in range(10_000):
        now += 1
        ledger.add({f"counter {number}": 1}, now + 2)
        ledger.take(f"rate {number}", 1, 2)
        ledger.mark(f"mark {number}", "", 2)
    kept = (ledger._counters, ledger._rates, ledger._marks)
    assert all(len(entries._entries) < 3_000 for entries in kept)
