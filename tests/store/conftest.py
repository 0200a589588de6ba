"""Stores over every backend, with a clock that tests move."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis
from harness import redis_server
from harness.clocks import Clock

from deepseek_proxy.store.base import Backend, Limits
from deepseek_proxy.store.memory import MemoryBackend
from deepseek_proxy.store.redis import RedisBackend
from deepseek_proxy.store.sqlite import SqliteBackend
from deepseek_proxy.store.store import Store

DAY = 86_400
TTL_DAYS = 30
ROOMY = Limits(owner_bytes=50_000_000, total_bytes=100_000_000)


MakeBackend = Callable[..., Backend]
"""(limits=ROOMY) -> another connection to the same place, empty at the test's begin."""


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(scope="session")
def running_redis() -> Iterator[str]:
    with redis_server.running() as url:
        yield url


@pytest.fixture
def redis_url(running_redis: str) -> str:
    """The URL of a Redis that is empty."""
    with redis.Redis.from_url(running_redis) as server:
        server.flushall()
    return running_redis


@pytest.fixture(params=["memory", "sqlite", "redis"])
def make_backend(request: pytest.FixtureRequest, clock: Clock, tmp_path: Path) -> MakeBackend:
    shared: list[Backend] = []

    def memory(limits: Limits = ROOMY) -> Backend:
        shared.append(shared[0] if shared else MemoryBackend(limits, clock))
        return shared[0]

    def sqlite(limits: Limits = ROOMY) -> Backend:
        return SqliteBackend(tmp_path / "store.db", limits, clock)

    def in_redis(limits: Limits = ROOMY) -> Backend:
        return RedisBackend(request.getfixturevalue("redis_url"), limits, clock)

    return {"memory": memory, "sqlite": sqlite, "redis": in_redis}[request.param]


@pytest.fixture
def make_store(make_backend: MakeBackend, clock: Clock) -> Iterator[Callable[..., Store]]:
    """(limits=ROOMY) -> a store of a worker of its own, over the same place as the others."""
    stores: list[Store] = []

    def make(limits: Limits = ROOMY) -> Store:
        store = Store(make_backend(limits), ttl_days=TTL_DAYS, clock=clock)
        stores.append(store)
        return store

    yield make
    for store in stores:
        store.close()


@pytest.fixture
def store(make_store: Callable[..., Store]) -> Store:
    return make_store()
