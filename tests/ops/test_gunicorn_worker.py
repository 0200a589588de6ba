"""The gevent worker's end, seen from its connections.

With streams: tests/faults/test_lifecycle.py. What outlives its grace: tests/test_gunicorn_conf.py.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness.gateway import Gateway

from deepseek_proxy.ops.gunicorn_worker import LINGER_SECONDS

KEEPALIVE_SECONDS = 3


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Gateway]:
    runner = Gateway(tmp_path, "http://127.0.0.1:9", options=("--keep-alive", str(KEEPALIVE_SECONDS)))
    yield runner
    runner.process.kill()
    runner.process.wait()


def connect(gateway: Gateway) -> socket.socket:
    return socket.create_connection(("127.0.0.1", gateway.port), timeout=15)


def get(connection: socket.socket) -> bytes:
    """The answer to a request, as it came."""
    connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
    received = b""
    while not received.endswith(b"}\n"):
        received += connection.recv(4096)
    return received


def test_an_idle_connection_is_kept_and_then_closed(gateway: Gateway) -> None:
    with connect(gateway) as connection:
        assert get(connection)
        answered = time.monotonic()
        assert connection.recv(4096) == b""
        assert KEEPALIVE_SECONDS - 0.2 < time.monotonic() - answered < KEEPALIVE_SECONDS + 2
    assert "Traceback" not in gateway.log


def test_idle_connections_hold_up_the_end_for_a_moment_only(gateway: Gateway) -> None:
    with connect(gateway) as silent, connect(gateway) as idle, connect(gateway) as used:
        for connection in (idle, used):
            assert get(connection).startswith(b"HTTP/1.1 200")
        time.sleep(0.2)  # all of them are accepted
        told = time.monotonic()
        gateway.process.terminate()
        time.sleep(LINGER_SECONDS / 3)
        assert b"connection: close" in get(used).lower()
        assert idle.recv(4096) == silent.recv(4096) == b""
        assert LINGER_SECONDS - 0.2 < time.monotonic() - told < LINGER_SECONDS + 2
    assert gateway.process.wait(5) == 0
    assert time.monotonic() - told < LINGER_SECONDS + 3
    assert "Traceback" not in gateway.log
