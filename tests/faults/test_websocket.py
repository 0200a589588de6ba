"""WebSockets through every server: what is sent, who leaves, what does not fit, and how they end."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from harness import deepseek
from harness.deepseek import answers
from harness.fake_upstream import FakeUpstream
from harness.gateway import CLIENT_KEY, PROMPT, Gateway, Server
from harness.halves import Halves
from harness.responses_grammar import assert_responses_grammar
from harness.waiting import wait_for
from harness.websocket import WebSocket
from harness.wire import Request, Wire

BEARER = {"Authorization": f"Bearer {CLIENT_KEY}"}
ALLOWED_SECONDS = 1.2  # for the upstream to be let go
IDLE = 200
BOTH = pytest.mark.parametrize("server", [Server.GEVENT, Server.GTHREAD], ids=lambda server: server.value)


def connect(gateway: Gateway, *, deflate: bool = False) -> WebSocket:
    return WebSocket(gateway.port, headers=BEARER, deflate=deflate)


# -- answers --------------------------------------------------------------------------------------


def test_turns_and_a_goodbye(any_gateway: Gateway, upstream: FakeUpstream) -> None:
    with connect(any_gateway) as client:
        first = assert_responses_grammar(client.ask(input=PROMPT))
        second = assert_responses_grammar(client.ask(input=PROMPT, previous_response_id=first["id"]))
        assert second["status"] == "completed"
        (error,) = client.ask(input=PROMPT, previous_response_id="resp_unknown")
        assert error["error"]["code"] == "previous_response_not_found"
        client.close()
        assert client.closed()[0] == 1000
    assert len(upstream.requests[1].json()["messages"]) == 3


@pytest.mark.parametrize("deflate", [False, True], ids=["plain", "deflate"])
def test_large_messages_both_ways(any_gateway: Gateway, upstream: FakeUpstream, deflate: bool) -> None:
    """Larger than any buffer of the kernel: a write that is cut short would show."""
    said, answer = "ü" * 150_000, "ä" * 50_000
    upstream.serve(answers([answer] * 10))
    with connect(any_gateway, deflate=deflate) as client:
        response = assert_responses_grammar(client.ask(input=said))
    assert response["output"][-1]["content"][0]["text"] == answer * 10
    assert upstream.requests[0].json()["messages"][0]["content"] == said


def test_a_message_beyond_the_limit(any_gateway: Gateway, upstream: FakeUpstream) -> None:
    with connect(any_gateway) as client:
        client.create(input="x" * (1 << 20))
        assert client.closed()[0] == 1009
    assert not upstream.requests


def test_many_at_once(gateway: Gateway, upstream: FakeUpstream) -> None:
    clients = [connect(gateway) for _ in range(20)]
    for client in clients:
        client.create(input=PROMPT)
    for client in clients:
        assert_responses_grammar(client.answer())
        client.leave()


def test_a_connection_that_waits_holds_little(gateway: Gateway, upstream: FakeUpstream) -> None:
    """Three times of what is measured on a quiet machine (docs/performance.md)."""
    (worker,) = gateway.worker_pids()
    with ExitStack() as stack:
        sizes = []
        for _ in range(2):
            for _ in range(IDLE):
                stack.enter_context(connect(gateway, deflate=True)).ask(input=PROMPT)
            sizes.append(proportional_size(worker))
    assert (sizes[1] - sizes[0]) / IDLE < 96 * 1024


def proportional_size(pid: int) -> int:
    """Memory in bytes: proc_pid_smaps_rollup, "Pss"."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    (size,) = [line.split()[1] for line in lines if line.startswith("Pss:")]
    return int(size) * 1024


# -- clients that leave, or stall -----------------------------------------------------------------


