"""Every ledger, with a clock that the test sets forward."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from harness import redis_server
from harness.clocks import Clock

from deepseek_proxy.store.ledger.base import Ledger
from deepseek_proxy.store.ledger.memory import MemoryLedger
from deepseek_proxy.store.ledger.redis import RedisLedger
from deepseek_proxy.store.ledger.sqlite import SqliteLedger


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


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["memory", "sqlite", "redis"])
def ledger(request: pytest.FixtureRequest, clock: Clock, tmp_path: Path) -> Iterator[Ledger]:
    opened: Ledger
    match request.param:
        case "memory":
            opened = MemoryLedger(clock)
        case "sqlite":
            opened = SqliteLedger(tmp_path / "ledger.db", clock)
        case _:
            opened = RedisLedger(request.getfixturevalue("redis_url"), clock)
    yield opened
    opened.close()
