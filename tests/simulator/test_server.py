"""The server keeps connections, sends as it goes, and ends without a trace."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from harness.threads import at_once
from harness.waiting import wait_for

from deepseek_proxy.simulator import SimulatorConfig, create_simulator, running
from deepseek_proxy.simulator.server import SimulatorServer

KEY = {"Authorization": "Bearer sk-simulator-test-0001"}


def body(prompt: str = "say hello", **more: Any) -> str:
    return json.dumps({"model": "deepseek-flash", "messages": [{"role": "user", "content": prompt}], **more})


def connect(base_url: str) -> http.client.HTTPConnection:
    return http.client.HTTPConnection(base_url.removeprefix("http://"), timeout=10)


def recorded(base_url: str) -> dict[str, Any]:
    connection = connect(base_url)
    connection.request("GET", "/_simulator/requests")
    seen: dict[str, Any] = json.loads(connection.getresponse().read())
    connection.close()
    return seen


@pytest.fixture
def base_url() -> Iterator[str]:
    with running() as base_url:
        yield base_url


def test_one_connection_serves_many_requests(base_url: str) -> None:
    connection = connect(base_url)
    for stream in (True, False, True):
        connection.request("POST", "/chat/completions", body(stream=stream), KEY)
        response = connection.getresponse()
        assert response.version == 11
        assert response.headers["Transfer-Encoding"] == "chunked"
        assert b"hello" in response.read()
    connection.request("GET", "/models", headers=KEY)
    assert len(json.loads(connection.getresponse().read())["data"]) == 2
    connection.request("POST", "/chat/completions", "{", KEY)
    assert connection.getresponse().read().startswith(b'{"error"')
    connection.request("HEAD", "/models", headers=KEY)
    assert connection.getresponse().read() == b""
    connection.close()
    ports = {record["connection"] for record in recorded(base_url)["requests"]}
    assert len(ports) == 1


def test_a_chunked_request_body(base_url: str) -> None:
    connection = connect(base_url)
    for _ in range(2):
        parts = iter([body().encode()[:10], body().encode()[10:]])
        connection.request("POST", "/chat/completions", parts, KEY, encode_chunked=True)
        assert b"hello" in connection.getresponse().read()
    connection.close()


def test_bytes_go_out_when_they_are_there(base_url: str) -> None:
    connection = connect(base_url)
    connection.request(
        "POST", "/chat/completions", body("[[simulate: fault stall after=1 seconds=30]]", stream=True), KEY
    )
    started = time.monotonic()
    assert connection.getresponse().read1().startswith(b"data: {")
    assert time.monotonic() - started < 5
    connection.close()


@pytest.mark.parametrize(
    "prompt",
    [
        "[[simulate: fault silence seconds=30]]",
        "[[simulate: fault stall seconds=30]]",
        "[[simulate: fault endless-comments]]",
    ],
)
def test_a_client_that_leaves_is_noticed(prompt: str, base_url: str) -> None:
    connection = connect(base_url)
    connection.request("POST", "/chat/completions", body(prompt, stream=True), KEY)
    wait_for(lambda: recorded(base_url)["active"] == 1)
    assert connection.sock is not None
    connection.sock.shutdown(socket.SHUT_RDWR)
    connection.close()
    wait_for(lambda: recorded(base_url)["requests"][0]["outcome"] == "client gone", seconds=1)
    assert recorded(base_url)["active"] == 0


def test_outcomes(base_url: str) -> None:
    for prompt in ("say hello", "[[simulate: fault reset]]", "[[simulate: fault 503]]"):
        connection = connect(base_url)
        try:
            connection.request("POST", "/chat/completions", body(prompt, stream=True), KEY)
            connection.getresponse().read()
        except ConnectionResetError:
            pass
        finally:
            connection.close()
    records = recorded(base_url)["requests"]
    assert [(r["status"], r["outcome"]) for r in records] == [
        (200, "complete"),
        (200, "broken"),
        (503, "refused"),
    ]
    assert all(r["started"] <= r["ended"] for r in records)


def test_the_end_waits_for_nothing_and_leaves_nothing() -> None:
    threads, files = threading.active_count(), len(os.listdir("/proc/self/fd"))
    with running() as base_url:
        idle, silent, streaming = connect(base_url), connect(base_url), connect(base_url)
        idle.request("POST", "/chat/completions", body(), KEY)
        idle.getresponse().read()
        silent.request("POST", "/chat/completions", body("[[simulate: fault silence seconds=60]]"), KEY)
        streaming.request(
            "POST", "/chat/completions", body("[[simulate: fault endless-comments]]", stream=True), KEY
        )
        wait_for(lambda: recorded(base_url)["active"] == 2)
        started = time.monotonic()
    assert time.monotonic() - started < 2
    for connection in (idle, silent, streaming):
        connection.close()
    assert threading.active_count() == threads
    assert len(os.listdir("/proc/self/fd")) == files
    with pytest.raises(ConnectionRefusedError):
        connect(base_url).connect()


def test_many_streams_at_once(base_url: str) -> None:
    """More than one thread's worth, each with its own answer."""
    seen: dict[int, bytes] = {}

    def ask(number: int) -> None:
        connection = connect(base_url)
        connection.request("POST", "/chat/completions", body(f"say number-{number}.", stream=True), KEY)
        seen[number] = connection.getresponse().read()
        connection.close()

    at_once(20, ask)
    assert all(f"{number}." in json_text(seen[number]) for number in range(20))


