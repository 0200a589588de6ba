"""The ledger in Redis: its own clock, several at once, and a server that goes away."""

from __future__ import annotations

import secrets
import threading
import time

import pytest
import redis
from harness import redis_server
from harness.threads import at_once
from harness.waiting import wait_for

from deepseek_proxy.store.ledger.base import Hold, LedgerUnavailable
from deepseek_proxy.store.ledger.redis import RedisLedger


def test_the_clock_of_the_server_counts(redis_url: str) -> None:
    ledger = RedisLedger(redis_url)
    assert ledger.acquire("theirs", [[Hold("a", 1)]], "dead", 0.2)
    ledger.mark("m", "text", 0.2)
    ledger.add({"n": 1}, time.time() + 0.2)
    assert not ledger.take("r", 1, 60).retry_seconds
    assert ledger.take("r", 1, 60).retry_seconds == pytest.approx(60, abs=5)
    assert ledger.marks(["m"])["m"].text == "text"
    wait_for(lambda: not (ledger.held(["a"])["a"] or ledger.marks(["m"]) or ledger.read(["n"])["n"]), 10)
    ledger.close()


def test_machines_keep_to_one_limit_and_lose_no_count(redis_url: str) -> None:
    lock = threading.Lock()
    holding = most = 0

    def machine(number: int) -> None:
        nonlocal holding, most
        ledger, taken, until = RedisLedger(redis_url), 0, time.monotonic() + 30
        while taken < 50 and time.monotonic() < until:
            lease = ledger.acquire(secrets.token_hex(8), [[Hold("a", 2)]], f"m{number}", 30)
            if lease is None:
                continue
            taken += 1
            with lock:
                holding += 1
                most = max(most, holding)
            ledger.add({"taken": 1}, time.time() + 60)
            with lock:
                holding -= 1
            assert ledger.release(lease)
        ledger.close()

    at_once(4, machine)
    assert most <= 2
    ledger = RedisLedger(redis_url)
    assert ledger.read(["taken"]) == {"taken": 200}
    assert ledger.held(["a"]) == {"a": 0}
    ledger.close()


def test_nothing_that_has_ended_is_left_behind(redis_url: str) -> None:
    ledger = RedisLedger(redis_url)
    lease = ledger.acquire("id", [[Hold("a", 1)]], "w", 0.05)
    ticket = ledger.enter("t", ["a"], "w", 0.05, 10)
    assert lease is not None
    assert ticket is not None
    ledger.leave(ticket)
    time.sleep(0.1)
    assert ledger.held(["a"]) == {"a": 0}
    with redis.Redis.from_url(redis_url) as server:
        server.delete("deepseek-proxy:ledger:waiting")  # lapses after some seconds
    with redis.Redis.from_url(redis_url, decode_responses=True) as server:
        assert server.keys("*") == ["deepseek-proxy:ledger:last-number"]
    ledger.close()


def test_what_is_kept_for_a_time_goes_by_itself(redis_url: str) -> None:
    ledger = RedisLedger(redis_url)
    ledger.add({"n": 1}, time.time() + 60)
    ledger.take("r", 10, 60)
    ledger.mark("m", "text", 60)
    with redis.Redis.from_url(redis_url, decode_responses=True) as server:
        left = {key.split(":")[2]: server.ttl(key) for key in server.keys("*")}
    assert left.keys() == {"counter", "rate", "mark"}
    assert all(0 < seconds <= 62 for seconds in left.values())
    ledger.close()


def test_a_server_that_is_gone_is_an_error_without_its_address_and_one_that_is_back_works() -> None:
    with redis_server.running() as url:
        ledger = RedisLedger(url)
        assert ledger.add({"n": 1}, time.time() + 60) == {"n": 1}
        with redis.Redis.from_url(url) as server:
            server.client_kill_filter(_type="normal")
            assert ledger.add({"n": 1}, time.time() + 60) == {"n": 2}, "a broken connection is replaced"
            server.script_flush()
            assert ledger.add({"n": 1}, time.time() + 60) == {"n": 3}, "scripts are sent again"
    with pytest.raises(LedgerUnavailable) as caught:
        ledger.held(["a"])
    assert "127.0.0.1" not in caught.value.message
    assert caught.value.status == 503
    assert caught.value.retryable
    ledger.close()
