"""What every ledger does, whatever keeps it."""

from __future__ import annotations

import secrets

import pytest
from harness.clocks import Clock

from deepseek_proxy.store.ledger.base import QUEUE_SECONDS, Hold, Lease, Ledger, Ticket

TTL = 30.0


def new_id() -> str:
    return secrets.token_hex(8)


def acquire(ledger: Ledger, *names: str, limit: int = 1, holder: str = "w1") -> Lease | None:
    return ledger.acquire(new_id(), [[Hold(name, limit) for name in names]], holder, TTL)


def granted(lease: Lease | None) -> Lease:
    assert lease is not None
    return lease


def entered(ledger: Ledger, *names: str, holder: str = "w1", max_waiting: int = 10) -> Ticket:
    ticket = ledger.enter(new_id(), names, holder, TTL, max_waiting)
    assert ticket is not None
    return ticket


# -- leases ---------------------------------------------------------------------------------------


def test_a_name_is_held_by_no_more_leases_than_its_limit(ledger: Ledger) -> None:
    leases = [granted(acquire(ledger, "a", limit=3)) for _ in range(3)]
    assert acquire(ledger, "a", limit=3) is None
    assert ledger.held(["a", "b"]) == {"a": 3, "b": 0}
    assert len({lease.id for lease in leases}) == 3

    assert ledger.release(leases[1])
    assert ledger.held(["a"]) == {"a": 2}
    assert acquire(ledger, "a", limit=3) is not None
    assert acquire(ledger, "a", limit=3) is None


def test_a_lease_is_released_once(ledger: Ledger) -> None:
    first, second = granted(acquire(ledger, "a", limit=2)), granted(acquire(ledger, "a", limit=2))
    assert ledger.release(first)
    assert not ledger.release(first)
    assert ledger.held(["a"]) == {"a": 1}
    assert ledger.release(second)
    assert ledger.held(["a"]) == {"a": 0}


def test_several_names_are_held_all_or_none(ledger: Ledger) -> None:
    lease = granted(acquire(ledger, "key", "account", limit=1))
    assert ledger.held(["key", "account"]) == {"key": 1, "account": 1}
    assert acquire(ledger, "other", "account") is None
    assert ledger.held(["other"]) == {"other": 0}
    assert ledger.release(lease)
    assert ledger.held(["key", "account"]) == {"key": 0, "account": 0}


def test_the_first_choice_that_can_be_had_is_granted(ledger: Ledger) -> None:
    choices = [[Hold("a", 1)], [Hold("b", 1)], [Hold("c", 1)]]
    assert [granted(ledger.acquire(new_id(), choices, "w1", TTL)).choice for _ in range(3)] == [0, 1, 2]
    assert ledger.acquire(new_id(), choices, "w1", TTL) is None
    assert ledger.held(["a", "b", "c"]) == {"a": 1, "b": 1, "c": 1}


def test_a_lowered_limit_counts_from_the_next_lease_on(ledger: Ledger) -> None:
    leases = [granted(acquire(ledger, "a", limit=5)) for _ in range(5)]
    ledger.release(leases[0])
    ledger.release(leases[1])
    assert acquire(ledger, "a", limit=3) is None
    ledger.release(leases[2])
    assert acquire(ledger, "a", limit=3) is not None


def test_the_leases_of_a_dead_holder_lapse(ledger: Ledger, clock: Clock) -> None:
    lost = granted(acquire(ledger, "a", holder="dead"))
    kept = granted(acquire(ledger, "b", holder="alive"))
    clock.now += TTL - 1
    ledger.renew("alive", [kept], TTL)
    assert acquire(ledger, "a") is None
    clock.now += 2
    assert ledger.held(["a", "b"]) == {"a": 0, "b": 1}
    assert acquire(ledger, "a") is not None
    assert not ledger.release(lost)
    assert ledger.held(["a"]) == {"a": 1}


def test_a_holder_that_was_thought_dead_gets_its_leases_back(ledger: Ledger, clock: Clock) -> None:
    """A laptop that slept: its streams go on, and count, even above the limit."""
    slept = granted(acquire(ledger, "a", holder="slept"))
    clock.now += TTL + 1
    other = granted(acquire(ledger, "a", holder="other"))
    ledger.renew("slept", [slept], TTL)
    ledger.renew("slept", [slept], TTL)
    assert ledger.held(["a"]) == {"a": 2}
    assert ledger.release(slept)
    assert acquire(ledger, "a") is None
    assert ledger.release(other)
    assert acquire(ledger, "a") is not None


def test_work_is_a_sign_of_life(ledger: Ledger, clock: Clock) -> None:
    granted(acquire(ledger, "a"))
    clock.now += TTL - 1
    granted(acquire(ledger, "b"))
    clock.now += TTL - 1
    assert ledger.held(["a"]) == {"a": 1}