def json_text(stream: bytes) -> str:
    chunks = [json.loads(line[6:]) for line in stream.split(b"\n\n") if line.startswith(b"data: {")]
    return "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks)


def test_an_address_of_ipv6() -> None:
    with running(host="::1") as base_url:
        assert base_url.startswith("http://[::1]:")
        connection = connect(base_url)
        connection.request("GET", "/models", headers=KEY)
        assert connection.getresponse().status == 200
        connection.close()


def test_serve_ends_at_ctrl_c() -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    program = (
        # Where the tests run in the background, Ctrl-C is switched off for them and their children.
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler);"
        "from deepseek_proxy.simulator import SimulatorConfig, create_simulator, serve;"
        f"serve(create_simulator(SimulatorConfig(fault='402')), '127.0.0.1', {port})"
    )
    with subprocess.Popen([sys.executable, "-W", "error", "-c", program], stderr=subprocess.PIPE) as process:
        connection = connect(f"http://127.0.0.1:{port}")
        try:
            wait_for(lambda: can_connect(connection), seconds=20)
            connection.request("POST", "/chat/completions", body(), KEY)
            assert connection.getresponse().status == 402
            process.send_signal(signal.SIGINT)
            assert process.wait(15) == 0, "the open connection must not keep it"
        finally:
            connection.close()
            process.kill()
        assert process.stderr is not None
        assert process.stderr.read() == b""


def test_nor_does_one_that_was_being_accepted() -> None:
    """Ctrl-C may come while its thread is being started: it is given up then, and the thread lives."""
    server = SimulatorServer("127.0.0.1", 0, create_simulator(SimulatorConfig()))
    with contextlib.closing(connect(server.base_url)) as connection:
        connection.connect()
        accepted, address = server.get_request()
        server.process_request(accepted, address)
        connection.request("GET", "/models", headers=KEY)
        assert connection.getresponse().read()
        server.shutdown_request(accepted)
        end = threading.Thread(target=server.server_close, daemon=True)
        end.start()
        end.join(10)
        assert not end.is_alive()


def can_connect(connection: http.client.HTTPConnection) -> bool:
    try:
        connection.connect()
    except ConnectionRefusedError:
        return False
    return True


def test_a_request_that_is_none_ends_the_connection(base_url: str) -> None:
    with socket.create_connection(connect_address(base_url), timeout=5) as raw:
        raw.sendall(b"POST /chat/completions HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n")
        assert raw.recv(100) == b""


def connect_address(base_url: str) -> tuple[str, int]:
    host, _, port = base_url.removeprefix("http://").rpartition(":")
    return host, int(port)
