"""Stored and background responses over real servers: seen from another process, cut off, stopped, killed.

Two gateways share a folder of state, so that it is known which process makes a response, and which is asked.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import orjson
import pytest
from harness import deepseek
from harness.client import Call
from harness.fake_upstream import FakeUpstream
from harness.gateway import CLIENT_KEY, Gateway, Server
from harness.halves import Halves
from harness.responses_grammar import assert_responses_grammar
from harness.waiting import wait_for

from deepseek_proxy.api.gateway import tenant_of
from deepseek_proxy.store.base import Limits
from deepseek_proxy.store.packing import decompress
from deepseek_proxy.store.sqlite import SqliteBackend
from deepseek_proxy.translate.responses import replay

OWNER = tenant_of(CLIENT_KEY)
SECONDS = 10.0
Run = Callable[..., Gateway]
Start = Callable[[str, Server, Mapping[str, object]], Gateway]
Pair = tuple[Gateway, Gateway]
SERVERS = pytest.mark.parametrize("server", [Server.GEVENT, Server.GTHREAD], ids=lambda server: server.value)


@pytest.fixture
def play() -> Halves:
    return Halves()


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("state")


@pytest.fixture
def run(
    tmp_path: Path, state: Path, deepseek_server: FakeUpstream, play: Halves, upstream: FakeUpstream
) -> Iterator[Run]:
    """Starts gateways, for one test, that share their state with all others here."""
    upstream.serve(play)
    running: list[Gateway] = []

    def start(server: Server = Server.GEVENT, **settings: object) -> Gateway:
        folder = tmp_path / f"gateway{len(running)}"
        folder.mkdir()
        shared = {"state_dir": state, "drain_seconds": 4, **settings}
        running.append(Gateway(folder, deepseek_server.url, server=server, settings=shared))
        return running[-1]

    yield start
    play.curtain.set()
    for gateway in running:
        if gateway.process.poll() is None:
            gateway.stop()


@pytest.fixture
def pair(start: Start, state: Path, upstream: FakeUpstream, play: Halves, server: Server) -> Iterator[Pair]:
    """Two gateways that last: one to make responses, and another one."""
    settings = {"state_dir": state}
    maker, other = (start(f"stored {name} {server.value}", server, settings) for name in ("maker", "other"))
    upstream.serve(play)
    yield maker, other
    play.curtain.set()


@pytest.fixture
def server() -> Server:
    return Server.GEVENT


def send(gateway: Gateway, method: str, path: str) -> tuple[int, Any]:
    with gateway.call(method, f"/v1/responses/{path}") as call:
        reply = call.reply()
        return reply.status, reply.json()


def begin(gateway: Gateway) -> str:
    """The id of a background response."""
    with gateway.ask(background=True, stream=False) as call:
        reply = call.reply()
        assert (reply.status, reply.json()["status"]) == (200, "queued")
        return str(reply.json()["id"])


def status(gateway: Gateway, id: str) -> str:
    return str(send(gateway, "GET", id)[1]["status"])


def wait_for_status(gateway: Gateway, id: str, *expected: str) -> None:
    wait_for(lambda: status(gateway, id) in expected)


def replayed(gateway: Gateway, id: str, after: int | None = None) -> bytes:
    behind = f"&starting_after={after}" if after is not None else ""
    with gateway.call("GET", f"/v1/responses/{id}?stream=true{behind}") as call:
        reply = call.reply()
        assert reply.headers["content-type"].startswith("text/event-stream")
        return bytes(reply.body)


def events(data: bytes) -> list[dict[str, Any]]:
    frames = [frame for frame in data.split(b"\n\n") if frame.startswith(b"event: ")]
    return [orjson.loads(frame.split(b"\ndata: ")[1]) for frame in frames]


def first_half(call: Call) -> bytes:
    seen = b""
    for piece in call.reply().pieces():
        seen += piece.data
        if b'"delta":"Hel"' in piece.data:
            break
    return seen


# -- from another process -------------------------------------------------------------------------


@SERVERS
def test_another_process_streams_it_live(pair: Pair, play: Halves) -> None:
    maker, other = pair
    id = begin(maker)
    with other.call("GET", f"/v1/responses/{id}?stream=true") as call:
        seen = b""
        for piece in call.reply().pieces():
            seen += piece.data
            if b'"delta":"Hel"' in piece.data:
                play.curtain.set()
    assert seen.endswith(b"data: [DONE]\n\n")
    assert assert_responses_grammar(events(seen))["status"] == "completed"
    assert replayed(maker, id) == replayed(other, id) == seen
    last = events(seen)[4]["sequence_number"]
    assert seen.endswith(replayed(other, id, last))
    assert events(replayed(other, id, last))[0]["sequence_number"] == last + 1


@SERVERS
def test_another_process_cancels_it(pair: Pair, play: Halves) -> None:
    maker, other = pair
    id = begin(maker)
    wait_for_status(other, id, "in_progress")
    code, cancelled = send(other, "POST", f"{id}/cancel")
    assert (code, cancelled["status"]) == (200, "cancelled")
    assert cancelled["output"][-1]["content"][0]["text"] == "Hel"
    wait_for(lambda: play.left)
    assert send(maker, "GET", id)[1] == cancelled
    assert send(maker, "POST", f"{id}/cancel") == (200, cancelled)


def test_the_next_turn_may_be_another_process_s(pair: Pair, upstream: FakeUpstream) -> None:
    maker, other = pair
    upstream.serve(deepseek.answers())
    with maker.ask(input="One?") as call:
        last = events(call.reply().body)[-1]["response"]
    with other.ask(input="Two?", previous_response_id=last["id"]) as call:
        assert events(call.reply().body)[-1]["type"] == "response.completed"
    said = [message["content"] for message in upstream.requests[-1].json()["messages"]]
    assert said == ["One?", "Hello", "Two?"]


# -- clients that leave ---------------------------------------------------------------------------


@pytest.mark.parametrize("abruptly", [False, True], ids=["FIN", "RST"])
def test_a_stream_whose_client_leaves_is_cancelled(pair: Pair, play: Halves, abruptly: bool) -> None:
    gateway, _ = pair
    with gateway.ask() as call:
        seen = first_half(call)
        call.leave(abruptly=abruptly)
    id = events(seen)[0]["response"]["id"]
    wait_for_status(gateway, id, "cancelled")
    wait_for(lambda: play.left)
    found = send(gateway, "GET", id)[1]
    assert found["output"][-1]["content"][0]["text"] == "Hel"
    assert replayed(gateway, id) == seen + b"data: [DONE]\n\n"


@SERVERS
def test_a_background_response_outlives_its_client(pair: Pair, play: Halves) -> None:
    gateway, _ = pair
    with gateway.ask(background=True) as call:
        seen = first_half(call)
        call.leave(abruptly=True)
    play.curtain.set()
    id = events(seen)[0]["response"]["id"]
    wait_for_status(gateway, id, "completed")
    whole = replayed(gateway, id)
    assert whole.startswith(seen)
    assert not play.left
    assert_responses_grammar(events(whole))


# -- processes that end ---------------------------------------------------------------------------


@SERVERS
def test_a_stop_waits_for_what_is_made_in_the_background(
    run: Run, pair: Pair, play: Halves, server: Server
) -> None:
    maker, (other, _) = run(server), pair
    id = begin(maker)
    wait_for_status(other, id, "in_progress")
    maker.process.send_signal(signal.SIGTERM)
    time.sleep(0.5)
    play.curtain.set()
    assert maker.process.wait(SECONDS) == 0
    assert status(other, id) == "completed"


def test_what_outlasts_the_stop_has_failed(run: Run, pair: Pair, play: Halves) -> None:
    maker, (other, _) = run(drain_seconds=1), pair
    id = begin(maker)
    wait_for_status(other, id, "in_progress")
    maker.stop()
    found = send(other, "GET", id)[1]
    assert found["status"] == "failed"
    assert found["error"]["message"].startswith("The gateway is stopping.")
    wait_for(lambda: play.left)
    assert assert_responses_grammar(events(replayed(other, id))) == found


@pytest.mark.parametrize("background", [True, False], ids=["background", "streamed"])
def test_what_a_killed_process_made_has_failed(run: Run, pair: Pair, state: Path, background: bool) -> None:
    maker, (other, _) = run(), pair
    with maker.ask(background=background) as call:
        seen = first_half(call)
        id = events(seen)[0]["response"]["id"]
        wait_for(lambda: b'"delta":"Hel"' in b"".join(stored(state, id)))
        (worker,) = maker.worker_pids()
        os.kill(worker, signal.SIGKILL)
        assert status(other, id) == "in_progress"
        lapse(state, id)
    found = send(other, "GET", id)[1]
    assert (found["status"], found["error"]["message"]) == ("failed", replay.ABANDONED)
    whole = replayed(other, id)
    assert whole.startswith(seen)
    assert assert_responses_grammar(events(whole)) == found
    assert send(other, "POST", f"{id}/cancel") == ((200, found) if background else (400, _cannot_cancel()))


def _cannot_cancel() -> dict[str, Any]:
    message = "Cannot cancel a synchronous response: only responses with 'background': true can be cancelled."
    return {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": None}}


def backend(folder: Path) -> SqliteBackend:
    return SqliteBackend(folder / "store.db", Limits(1 << 30, 1 << 30))


def stored(folder: Path, id: str) -> list[bytes]:
    """The events that have been written so far."""
    opened = backend(folder)
    try:
        found = opened.events(OWNER, id, -1, 1 << 20)
        return [decompress(blob) for _, blob in found.pieces] if found is not None else []
    finally:
        opened.close()


def lapse(folder: Path, id: str) -> None:
    """Lets the time pass after which a worker that says nothing is taken for dead."""
    opened = backend(folder)
    try:
        found = opened.response(OWNER, id)
        assert found is not None
        opened.beat(found.worker, 0)
    finally:
        opened.close()
