"""The cache of thinking: found again by its owner only, bounded in bytes, the oldest goes first."""

from __future__ import annotations

import threading

import pytest

from deepseek_proxy.store.reasoning import ReasoningCache

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

    threads = [threading.Thread(target=work, args=(worker,)) for worker in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert sum(cache.recall("tenant", str(number)) is not None for number in range(70)) <= 50
