"""Every ledger, with a clock that the test sets forward."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from harness.clocks import Clock

from deepseek_proxy.store.ledger.base import Ledger
from deepseek_proxy.store.ledger.memory import MemoryLedger
from deepseek_proxy.store.ledger.redis import RedisLedger
from deepseek_proxy.store.ledger.sqlite import SqliteLedger


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
