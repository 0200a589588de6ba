"""A client that stops reading: nothing piles up in the gateway, and in the end it loses its connection."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import deepseek
from harness.fake_upstream import FakeUpstream
from harness.gateway import Gateway
from harness.wire import Request, Wire

STALL_SECONDS = 1.0
NOTICED_WITHIN_SECONDS = 6.0
FLOOD = deepseek.text("x" * 60_000)
MAX_FLOODED_BYTES = 32 * 1024 * 1024  # what the buffers of the kernel may hold in all, generously


class Flood:
    """Sends until nobody takes any more, and remembers how much that was."""

    def __init__(self) -> None:
        self.sent = 0
        self.over = threading.Event()

    def __call__(self, request: Request, wire: Wire) -> None:
        wire.start_stream()
        wire.chunk(deepseek.opening())
        try:
            while self.sent < 4 * MAX_FLOODED_BYTES:
                wire.chunk(FLOOD)
                self.sent += len(FLOOD)
        except OSError:
            pass
        finally:
            self.over.set()


@pytest.fixture
def upstream() -> Iterator[FakeUpstream]:
    server = FakeUpstream()
    yield server
    server.close()


def test_a_client_that_takes_nothing(upstream: FakeUpstream, tmp_path: Path) -> None:
    flood = Flood()
    upstream.serve(flood)
    settings = {"client_stall_seconds": STALL_SECONDS, "state_dir": tmp_path}
    gateway = Gateway(tmp_path, upstream.url, settings=settings)
    try:
        body = json.dumps({"model": "deepseek-flash", "input": "hi", "stream": True}).encode()
        head = (
            "POST /v1/responses HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer sk-canary\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        with socket.create_connection(("127.0.0.1", gateway.port)) as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.sendall(head.encode() + body)
            began = time.monotonic()
            assert flood.over.wait(NOTICED_WITHIN_SECONDS + 4), "the upstream was not let go"
            assert time.monotonic() - began < NOTICED_WITHIN_SECONDS
        assert flood.sent < MAX_FLOODED_BYTES, "the gateway took more than its client did"
    finally:
        gateway.stop()
