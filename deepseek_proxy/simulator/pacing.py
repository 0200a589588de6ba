"""Plays an answer in real time: bytes, pauses and broken connections, one step after the other.

Refuses to know what the bytes mean. A pause ends at once when the client leaves, so that a test can see how
soon a gateway hangs up on an upstream that is silent.
"""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Iterable, Iterator
from typing import NamedTuple


class Send(NamedTuple):
    """Bytes that go out in one write."""

    data: bytes


class Pause(NamedTuple):
    """Nothing goes out for so long."""

    seconds: float


class Break(NamedTuple):
    """The connection ends here, in the middle of the body: with a reset, or just closed."""

    reset: bool


Step = Send | Pause | Break


class ConnectionBroken(Exception):
    """Raised out of a body to tell the server to end the connection now."""

    def __init__(self, *, reset: bool) -> None:
        super().__init__("reset" if reset else "closed")
        self.reset = reset


def play(steps: Iterable[Step], connection: socket.socket | None) -> Iterator[bytes]:
    """The bytes of `steps`, each at its time. `connection` is the client's, None where it is not known.

    Raises `ConnectionBroken` at a `Break`, and `ConnectionAbortedError` when the client leaves in a pause.
    """
    for step in steps:
        if isinstance(step, Send):
            yield step.data
        elif isinstance(step, Pause):
            _pause(step.seconds, connection)
        else:
            raise ConnectionBroken(reset=step.reset)


def _pause(seconds: float, connection: socket.socket | None) -> None:
    if seconds <= 0:
        return
    if connection is None:
        time.sleep(seconds)
        return
    ends = time.monotonic() + seconds
    watch = select.poll()  # not select(): there may be thousands of connections
    watch.register(connection, select.POLLIN)
    if watch.poll(seconds * 1000):
        if not connection.recv(1, socket.MSG_PEEK):
            raise ConnectionAbortedError("The client left.")
        # The next request is there already; this answer comes first.
        time.sleep(max(0.0, ends - time.monotonic()))
