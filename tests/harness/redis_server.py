"""A real Redis for the tests, on a free port of the loopback interface, with nothing on disk."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

from harness.programs import program


@contextmanager
def running() -> Iterator[str]:
    """The URL of a server that runs for as long as the block does. Skips where Redis is not installed."""
    with process() as (_, url):
        yield url


@contextmanager
def process() -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """The same, with the process, for tests that break it."""
    redis = program("redis-server", "valkey-server")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [redis, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        _wait(server, port)
        yield server, f"redis://127.0.0.1:{port}/0"
    finally:
        server.kill()
        server.wait()


def _wait(server: subprocess.Popen[bytes], port: int) -> None:
    until = time.monotonic() + 20
    while time.monotonic() < until and server.poll() is None:
        try:
            with socket.create_connection(("127.0.0.1", port), 1) as probe:
                probe.settimeout(1)
                probe.sendall(b"PING\r\n")
                if probe.recv(64).startswith(b"+PONG"):
                    return
        except OSError:
            pass
        time.sleep(0.02)
    raise AssertionError("redis-server did not start")
