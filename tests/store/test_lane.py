"""Blocking calls wait in a thread of their own under gevent, and in the caller's otherwise."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest
from harness.threads import at_once

from deepseek_proxy.store.lane import lane

# Patching a process is for good: it needs one of its own.
UNDER_GEVENT = """
from gevent import monkey; original = monkey.get_original("time", "sleep"); monkey.patch_all()
import gevent, threading, time
from deepseek_proxy.store.lane import lane

own = lane()
ticks = []
def tick():
    while True:
        ticks.append(1); gevent.sleep(0.01)
ticker = gevent.spawn(tick)
calls = [gevent.spawn(own.run, lambda: original(0.2)) for _ in range(2)]
started = time.monotonic()
gevent.joinall(calls, raise_error=True)
assert time.monotonic() - started >= 0.4, "one after another"
assert len(ticks) > 15, "others go on"

done = []
killed = gevent.spawn(own.run, lambda: (original(0.2), done.append(1)))
gevent.sleep(0.05); killed.kill(); assert not done
gevent.sleep(0.4); assert done, "what was begun is done"

try:
    own.run(lambda: 1 / 0)
except ZeroDivisionError:
    own.close(); print("well")
"""


def test_under_gevent_nobody_else_waits() -> None:
    ran = subprocess.run([sys.executable, "-c", UNDER_GEVENT], capture_output=True, text=True, timeout=60)
    assert ran.stdout == "well\n", ran.stderr


def test_under_threads_calls_are_made_one_after_another() -> None:
    own = lane()
    inside: list[int] = []
    most: list[int] = []

    def call() -> None:
        inside.append(1)
        most.append(len(inside))
        time.sleep(0.02)
        inside.pop()

    at_once(5, lambda _: own.run(call))
    assert most == [1] * 5
    own.close()


def test_what_is_returned_and_raised_reaches_the_caller() -> None:
    own = lane()
    assert own.run(lambda: 42) == 42
    with pytest.raises(ZeroDivisionError):
        own.run(lambda: 1 / 0)
    assert own.run(lambda: 43) == 43
    own.close()
