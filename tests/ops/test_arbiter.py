"""The arbiter around a reload, as processes: what it does while a replaced worker still serves its streams.

That a reload refuses and cuts nothing: tests/faults/test_lifecycle.py.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness.client import Call
from harness.fake_upstream import FakeUpstream
from harness.gateway import Gateway
from harness.halves import Halves
from harness.responses import read_stream
from harness.waiting import wait_for


class Reloaded:
    """A gateway after a reload: the old worker still has an open stream, the new one is there."""

    def __init__(self, folder: Path, stack: contextlib.ExitStack) -> None:
        halves = Halves()
        self.curtain = halves.curtain
        upstream = FakeUpstream()
        stack.callback(upstream.close)
        upstream.serve(halves)
        self.gateway = Gateway(folder, upstream.url, settings={"drain_seconds": 1})
        stack.callback(self.gateway.process.wait)
        stack.callback(self.gateway.process.kill)
        self.stream = stack.enter_context(self.gateway.ask()).reply()
        (self.old,) = self.gateway.worker_pids()
        self.reload()
        self.new = self.workers()[-1]

    def reload(self) -> None:
        before = self.workers()
        self.gateway.process.send_signal(signal.SIGHUP)
        wait_for(lambda: len(self.workers()) > len(before))
        wait_for(self.is_answering)

    def workers(self) -> list[int]:
        """All workers that were ever started, the oldest first."""
        return [int(pid) for pid in re.findall(r"Booting worker with pid: (\d+)", self.gateway.log)]

    def is_answering(self) -> bool:
        with Call(self.gateway.port, "GET", "/readyz") as call:
            return call.reply().status == 200


@pytest.fixture
def reloaded(tmp_path: Path) -> Iterator[Reloaded]:
    with contextlib.ExitStack() as stack:
        yield Reloaded(tmp_path, stack)


def test_a_replaced_worker_does_not_count_as_one_that_serves(reloaded: Reloaded) -> None:
    """Else nobody would take the place of a new worker that dies, for as long as the old one has a stream."""
    os.kill(reloaded.new, signal.SIGKILL)
    wait_for(lambda: len(reloaded.workers()) == 3)
    assert reloaded.is_answering()
    reloaded.curtain.set()
    assert read_stream(reloaded.stream).text == "Hello"
    wait_for(lambda: reloaded.old not in reloaded.gateway.worker_pids())
    assert len(reloaded.gateway.worker_pids()) == 1


def test_the_end_of_the_server_is_the_end_of_replaced_workers_too(reloaded: Reloaded) -> None:
    """And is not held up by the reload."""
    told = time.monotonic()
    reloaded.gateway.process.send_signal(signal.SIGTERM)
    stream = read_stream(reloaded.stream)
    assert stream.final["status"] == "failed"
    assert 0.9 < stream.frames[-1].at - told < 3
    assert reloaded.gateway.process.wait(5) == 0


def test_a_second_reload_leaves_one_worker_in_service(reloaded: Reloaded) -> None:
    reloaded.reload()
    reloaded.curtain.set()
    assert read_stream(reloaded.stream).text == "Hello"
    wait_for(lambda: len(reloaded.gateway.worker_pids()) == 1)
    assert reloaded.gateway.worker_pids() == reloaded.workers()[2:]
    assert reloaded.is_answering()
