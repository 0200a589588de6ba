"""The proxy pool: used evenly, failing ones rest, and another is tried before anybody notices."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from harness import deepseek
from harness.accounts import account
from harness.clocks import Clock
from harness.fake_upstream import FakeUpstream
from harness.proxies import TestProxy

from deepseek_proxy import settings
from deepseek_proxy.errors import ProxyError, ProxyUnreachable
from deepseek_proxy.store.ledger.base import Ledger, LedgerUnavailable
from deepseek_proxy.store.ledger.memory import MemoryLedger
from deepseek_proxy.store.ledger.opening import Books
from deepseek_proxy.upstream.client import Client, Request
from deepseek_proxy.upstream.proxies import Proxy, ProxyPool

ANSWER = b"".join(deepseek.frames())
URLS = [f"http://user:secret@proxy{number}:3128" for number in range(5)]


# -- the choice -----------------------------------------------------------------------------------


def test_the_least_used_comes_next() -> None:
    ledger = MemoryLedger()
    pool = ProxyPool(URLS, lambda: ledger)
    chosen = [pool.choose() for _ in range(500)]
    assert set(Counter(chosen).values()) == {100}
    for begin in range(0, 500, 5):
        assert len(set(chosen[begin : begin + 5])) == 5, "each once before one comes again"
    assert {tuple(chosen[begin : begin + 5]) for begin in range(0, 500, 5)} != {tuple(chosen[:5])}
    other_worker = ProxyPool(URLS, lambda: ledger)
    assert other_worker.uses() == dict.fromkeys(pool.proxies, 100)


def test_counts_begin_anew_each_day(clock: Clock) -> None:
    ledger = MemoryLedger(clock)
    pool = ProxyPool(URLS[:2], lambda: ledger, clock)
    for _ in range(3):
        pool.choose()
    clock.now += 86_400
    assert set(pool.uses().values()) == {0}


def test_a_proxy_that_fails_rests_longer_each_time(clock: Clock) -> None:
    ledger = MemoryLedger(clock)
    pool = ProxyPool(URLS[:2], lambda: ledger, clock)
    bad, good = pool.proxies
    for seconds in (5, 10, 20):
        pool.failed(bad)
        assert pool.resting()[bad] == pytest.approx(seconds)
        assert {pool.choose() for _ in range(10)} == {good}
        clock.now += seconds + 1
    assert pool.choose() == bad
    pool.worked(bad)
    pool.failed(bad)
    assert pool.resting()[bad] == pytest.approx(5)


def test_where_all_rest_the_first_to_be_back_is_taken(clock: Clock) -> None:
    ledger = MemoryLedger(clock)
    pool = ProxyPool(URLS[:2], lambda: ledger, clock)
    first, second = pool.proxies
    pool.failed(first)
    clock.now += 1
    pool.failed(second)
    assert pool.choose() == first
    assert pool.choose([first]) == second
    assert pool.choose([first, second]) in (first, second)


def test_no_password_shows() -> None:
    proxy = Proxy.of(URLS[0])
    assert "secret" not in f"{proxy} {proxy.label} {proxy.id}"
    assert proxy.label == "http://proxy0:3128"
    assert Proxy.of("").label == "direct"
    assert Proxy.of("").url is None


def test_a_ledger_that_is_gone_costs_the_count_only() -> None:
    def gone() -> Ledger:
        raise LedgerUnavailable("gone")

    pool = ProxyPool(URLS, gone)
    assert pool.choose() in pool.proxies
    pool.failed(pool.proxies[0])
    pool.worked(pool.proxies[0])


# -- through the client ---------------------------------------------------------------------------


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def proxies() -> Iterator[list[TestProxy]]:
    made = [TestProxy("http", auth=True), TestProxy("socks5", auth=True), TestProxy("socks4")]
    yield made
    for proxy in made:
        proxy.close()


@pytest.fixture
def ask(tmp_path: Path, upstream: FakeUpstream, proxies: list[TestProxy]) -> Iterator[Callable[..., Any]]:
    """Asks once through a pool of proxies: the answer, or the error."""
    clients: list[Client] = []

    def begin(**more: Any) -> Callable[[], bytes | ProxyError]:
        given = {
            "upstream_url": upstream.url,
            "state_dir": tmp_path,
            "proxy_pool_enabled": True,
            "proxy_pool": [proxy.url for proxy in proxies],
            **more,
        }
        chosen = settings.isolated(**given)
        client = Client(chosen, lambda _: None, Books(chosen))
        clients.append(client)

        def once() -> bytes | ProxyError:
            body = b'{"stream": true, "messages": []}'
            key = None if chosen.accounts else "sk-own"
            call = client.open(Request(body, key, True, "req", lambda _: None, model="deepseek-flash"))
            try:
                return call.read_all(1 << 20, on_tick=lambda: None)
            except ProxyError as error:
                return error
            finally:
                call.close()

        return once

    yield begin
    for client in clients:
        client.close()


def test_all_proxies_of_the_pool_are_used(ask: Callable[..., Any], proxies: list[TestProxy]) -> None:
    once = ask()
    assert [once() for _ in range(9)] == [ANSWER] * 9
    assert [len(proxy.targets) for proxy in proxies] == [1, 1, 1], "connections are used again"


def test_a_pool_that_is_off_is_not_used(ask: Callable[..., Any], proxies: list[TestProxy]) -> None:
    assert ask(proxy_pool_enabled=False)() == ANSWER
    assert [proxy.targets for proxy in proxies] == [[], [], []]


def test_another_is_tried_before_anybody_notices(ask: Callable[..., Any], proxies: list[TestProxy]) -> None:
    proxies[0].broken = proxies[1].broken = True
    once = ask(upstream_attempts=1)
    assert [once() for _ in range(6)] == [ANSWER] * 6
    assert len(proxies[2].targets) == 1


def test_direct_may_be_in_the_pool(
    ask: Callable[..., Any], proxies: list[TestProxy], upstream: FakeUpstream
) -> None:
    once = ask(proxy_pool=["direct", proxies[0].url])
    assert [once() for _ in range(4)] == [ANSWER] * 4
    assert len(proxies[0].targets) == 1
    assert upstream.connections == 2


def test_nobody_goes_around_proxies_that_all_fail(
    ask: Callable[..., Any], proxies: list[TestProxy], upstream: FakeUpstream
) -> None:
    for proxy in proxies:
        proxy.broken = True
    error = ask(upstream_attempts=1)()
    assert type(error) is ProxyUnreachable
    assert "canary" not in error.message
    assert upstream.requests == []


def test_an_upstream_that_fails_is_not_the_proxys_fault(
    ask: Callable[..., Any], proxies: list[TestProxy], upstream: FakeUpstream
) -> None:
    upstream.serve(deepseek.refuses(503, deepseek.BUSY), deepseek.answers())
    once = ask(retry_max_seconds=0.01)
    assert [once() for _ in range(6)] == [ANSWER] * 6
    assert all(proxy.targets for proxy in proxies)


def test_an_account_may_have_a_proxy_of_its_own_or_none(
    ask: Callable[..., Any], proxies: list[TestProxy], upstream: FakeUpstream
) -> None:
    own = ask(accounts=[account("a", proxy=proxies[2].url)])
    assert [own() for _ in range(3)] == [ANSWER] * 3
    assert [len(proxy.targets) for proxy in proxies] == [0, 0, 1]
    none = ask(accounts=[account("a", proxy="direct")])
    assert none() == ANSWER
    assert [len(proxy.targets) for proxy in proxies] == [0, 0, 1]


def test_failing_proxies_do_not_take_an_account_out(
    ask: Callable[..., Any], proxies: list[TestProxy]
) -> None:
    once = ask(accounts=[account("a")], upstream_attempts=1, proxy_pool=[proxies[0].url])
    proxies[0].broken = True
    assert [type(once()) for _ in range(3)] == [ProxyUnreachable] * 3
    proxies[0].broken = False
    assert once() == ANSWER
