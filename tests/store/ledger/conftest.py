"""Every ledger, with a clock that the test sets forward."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from harness.clocks import Clock

from deepseek_proxy.store.ledger.base import Ledger
from deepseek_proxy.store.ledger.memory import MemoryLedger
from deepseek_proxy.store.ledger.sqlite import SqliteLedger


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["memory", "sqlite"])
def ledger(request: pytest.FixtureRequest, clock: Clock, tmp_path: Path) -> Iterator[Ledger]:
    opened: Ledger = MemoryLedger(clock)
    if request.param == "sqlite":
        opened = SqliteLedger(tmp_path / "ledger.db", clock)
    yield opened
    opened.close()