@pytest.mark.parametrize("goodbye", [True, False], ids=["goodbye", "cut"])
def test_a_client_that_leaves_in_mid_answer(
    any_gateway: Gateway, upstream: FakeUpstream, goodbye: bool
) -> None:
    """Heartbeats are the production ones: it is no failing write that finds out."""
    closed: list[float | None] = []

    def goes_on(_: Request, wire: Wire) -> None:
        wire.start_stream()
        wire.chunk(deepseek.opening() + deepseek.text("Hel"))
        closed.append(wire.wait_closed(4))

    upstream.serve(goes_on)
    client = connect(any_gateway)
    client.create(input=PROMPT)
    while client.event()["type"] != "response.output_text.delta":
        pass
    left = time.monotonic()
    if goodbye:
        client.close()
    else:
        client.leave(abruptly=True)
    upstream.wait_until(lambda: closed)
    client.leave()
    assert closed[0] is not None
    assert closed[0] - left < ALLOWED_SECONDS


def test_a_client_that_takes_nothing_loses_its_connection(tmp_path: Path) -> None:
    sent: list[int] = []
    over = threading.Event()

    def flood(_: Request, wire: Wire) -> None:
        wire.start_stream()
        wire.chunk(deepseek.opening())
        try:
            for _ in range(2000):
                wire.chunk(deepseek.text("x" * 60_000))
                sent.append(60_000)
        finally:
            over.set()

    with running(tmp_path, Server.GEVENT, client_stall_seconds=1) as (gateway, upstream):
        upstream.serve(flood)
        with connect(gateway) as client:
            client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.create(input=PROMPT)
            assert over.wait(10), "the upstream was not let go"
        assert sum(sent) < 32 << 20, "the gateway took more than its client did"


# -- the end of the server ------------------------------------------------------------------------


@contextmanager
def running(folder: Path, server: Server, **settings: Any) -> Iterator[tuple[Gateway, FakeUpstream]]:
    upstream = FakeUpstream()
    upstream.serve(answers())
    gateway = Gateway(folder, upstream.url, server=server, settings=settings)
    try:
        yield gateway, upstream
    finally:
        if gateway.process.poll() is None:
            gateway.stop()
        upstream.close()


@BOTH
def test_a_stop_ends_idle_connections_at_once_and_busy_ones_after_their_answer(
    tmp_path: Path, server: Server
) -> None:
    halves = Halves()
    with running(tmp_path, server) as (gateway, upstream), ExitStack() as stack:
        upstream.serve(halves)
        idle = [stack.enter_context(connect(gateway)) for _ in range(IDLE if server is Server.GEVENT else 10)]
        busy = stack.enter_context(connect(gateway))
        busy.create(input=PROMPT)
        while busy.event()["type"] != "response.output_text.delta":
            pass
        time.sleep(0.1)  # for the last of the idle ones to be waiting
        began = time.monotonic()
        gateway.process.send_signal(signal.SIGTERM)
        for client in idle:
            assert client.closed() == (1001, "The gateway is stopping. Connect again.")
        assert time.monotonic() - began < 2
        assert gateway.process.poll() is None
        halves.curtain.set()
        assert busy.answer()[-1]["type"] == "response.completed"
        assert busy.closed()[0] == 1001
        assert gateway.process.wait(5) == 0


@BOTH
def test_an_answer_that_outlives_the_stop_ends_in_its_own_words(tmp_path: Path, server: Server) -> None:
    def silent(_: Request, wire: Wire) -> None:
        wire.start_stream()
        wire.chunk(deepseek.opening() + deepseek.text("Hel"))
        wire.wait_closed(20)

    with running(tmp_path, server) as (gateway, upstream), connect(gateway) as client:
        upstream.serve(silent)
        client.create(input=PROMPT)
        while client.event()["type"] != "response.output_text.delta":
            pass
        gateway.process.send_signal(signal.SIGQUIT)
        if server is Server.GEVENT:  # threads are not waited for
            assert client.answer()[-1]["type"] == "response.failed"
            assert client.closed()[0] == 1001


def test_a_reload_moves_idle_connections_to_the_new_worker(tmp_path: Path) -> None:
    with running(tmp_path, Server.GEVENT) as (gateway, _), connect(gateway) as client:
        client.ask(input=PROMPT)
        old = gateway.worker_pids()
        os.kill(gateway.process.pid, signal.SIGHUP)
        assert client.closed()[0] == 1001
        wait_for(lambda: not set(gateway.worker_pids()) & set(old), 10)
        with connect(gateway) as again:
            assert again.ask(input=PROMPT)[-1]["type"] == "response.completed"
