"""Five hundred stored streams at once on one worker: all of them arrive, and all are kept."""

from __future__ import annotations

import asyncio
import http.client
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from harness import redis_server
from harness.gateway import CLIENT_KEY, ROOT, Gateway

STREAMS: Final = 500
TOKENS: Final = 20
GAP_NS: Final = 180_000_000
ARRIVING_SECONDS: Final = 2
"""The last one comes well before the first one ends."""
LIMIT_SECONDS: Final = 90
HEADERS: Final = {"Authorization": f"Bearer {CLIENT_KEY}", "Content-Type": "application/json"}


@pytest.fixture
def upstream() -> Iterator[int]:
    """The port of a DeepSeek that costs next to nothing, so that the gateway has the processor."""
    command = [sys.executable, "-m", "benchmarks.upstream"]
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    assert process.stdout is not None
    with process.stdout:
        port = int(process.stdout.readline())
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        connection.request("PUT", f"/?tokens={TOKENS}&gap_ns={GAP_NS}&per_write=1")
        assert connection.getresponse().status == 204
        connection.close()
        yield port
    process.kill()
    process.wait()


@pytest.fixture(params=["SQLite", "Redis"])
def store_url(request: pytest.FixtureRequest) -> Iterator[str]:
    if request.param == "SQLite":
        yield "sqlite:"
    else:
        with redis_server.running() as url:
            yield url


@pytest.fixture
def gateway(tmp_path: Path, upstream: int, store_url: str) -> Iterator[Gateway]:
    running = Gateway(tmp_path, f"http://127.0.0.1:{upstream}", settings={"store_url": store_url})
    yield running
    running.stop()


def terminal(body: bytes) -> dict[str, Any]:
    """The Response object of a stream's last event."""
    frame = body.rpartition(b"event: response.completed\ndata: ")[2].partition(b"\n\n")[0]
    event: dict[str, Any] = json.loads(frame)["response"]
    return event


async def fetch(port: int, method: str, path: str, body: bytes = b"") -> bytes:
    """The body of one answer, on a connection of its own."""
    fields = "".join(f"{name}: {value}\r\n" for name, value in HEADERS.items())
    head = f"{method} {path} HTTP/1.0\r\nHost: gateway\r\n{fields}Content-Length: {len(body)}\r\n\r\n"
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(head.encode() + body)
        header, _, answer = (await reader.read(-1)).partition(b"\r\n\r\n")
    finally:
        writer.close()
    assert header.split(b" ")[1] == b"200", answer[:500]
    return answer


def test_five_hundred_stored_streams_at_once(gateway: Gateway) -> None:
    port = gateway.port
    together = asyncio.Semaphore(20)

    async def ask(number: int) -> bytes:
        await asyncio.sleep(number * ARRIVING_SECONDS / STREAMS)
        asked = {"model": "deepseek-flash", "stream": True, "store": True, "input": f"stream {number}"}
        return await fetch(port, "POST", "/v1/responses", json.dumps(asked).encode())

    async def kept(number: int, sent: bytes) -> None:
        """What is kept of a stream is what its client was sent, all events and the end; looked at in every
        tenth, the object and the input."""
        response = terminal(sent)
        path = f"/v1/responses/{response['id']}"
        async with together:
            assert await fetch(port, "GET", f"{path}?stream=true") == sent
            if number % 10 == 0:
                assert json.loads(await fetch(port, "GET", path)) == response
                (item,) = json.loads(await fetch(port, "GET", f"{path}/input_items"))["data"]
                assert item["content"][0]["text"] == f"stream {number}"

    async def everything() -> None:
        streams = await asyncio.gather(*map(ask, range(STREAMS)))
        for sent in streams:
            assert sent.count(b"event: response.output_text.delta\n") == TOKENS
            assert sent.endswith(b"data: [DONE]\n\n")
        await asyncio.gather(*map(kept, range(STREAMS), streams))

    async def in_time() -> None:
        async with asyncio.timeout(LIMIT_SECONDS):
            await everything()

    asyncio.run(in_time())
