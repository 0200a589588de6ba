"""The cache of thinking: found again by its owner only, bounded in bytes, the oldest goes first."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest
from harness.clocks import Clock
from harness.threads import at_once
from harness.waiting import wait_for

from deepseek_proxy.sealing import Sealer
from deepseek_proxy.store.base import Limits, NewResponse
from deepseek_proxy.store.reasoning import ReasoningCache, SharedReasoning
from deepseek_proxy.store.redis import RedisBackend
from deepseek_proxy.store.store import THOUGHT_SECONDS, Store

SEALER = Sealer([bytes(32)])
ENTRY_BYTES = 200
"""What an entry counts for besides its text."""


def test_thinking_is_found_again_and_the_last_word_counts() -> None:
    cache = ReasoningCache(10_000)
    cache.remember("tenant", "call_1", "hm")
    assert cache.recall("tenant", "call_1") == "hm"
    cache.remember("tenant", "call_1", "aha")
    assert cache.recall("tenant", "call_1") == "aha"


def test_nobody_else_finds_it() -> None:
    cache = ReasoningCache(10_000)
    cache.remember("tenant", "call_1", "hm")
    assert cache.recall("other", "call_1") is None
    assert cache.recall("tenant", "call_2") is None


def test_the_least_recently_used_goes_first() -> None:
    cache = ReasoningCache(3 * (ENTRY_BYTES + 10))
    for name in ("a", "b", "c"):
        cache.remember("tenant", name, name * 10)
    assert cache.recall("tenant", "a")  # used again: b is the oldest now
    cache.remember("tenant", "d", "d" * 10)
    assert [name for name in "abcd" if cache.recall("tenant", name)] == ["a", "c", "d"]


def test_a_long_one_takes_the_place_of_several() -> None:
    cache = ReasoningCache(1000)
    for number in range(4):
        cache.remember("tenant", str(number), "x")
    cache.remember("tenant", "long", "x" * 700)
    assert cache.recall("tenant", "long")
    assert [number for number in range(4) if cache.recall("tenant", str(number))] == []


@pytest.mark.parametrize(("characters", "fits"), [("é" * 100, True), ("é" * 101, False), ("x" * 200, True)])
def test_size_is_counted_in_bytes(characters: str, fits: bool) -> None:
    cache = ReasoningCache(ENTRY_BYTES + 200)
    cache.remember("tenant", "call_1", characters)
    assert (cache.recall("tenant", "call_1") is not None) is fits


def test_what_is_too_long_drives_nothing_out() -> None:
    cache = ReasoningCache(1000)
    cache.remember("tenant", "call_1", "hm")
    cache.remember("tenant", "call_2", "x" * 2000)
    assert cache.recall("tenant", "call_1") == "hm"
    assert cache.recall("tenant", "call_2") is None


def test_lone_surrogates_are_no_obstacle() -> None:
    cache = ReasoningCache(1000)
    cache.remember("tenant", "call_1", "\ud800")
    assert cache.recall("tenant", "call_1") == "\ud800"


def test_no_memory_means_no_cache() -> None:
    cache = ReasoningCache(0)
    cache.remember("tenant", "call_1", "")
    assert cache.recall("tenant", "call_1") is None


def test_many_threads_at_once() -> None:
    cache = ReasoningCache(50 * (ENTRY_BYTES + 4))
    wrong: list[str] = []

    def work(worker: int) -> None:
        for number in range(2000):
            name = str(number % 70)
            cache.remember("tenant", name, f"{name:>4}")
            if (found := cache.recall("tenant", name)) not in (None, f"{name:>4}"):
                wrong.append(f"{worker}: {found}")

    at_once(4, work)
    assert wrong == []
    assert sum(cache.recall("tenant", str(number)) is not None for number in range(70)) <= 50


def test_what_one_worker_remembers_another_recalls(make_store: Callable[..., Store]) -> None:
    one = SharedReasoning(ReasoningCache(10_000), make_store(), SEALER)
    other = SharedReasoning(ReasoningCache(10_000), make_store(), SEALER)
    one.remember("tenant", "call_1", "hm \ud800")
    wait_for(lambda: other.recall("tenant", "call_1"))
    assert other.recall("tenant", "call_1") == "hm \ud800"
    assert other.recall("stranger", "call_1") is None


def test_what_lies_in_the_store_can_be_read_by_nobody_else(make_store: Callable[..., Store]) -> None:
    store = make_store()
    SharedReasoning(ReasoningCache(10_000), store, SEALER).remember("tenant", "call_1", "a secret plan")
    wait_for(lambda: store.recall("tenant", "call_1"))
    assert b"secret" not in (store.recall("tenant", "call_1") or b"")
    stranger = SharedReasoning(ReasoningCache(10_000), store, Sealer([bytes(31) + b"1"]))
    assert stranger.recall("tenant", "call_1") is None


def test_a_worker_knows_its_own_without_asking(make_store: Callable[..., Store]) -> None:
    reasoning = SharedReasoning(ReasoningCache(10_000), make_store(), SEALER)
    reasoning.remember("tenant", "call_1", "hm")
    assert reasoning.recall("tenant", "call_1") == "hm"


def test_without_the_store_what_is_not_known_is_left_out() -> None:
    store = Store(RedisBackend("redis://127.0.0.1:9/0", Limits(1, 1)))
    reasoning = SharedReasoning(ReasoningCache(10_000), store, SEALER)
    reasoning.remember("tenant", "call_1", "hm")
    assert reasoning.recall("tenant", "call_1") == "hm"
    assert reasoning.recall("tenant", "call_2") is None
    store.close()


def test_thoughts_grow_old_and_make_room_first(make_store: Callable[..., Store], clock: Clock) -> None:
    store = make_store(Limits(owner_bytes=20_000, total_bytes=1_000_000))
    store.remember("tenant", "call_1", b"a" * 100)
    wait_for(lambda: store.recall("tenant", "call_1"))
    clock.now += THOUGHT_SECONDS + 1
    assert store.recall("tenant", "call_1") is None
    assert store.backend.sweep(10) == 1
    assert store.usage("tenant").bytes == 0

    recording = store.begin(NewResponse("resp_1", "tenant", 1, "in_progress", b"{}"))
    store.finish(recording, "completed", os.urandom(10_000))
    for number in range(10):
        store.remember("tenant", f"call_{number}", os.urandom(2000))
    wait_for(lambda: store.recall("tenant", "call_9"))
    store.backend.sweep(10)
    assert store.recall("tenant", "call_0") is None
    assert store.recall("tenant", "call_9") is not None
    assert store.get("tenant", "resp_1") is not None
