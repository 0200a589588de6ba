"""The runner starts and ends all three servers; the leak guard finds a leak."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import deepseek
from harness.fake_upstream import FakeUpstream
from harness.gateway import CLIENT_KEY, Gateway, Server
from harness.leaks import no_leaks
from harness.wire import Request, Wire

APP = "harness.tiny_gateway:app"


@pytest.fixture(scope="module")
def upstream() -> Iterator[FakeUpstream]:
    server = FakeUpstream()
    yield server
    server.close()
    assert server.failures == []


@pytest.fixture(scope="module", params=list(Server))
def gateway(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, upstream: FakeUpstream
) -> Iterator[Gateway]:
    runner = Gateway(tmp_path_factory.mktemp("gateway"), upstream.url, server=request.param, app=APP)
    yield runner
    runner.stop()


def slow(_: Request, wire: Wire) -> None:
    wire.start_stream()
    for frame in deepseek.frames():
        wire.chunk(frame)
        wire.sleep(0.03)
    wire.end()


def test_a_stream_passes_through_as_it_comes(gateway: Gateway, upstream: FakeUpstream) -> None:
    upstream.serve(slow)
    with no_leaks(gateway, upstream), gateway.ask() as call:
        frames = list(call.reply().frames())
    assert frames[-1].is_done
    gaps = [after.at - before.at for before, after in itertools.pairwise(frames)]
    assert min(gaps) > 0.01
    assert upstream.requests[0].json()["stream"] is True


def test_the_guard_finds_a_leaked_connection(gateway: Gateway, upstream: FakeUpstream) -> None:
    def stay(_: Request, wire: Wire) -> None:
        wire.respond(200, b"{}")
        wire.wait_closed(30)

    upstream.serve(stay)
    with (
        pytest.raises(AssertionError, match="upstream sockets are held"),
        no_leaks(gateway, upstream, settle_seconds=0.2),
        gateway.ask({"X-Leak": "1"}) as call,
    ):
        assert call.reply().json() == {}


def test_a_secret_in_the_log_is_found(tmp_path: Path, upstream: FakeUpstream) -> None:
    runner = Gateway(tmp_path, upstream.url, server=Server.FLASK, app=APP)
    with runner.call("GET", f"/{CLIENT_KEY}") as call:  # werkzeug logs the path
        assert call.reply().status == 404
    with pytest.raises(AssertionError, match="stands in the log"):
        runner.stop()


def test_a_gateway_that_does_not_start_says_why(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="no_such_module"):
        Gateway(tmp_path, "http://127.0.0.1:9", server=Server.FLASK, app="no_such_module:app")