def test_what_was_granted_without_an_answer_is_given_back_by_its_id(ledger: Ledger) -> None:
    ledger.acquire("lost", [[Hold("a", 1), Hold("b", 1)]], "w1", TTL)
    ticket = entered(ledger, "a")
    assert ledger.release(Lease("lost", "w1", ()))
    ledger.leave(Ticket(ticket.id, "w1", ()))
    assert ledger.held(["a", "b"]) == {"a": 0, "b": 0}
    assert ledger.waiting(["a"]) == {"a": 0}


# -- queues ---------------------------------------------------------------------------------------


def test_who_came_first_is_served_first(ledger: Ledger) -> None:
    held = granted(acquire(ledger, "a"))
    first, second = entered(ledger, "a"), entered(ledger, "a", holder="w2")
    assert ledger.waiting(["a", "b"]) == {"a": 2, "b": 0}
    choices = [[Hold("a", 1)]]
    assert ledger.acquire(new_id(), choices, "w1", TTL, first) is None

    ledger.release(held)
    assert acquire(ledger, "a") is None, "nobody passes those who wait"
    assert ledger.acquire(new_id(), choices, "w2", TTL, second) is None
    lease = granted(ledger.acquire(new_id(), choices, "w1", TTL, first))
    assert ledger.waiting(["a"]) == {"a": 1}
    assert ledger.acquire(new_id(), choices, "w2", TTL, second) is None
    ledger.release(lease)
    granted(ledger.acquire(new_id(), choices, "w2", TTL, second))
    assert ledger.waiting(["a"]) == {"a": 0}


def test_who_waits_for_several_names_takes_whichever_is_free_first(ledger: Ledger) -> None:
    granted(acquire(ledger, "a"))
    held = granted(acquire(ledger, "b"))
    both, only_a = entered(ledger, "a", "b"), entered(ledger, "a")
    ledger.release(held)
    assert acquire(ledger, "b") is None
    lease = granted(ledger.acquire(new_id(), [[Hold("a", 1)], [Hold("b", 1)]], "w1", TTL, both))
    assert (lease.choice, lease.names) == (1, ("b",))
    assert ledger.waiting(["a", "b"]) == {"a": 1, "b": 0}
    assert ledger.acquire(new_id(), [[Hold("a", 2)]], "w1", TTL, only_a) is not None


def test_as_many_may_take_as_are_free_in_any_order(ledger: Ledger) -> None:
    """Who is first need not hurry: a place is kept, and the others do not wait for that."""
    leases = [granted(acquire(ledger, name, limit=2)) for name in "aabb"]
    choices = [[Hold("a", 2)], [Hold("b", 2)]]
    first, second, third = (entered(ledger, *names) for names in ("ab", "ba", "ab"))
    ledger.release(leases[0])
    assert ledger.acquire(new_id(), choices, "w1", TTL, second) is None
    ledger.release(leases[2])
    assert ledger.acquire(new_id(), choices, "w1", TTL, third) is None
    granted(ledger.acquire(new_id(), choices, "w1", TTL, second))
    assert ledger.acquire(new_id(), choices, "w1", TTL, third) is None, "the last place is the first one's"
    granted(ledger.acquire(new_id(), choices, "w1", TTL, first))
    ledger.release(leases[1])
    granted(ledger.acquire(new_id(), choices, "w1", TTL, third))


def test_who_wants_more_leaves_those_their_place_who_can_have_no_other(ledger: Ledger) -> None:
    leases = [granted(acquire(ledger, name)) for name in "ab"]
    only_a, both = entered(ledger, "a"), entered(ledger, "a", "b")
    choices = [[Hold("a", 1)], [Hold("b", 1)]]
    ledger.release(leases[0])
    assert ledger.acquire(new_id(), choices, "w1", TTL, both) is None
    ledger.release(leases[1])
    assert granted(ledger.acquire(new_id(), choices, "w1", TTL, both)).names == ("b",)
    assert granted(ledger.acquire(new_id(), choices, "w1", TTL, only_a)).names == ("a",)


def test_more_than_a_lowered_limit_allows_is_no_reason_to_wait_elsewhere(ledger: Ledger) -> None:
    for _ in range(3):
        granted(acquire(ledger, "a", limit=3))
    both = entered(ledger, "a", "b")
    choices = [[Hold("a", 1)], [Hold("b", 1)]]
    assert granted(ledger.acquire(new_id(), choices, "w1", TTL, both)).names == ("b",)


def test_who_leaves_makes_room_for_the_next(ledger: Ledger) -> None:
    held = granted(acquire(ledger, "a"))
    first, second = entered(ledger, "a"), entered(ledger, "a")
    ledger.leave(first)
    ledger.leave(first)
    ledger.release(held)
    assert ledger.acquire(new_id(), [[Hold("a", 1)]], "w1", TTL, second) is not None


