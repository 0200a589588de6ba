"""Those who wait are woken one by one."""

from __future__ import annotations

import threading
import time

import pytest

from deepseek_proxy.store.ledger.base import Ticket
from deepseek_proxy.upstream.waiting import OTHERS_LOOK_SECONDS, WaitingRoom


def ticket(number: int, names: str) -> Ticket:
    return Ticket(str(number), "w", tuple(names), number)


def test_what_is_given_back_is_for_the_first_who_waits_for_it() -> None:
    room = WaitingRoom()
    with room.joined(ticket(2, "ab")) as second, room.joined(ticket(1, "a")) as first:
        room.wake(["a"])
        assert (first.is_due, second.is_due) == (True, False)
        assert first.wait(10)
        assert not first.is_due
        room.wake(["b", "nobody's"])
        assert (first.is_due, second.is_due) == (False, True)
    assert room._lines == {}


@pytest.mark.parametrize(
    ("given_back", "served", "looks"), [(1, True, False), (2, True, True), (1, False, True)]
)
def test_the_next_looks_only_if_something_may_be_left(given_back: int, served: bool, looks: bool) -> None:
    room = WaitingRoom()
    with room.joined(ticket(2, "a")) as second:
        with room.joined(ticket(1, "a")) as first:
            for _ in range(given_back):
                room.wake(["a"])
            assert first.wait(10)
            first.is_served = served
        assert second.is_due is looks
        began = time.monotonic()
        assert second.wait(10) is looks
        assert time.monotonic() - began < OTHERS_LOOK_SECONDS / 2, "it is told that it is first"
        room.wake(["a"])
        assert second.wait(10)


def test_what_was_given_back_makes_as_many_look_and_no_more() -> None:
    room = WaitingRoom()
    with room.joined(ticket(3, "a")) as third:
        with room.joined(ticket(2, "a")) as second:
            with room.joined(ticket(1, "a")) as first:
                for _ in range(2):
                    room.wake(["a"])
                assert first.wait(10)
                first.is_served = True
            assert second.wait(10)
            second.is_served = True
        assert not third.is_due


def test_who_leaves_from_the_middle_of_the_line_troubles_nobody() -> None:
    room = WaitingRoom()
    with room.joined(ticket(1, "a")) as first, room.joined(ticket(3, "a")) as third:
        with room.joined(ticket(2, "a")):
            pass
        assert not first.is_due
        assert not third.is_due


def test_the_next_looks_where_the_first_found_something_by_itself() -> None:
    room = WaitingRoom()
    with room.joined(ticket(2, "a")) as second:
        with room.joined(ticket(1, "a")) as first:
            assert first.wait(10)
            first.is_served = True
        assert second.is_due


def test_a_wait_that_is_ended_from_outside_is_no_turn() -> None:
    room = WaitingRoom()
    with room.joined(ticket(1, "a")), room.joined(ticket(2, "a")) as second:
        threading.Timer(0.05, second.wake).start()
        began = time.monotonic()
        assert not second.wait(10)
        assert time.monotonic() - began < OTHERS_LOOK_SECONDS / 2


def test_the_first_looks_often_and_the_others_now_and_then() -> None:
    room = WaitingRoom()
    with room.joined(ticket(1, "a")) as first, room.joined(ticket(2, "a")) as second:
        began = time.monotonic()
        assert first.wait(10)
        assert time.monotonic() - began < OTHERS_LOOK_SECONDS / 2
        began = time.monotonic()
        assert second.wait(0.2)
        assert time.monotonic() - began > 0.19
