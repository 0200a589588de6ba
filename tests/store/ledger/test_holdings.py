"""What a process holds: given back once, kept alive, and owed while the ledger is out of reach."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from harness.clocks import Clock

from deepseek_proxy.store.ledger.base import Hold, Lease, LedgerUnavailable, Ticket
from deepseek_proxy.store.ledger.holdings import Holdings
from deepseek_proxy.store.ledger.memory import MemoryLedger

CHOICES = [[Hold("a", 2)]]


class Unreliable(MemoryLedger):
    """A ledger whose answers can get lost: it does as it is told, and nobody hears of it."""

    lost = False
    gone = False

    def acquire(
        self,
        lease_id: str,
        choices: Sequence[Sequence[Hold]],
        holder: str,
        ttl_seconds: float,
        ticket: Ticket | None = None,
    ) -> Lease | None:
        lease = super().acquire(lease_id, choices, holder, ttl_seconds, ticket)
        self._fail()
        return lease

    def enter(
        self, ticket_id: str, names: Sequence[str], holder: str, ttl_seconds: float, max_waiting: int
    ) -> Ticket | None:
        ticket = super().enter(ticket_id, names, holder, ttl_seconds, max_waiting)
        self._fail()
        return ticket

    def release(self, lease: Lease) -> bool:
        if self.gone:
            raise LedgerUnavailable("gone")
        return super().release(lease)

    def leave(self, ticket: Ticket) -> None:
        if self.gone:
            raise LedgerUnavailable("gone")
        super().leave(ticket)

    def _fail(self) -> None:
        if self.lost or self.gone:
            raise LedgerUnavailable("lost")


@pytest.fixture
def ledger(clock: Clock) -> Unreliable:
    return Unreliable(clock)


@pytest.fixture
def holdings(ledger: Unreliable) -> Holdings:
    return Holdings(ledger)


def acquired(holdings: Holdings) -> Lease:
    lease = holdings.acquire(CHOICES)
    assert lease is not None
    return lease


def test_a_lease_is_given_back_once(ledger: Unreliable, holdings: Holdings) -> None:
    first, _ = acquired(holdings), acquired(holdings)
    assert holdings.acquire(CHOICES) is None
    holdings.release(first)
    holdings.release(first)
    assert ledger.held(["a"]) == {"a": 1}
    holdings.close()
    assert ledger.held(["a"]) == {"a": 0}


def test_what_is_held_is_kept_alive(ledger: Unreliable, clock: Clock) -> None:
    holdings = Holdings(ledger, ttl_seconds=0.3)
    lease = acquired(holdings)
    clock.now += 0.29
    thread = holdings._thread
    assert thread is not None
    renewed = ledger._alive_until[holdings.holder] + 0.2
    for _ in range(200):
        if ledger._alive_until[holdings.holder] >= renewed:
            break
        thread.join(0.02)
    assert ledger._alive_until[holdings.holder] >= renewed
    holdings.release(lease)
    holdings.close()
    thread.join(5)
    assert not thread.is_alive()


def test_what_was_granted_unheard_is_given_back(ledger: Unreliable, holdings: Holdings) -> None:
    ledger.lost = True
    with pytest.raises(LedgerUnavailable):
        holdings.acquire(CHOICES)
    with pytest.raises(LedgerUnavailable):
        holdings.enter(["a"], 10)
    assert (ledger.held(["a"]), ledger.waiting(["a"])) == ({"a": 1}, {"a": 1})
    ledger.lost = False
    holdings.renew()
    assert (ledger.held(["a"]), ledger.waiting(["a"])) == ({"a": 0}, {"a": 0})
    holdings.close()


def test_what_cannot_be_given_back_is_owed(ledger: Unreliable, holdings: Holdings) -> None:
    lease, ticket = acquired(holdings), holdings.enter(["a"], 10)
    assert ticket is not None
    ledger.gone = True
    holdings.release(lease)
    holdings.leave(ticket)
    with pytest.raises(LedgerUnavailable):
        holdings.renew()
    assert (ledger.held(["a"]), ledger.waiting(["a"])) == ({"a": 1}, {"a": 1})
    ledger.gone = False
    holdings.renew()
    assert (ledger.held(["a"]), ledger.waiting(["a"])) == ({"a": 0}, {"a": 0})
    holdings.close()


def test_debts_are_bounded_and_the_oldest_forgotten(
    ledger: Unreliable, holdings: Holdings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deepseek_proxy.store.ledger.holdings.MAX_OWED", 2)
    first, second = acquired(holdings), acquired(holdings)
    ledger.gone = True
    holdings.release(first)
    holdings.release(second)
    for _ in range(2):
        with pytest.raises(LedgerUnavailable):
            holdings.enter(["a"], 10)
    assert len(holdings._owed) == 2
    ledger.gone = False
    holdings.renew()
    assert (ledger.held(["a"]), ledger.waiting(["a"])) == ({"a": 2}, {"a": 0})
    holdings.close()


def test_what_is_held_comes_before_what_is_owed(clock: Clock) -> None:
    calls: list[str] = []

    class Noting(Unreliable):
        def renew(self, holder: str, leases: Sequence[Lease], ttl_seconds: float) -> None:
            calls.append("renew")
            super().renew(holder, leases, ttl_seconds)

        def release(self, lease: Lease) -> bool:
            calls.append("release")
            return super().release(lease)

    ledger = Noting(clock)
    holdings = Holdings(ledger)
    lease = acquired(holdings)
    ledger.gone = True
    holdings.release(lease)
    ledger.gone = False
    calls.clear()
    holdings.renew()
    assert calls == ["renew", "release"]
    holdings.close()


def test_a_lease_that_lapsed_is_held_again(ledger: Unreliable, holdings: Holdings, clock: Clock) -> None:
    lease = acquired(holdings)
    clock.now += 1000
    assert ledger.held(["a"]) == {"a": 0}
    holdings.renew()
    assert ledger.held(["a"]) == {"a": 1}
    holdings.release(lease)
    assert ledger.held(["a"]) == {"a": 0}
    holdings.close()


def test_a_lease_that_is_released_during_a_renewal_stays_released(clock: Clock) -> None:
    class Slow(MemoryLedger):
        def renew(self, holder: str, leases: Sequence[Lease], ttl_seconds: float) -> None:
            holdings.release(lease)
            super().renew(holder, leases, ttl_seconds)

    ledger = Slow(clock)
    holdings = Holdings(ledger)
    lease = acquired(holdings)
    holdings.renew()
    assert ledger.held(["a"]) == {"a": 0}
    holdings.close()
