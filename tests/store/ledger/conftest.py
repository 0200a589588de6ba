"""Every ledger, with a clock that the test sets forward."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from harness.clocks import Clock

from deepseek_proxy.store.ledger.base import Ledger
from deepseek_proxy.store.ledger.memory import MemoryLedger


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["memory"])
def ledger(request: pytest.FixtureRequest, clock: Clock) -> Iterator[Ledger]:
    opened = MemoryLedger(clock)
    yield opened
    opened.close()
