"""Waiting for a socket: at once when there is something, a tick when there is not, the same under gevent."""

from __future__ import annotations

import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator

import pytest

from deepseek_proxy.upstream.readiness import TICK_SECONDS, is_silent, readiness

SLACK_SECONDS = 0.25


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    near, far = socket.socketpair()
    with near, far:
        yield near, far


def test_something_to_read_is_told_at_once(pair: tuple[socket.socket, socket.socket]) -> None:
    near, far = pair
    far.send(b"x")
    started = time.monotonic()
    assert readiness(near).wait()
    assert time.monotonic() - started < SLACK_SECONDS


def test_so_is_the_end(pair: tuple[socket.socket, socket.socket]) -> None:
    near, far = pair
    far.close()
    assert readiness(near).wait()


def test_silence_lasts_a_tick(pair: tuple[socket.socket, socket.socket]) -> None:
    waiting = readiness(pair[0])
    started = time.monotonic()
    assert not waiting.wait()
    assert TICK_SECONDS * 0.9 < time.monotonic() - started < TICK_SECONDS + SLACK_SECONDS


def test_an_idle_connection_is_silent_until_it_speaks_or_ends(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    near, far = pair
    assert is_silent(near)
    far.send(b"x")
    assert not is_silent(near)
    near.recv(1)
    assert is_silent(near)
    far.close()
    assert not is_silent(near)


def test_many_descriptors_are_no_obstacle() -> None:
    """select() would refuse a descriptor of 1024 or more."""
    near, far = socket.socketpair()
    with near, far, socket.socket(fileno=_high_duplicate(near)) as high:
        far.send(b"x")
        assert high.fileno() >= 1024
        assert readiness(high).wait()


def _high_duplicate(sock: socket.socket) -> int:
    import fcntl

    return fcntl.fcntl(sock.fileno(), fcntl.F_DUPFD_CLOEXEC, 1024)


# What gevent does it does to a whole process: each of these runs in one of its own.
PRELUDE = f"""
from gevent import monkey; monkey.patch_all()
import gc, gevent, socket, time
from deepseek_proxy.upstream.readiness import TICK_SECONDS, is_silent, readiness
SLACK_SECONDS = {SLACK_SECONDS}
near, far = socket.socketpair()
waiting = readiness(near)
assert type(waiting).__name__ == "_GreenReadiness"

def timed():
    started = time.monotonic()
    return waiting.wait(), time.monotonic() - started
"""


def run_patched(script: str) -> None:
    code = PRELUDE + textwrap.dedent(script)
    warnings = ["-W", "error", "-W", "ignore::ResourceWarning"]
    done = subprocess.run([sys.executable, *warnings, "-c", code], capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stderr) == (0, "")


def test_gevent_something_to_read_is_told_at_once() -> None:
    run_patched("""
        far.send(b"x")
        readable, seconds = timed()
        assert readable and seconds < SLACK_SECONDS
        near.recv(1)
        gevent.spawn_later(0.05, far.send, b"y")
        readable, seconds = timed()
        assert readable and seconds < 0.05 + SLACK_SECONDS
        near.recv(1)
        far.close()
        assert waiting.wait()
    """)


def test_gevent_every_silent_wait_lasts_at_most_two_ticks_and_the_later_ones_one() -> None:
    """A client's leaving is noticed between two waits: within a second."""
    run_patched("""
        assert 2 * TICK_SECONDS <= 1
        readable, seconds = timed()
        assert not readable and seconds < 2 * TICK_SECONDS + SLACK_SECONDS, seconds
        for _ in range(2):
            readable, seconds = timed()
            assert not readable
            assert TICK_SECONDS * 0.9 < seconds < TICK_SECONDS + SLACK_SECONDS, seconds
        gevent.sleep(TICK_SECONDS / 2)
        far.send(b"x")
        assert timed()[0]
        near.recv(1)
        readable, seconds = timed()
        assert not readable and TICK_SECONDS * 0.9 < seconds < 2 * TICK_SECONDS + SLACK_SECONDS, seconds
    """)


def test_gevent_news_that_is_not_taken_disturbs_nobody_after_the_wait() -> None:
    run_patched("""
        far.send(b"x")
        assert waiting.wait()
        started = time.monotonic()
        gevent.sleep(0.3)  # would end early, or break, if the wait were still on
        assert time.monotonic() - started >= 0.3
        assert waiting.wait()
    """)


def test_gevent_others_run_meanwhile() -> None:
    run_patched("""
        ran = []
        gevent.spawn(ran.append, 1)
        waiting.wait()
        assert ran
    """)


def test_gevent_a_stream_that_is_killed_while_it_waits_leaves_nothing_behind() -> None:
    run_patched("""
        ended = []

        def stream():
            try:
                waiting.wait()
            finally:
                waiting.close()
                ended.append(True)

        greenlet = gevent.spawn(stream)
        gevent.sleep(0)
        greenlet.kill()
        assert ended
        far.send(b"x")  # wakes nobody
        gevent.sleep(2 * TICK_SECONDS)
        assert gevent.get_hub().loop.activecnt <= 1
    """)


def test_gevent_asking_for_silence_lets_nobody_else_run() -> None:
    run_patched("""
        others = []
        gevent.spawn(others.append, 1)
        assert is_silent(near)
        far.send(b"x")
        assert not is_silent(near)
        assert others == []
    """)


def test_gevent_a_closed_wait_lets_the_process_end() -> None:
    run_patched("""
        waiting.wait()
        waiting.close()
        near.close()
        assert gevent.wait(timeout=2)  # nothing is left to wait for
    """)


def test_gevent_a_thousand_streams_each_get_their_own_news() -> None:
    run_patched("""
        import resource
        resource.setrlimit(resource.RLIMIT_NOFILE, (4096, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
        waiting.close()
        pairs = [socket.socketpair() for _ in range(1000)]
        heard = []

        def stream(number, sock):
            own = readiness(sock)
            if own.wait():
                heard.append((number, sock.recv(8)))
            own.close()

        greenlets = [gevent.spawn(stream, number, near) for number, (near, _) in enumerate(pairs)]
        gevent.sleep(0)
        for number, (_, far) in enumerate(pairs):
            if number % 2:
                far.send(str(number).encode())
        gevent.joinall(greenlets, raise_error=True)
        assert sorted(heard) == [(n, str(n).encode()) for n in range(1000) if n % 2]
    """)
