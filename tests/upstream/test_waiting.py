"""Those who wait are woken one by one."""

from __future__ import annotations

import threading
import time

from deepseek_proxy.store.ledger.base import Ticket
from deepseek_proxy.upstream.waiting import OTHERS_LOOK_SECONDS, WaitingRoom


def test_the_first_who_waits_for_a_name_is_woken() -> None:
    room = WaitingRoom()
    first, second, other = (Ticket(str(n), "w", names, n) for n, names in ((1, "ab"), (2, "a"), (3, "c")))
    woken: list[str] = []

    def wait(ticket: Ticket) -> None:
        with room.joined(ticket) as waiter:
            while not waiter._event.wait(0.001):
                pass
            woken.append(ticket.id)

    threads = [threading.Thread(target=wait, args=(ticket,)) for ticket in (second, first, other)]
    for thread in threads:
        thread.start()
    while sum(map(len, room._lines.values())) < 4:
        time.sleep(0.001)
    room.wake(["b"])
    threads[0].join(5)
    threads[1].join(5)
    assert woken == ["1", "2"], "whoever leaves wakes the next"
    room.wake(["a", "b"])
    assert woken == ["1", "2"]
    room.wake(["c"])
    threads[2].join(5)
    assert woken == ["1", "2", "3"]
    assert room._lines == {}


def test_the_first_looks_often_and_the_others_now_and_then() -> None:
    room = WaitingRoom()
    with room.joined(Ticket("1", "w", ("a",), 1)) as first, room.joined(Ticket("2", "w", ("a",), 2)) as next_:
        began = time.monotonic()
        first.wait(10)
        assert time.monotonic() - began < OTHERS_LOOK_SECONDS / 2
        began = time.monotonic()
        next_.wait(0.2)
        assert time.monotonic() - began > 0.19
        next_.wake()
        began = time.monotonic()
        next_.wait(10)
        assert time.monotonic() - began < OTHERS_LOOK_SECONDS / 2
