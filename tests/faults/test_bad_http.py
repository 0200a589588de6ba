"""What is no HTTP request, or only half of one: answered in the envelope, and never quoted in a log."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest
from harness.fake_upstream import FakeUpstream
from harness.gateway import Gateway

PROMPT = "MYSECRETPROMPT"
HEAD = (
    b"POST /v1/responses HTTP/1.1\r\nHost: g\r\nAuthorization: Bearer sk-canary\r\n"
    b"Content-Type: application/json\r\n"
)


def exchange(gateway: Gateway, data: bytes, *, end: bool = False) -> list[bytes]:
    """Sends `data`, and gives the answers' heads and bodies as they came until the server closed."""
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=10) as client:
        client.sendall(data)
        if end:
            client.shutdown(socket.SHUT_WR)
        received = b""
        while piece := client.recv(65536):
            received += piece
    return received.split(b"HTTP/1.1 ")[1:]


def test_a_length_that_is_too_small_brings_no_prompt_into_the_log(
    gateway: Gateway, upstream: FakeUpstream
) -> None:
    text = json.dumps({"model": "deepseek-flash", "input": "€" * 12 + PROMPT}, ensure_ascii=False)
    data = HEAD + f"Content-Length: {len(text)}\r\n\r\n".encode() + text.encode()
    *_, last = exchange(gateway, data + b"\r\n\r\n")
    assert PROMPT.encode() not in last
    assert PROMPT not in gateway.log
    assert "Refused what is no HTTP request" in gateway.log


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GET / HTTP/1.1\r\nHost: g\r\nX-Long: " + b"x" * 70_000 + b"\r\n\r\n", b"431"),
        (b"nonsense\r\n\r\n", b"400"),
    ],
)
def test_what_is_no_request_is_refused_in_the_envelope(gateway: Gateway, data: bytes, status: bytes) -> None:
    (answer,) = exchange(gateway, data)
    assert answer.startswith(status)
    body = json.loads(answer.partition(b"\r\n\r\n")[2])
    assert set(body["error"]) == {"message", "type", "param", "code"}


@pytest.mark.parametrize("chunks", [b"zz\r\nhello\r\n", b'5\r\n{"mod'])
def test_broken_chunks_are_the_clients_mistake(gateway: Gateway, chunks: bytes) -> None:
    (answer,) = exchange(gateway, HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunks, end=True)
    assert answer.startswith(b"400")
    assert "Traceback" not in gateway.log


def test_a_body_that_never_comes_is_not_waited_for(upstream: FakeUpstream, tmp_path: Path) -> None:
    gateway = Gateway(tmp_path, upstream.url, settings={"client_stall_seconds": 1, "state_dir": tmp_path})
    try:
        (answer,) = exchange(gateway, HEAD + b'Content-Length: 200\r\n\r\n{"a')
        assert answer.startswith(b"408")
    finally:
        gateway.stop()
