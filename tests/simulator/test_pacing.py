from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import pytest

from deepseek_proxy.simulator.pacing import Break, ConnectionBroken, Pause, Send, play


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """The server's and the client's end of one connection."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def test_bytes_come_out_in_their_order() -> None:
    assert list(play([Send(b"a"), Pause(0), Send(b"b")], None)) == [b"a", b"b"]


def test_a_pause_takes_its_time(pair: tuple[socket.socket, socket.socket]) -> None:
    for connection in (None, pair[0]):
        started = time.monotonic()
        assert list(play([Pause(0.05), Send(b"a")], connection)) == [b"a"]
        assert 0.04 < time.monotonic() - started < 2


@pytest.mark.parametrize("reset", [True, False])
def test_a_break_ends_it(reset: bool) -> None:
    playing = play([Send(b"a"), Break(reset), Send(b"b")], None)
    assert next(playing) == b"a"
    with pytest.raises(ConnectionBroken) as caught:
        next(playing)
    assert caught.value.reset is reset


def test_a_pause_ends_when_the_client_leaves(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    theirs.close()
    started = time.monotonic()
    with pytest.raises(ConnectionAbortedError):
        list(play([Pause(30)], ours))
    assert time.monotonic() - started < 1


def test_a_pause_goes_on_when_the_next_request_is_there_already(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    ours, theirs = pair
    theirs.sendall(b"POST /")
    started = time.monotonic()
    assert list(play([Pause(0.05), Send(b"a")], ours)) == [b"a"]
    assert time.monotonic() - started > 0.04
    assert ours.recv(10) == b"POST /", "nothing of it was taken"