def test_nobody_enters_a_queue_that_is_full(ledger: Ledger) -> None:
    first = entered(ledger, "a", max_waiting=2)
    entered(ledger, "a", max_waiting=2)
    assert ledger.enter(new_id(), ["a"], "w1", TTL, 2) is None
    assert ledger.enter(new_id(), ["a", "b"], "w1", TTL, 2) is not None, "the queue for b is empty"
    ledger.leave(first)
    assert ledger.waiting(["a", "b"]) == {"a": 2, "b": 1}


def test_the_dead_do_not_stand_in_the_way(ledger: Ledger, clock: Clock) -> None:
    """Long before they are buried, who may have leases to come back to."""
    held = granted(acquire(ledger, "b", holder="dead"))
    entered(ledger, "a", holder="dead")
    clock.now += QUEUE_SECONDS - 1
    waits = entered(ledger, "a", holder="alive")
    assert ledger.acquire(new_id(), [[Hold("a", 1)]], "alive", TTL, waits) is None
    clock.now += 2
    assert ledger.waiting(["a"]) == {"a": 1}
    assert ledger.held(["b"]) == {"b": 1}
    assert ledger.acquire(new_id(), [[Hold("a", 1)]], "alive", TTL, waits) is not None
    assert ledger.release(held)


def test_who_asks_again_keeps_its_place(ledger: Ledger, clock: Clock) -> None:
    granted(acquire(ledger, "a", holder="other"))
    ticket = entered(ledger, "a")
    for _ in range(5):
        clock.now += QUEUE_SECONDS - 1
        assert ledger.acquire(new_id(), [[Hold("a", 1)]], "w1", TTL, ticket) is None
    assert ledger.waiting(["a"]) == {"a": 1}


# -- counters -------------------------------------------------------------------------------------


def test_a_counter_adds_up_until_it_expires(ledger: Ledger, clock: Clock) -> None:
    midnight = clock.now + 100
    assert ledger.add({"tokens": 5, "money": 2_000_000_000_001}, midnight) == {
        "tokens": 5,
        "money": 2_000_000_000_001,
    }
    assert ledger.add({"tokens": 7}, midnight + 50) == {"tokens": 12}
    assert ledger.add({"tokens": -2}, midnight) == {"tokens": 10}
    assert ledger.read(["tokens", "money", "other"]) == {
        "tokens": 10,
        "money": 2_000_000_000_001,
        "other": 0,
    }
    clock.now = midnight + 1
    assert ledger.read(["tokens"]) == {"tokens": 0}
    assert ledger.add({"tokens": 1}, clock.now + 100) == {"tokens": 1}


# -- rates ----------------------------------------------------------------------------------------


def test_a_rate_lets_its_limit_pass_and_fills_up_evenly(ledger: Ledger, clock: Clock) -> None:
    answers = [ledger.take("r", 3, 60) for _ in range(4)]
    assert [answer.allowed for answer in answers] == [True, True, True, False]
    assert [answer.remaining for answer in answers] == [2, 1, 0, 0]
    assert [answer.reset_seconds for answer in answers] == pytest.approx([20, 40, 60, 60], abs=1e-3)
    assert [answer.retry_seconds for answer in answers] == pytest.approx([0, 0, 0, 20], abs=1e-3)

    clock.now += 19
    assert not ledger.take("r", 3, 60).allowed
    clock.now += 1
    assert ledger.take("r", 3, 60).allowed
    assert not ledger.take("r", 3, 60).allowed
    assert ledger.take("other", 3, 60).allowed
    clock.now += 60
    assert [ledger.take("r", 3, 60).allowed for _ in range(4)] == [True, True, True, False]


def test_a_clock_that_is_set_back_locks_nobody_out(ledger: Ledger, clock: Clock) -> None:
    assert [ledger.take("r", 3, 60).allowed for _ in range(4)] == [True, True, True, False]
    granted(acquire(ledger, "a"))
    clock.now -= 3600
    refused = ledger.take("r", 3, 60)
    assert not refused.allowed
    assert refused.retry_seconds == pytest.approx(20, abs=1e-3)
    granted(acquire(ledger, "b"))
    clock.now += TTL + 1
    assert ledger.take("r", 3, 60).allowed
    assert ledger.held(["a", "b"]) == {"a": 0, "b": 0}


# -- marks ----------------------------------------------------------------------------------------


def test_a_mark_stands_until_it_expires_or_is_taken_away(ledger: Ledger, clock: Clock) -> None:
    ledger.mark("a", "refused", 10)
    ledger.mark("b", "busy: „später“", 100)
    marks = ledger.marks(["a", "b", "c"])
    assert {name: mark.text for name, mark in marks.items()} == {"a": "refused", "b": "busy: „später“"}
    assert marks["a"].seconds_left == pytest.approx(10, abs=1e-3)
    clock.now += 11
    assert set(ledger.marks(["a", "b", "c"])) == {"b"}
    ledger.mark("b", "other", 10)
    assert ledger.marks(["b"])["b"].text == "other"
    ledger.unmark("b")
    ledger.unmark("b")
    assert ledger.marks(["a", "b"]) == {}
