"""The drain's state, what the application makes of it, and how it hears of a worker's signals.

The same with real servers and hundreds of streams: tests/faults/test_lifecycle.py.
"""

from __future__ import annotations

import io
import math
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from flask.testing import FlaskClient

from deepseek_proxy.api.gateway import EXTENSION
from deepseek_proxy.app import create_app
from deepseek_proxy.errors import Draining
from deepseek_proxy.ops.lifecycle import LAST_WORDS_SECONDS, Drain, follow_server
from deepseek_proxy.settings import isolated

FOLLOWED = (signal.SIGTERM, signal.SIGQUIT, signal.SIGINT)


# -- the state ------------------------------------------------------------------------------------


def test_before_the_drain_everything_is_let_in_and_nothing_has_to_end() -> None:
    drain = Drain()
    assert not drain.begun
    assert drain.ends_at == math.inf
    drain.admit()
    drain.check()


def test_while_draining_new_work_is_refused_and_open_work_goes_on() -> None:
    drain = Drain()
    drain.begin(60)
    with pytest.raises(Draining) as refused:
        drain.admit()
    assert refused.value.status == 503
    assert refused.value.retryable
    drain.check()
    assert 59 < drain.ends_at - time.monotonic() <= 60


@pytest.mark.parametrize("order", [Drain.leave, lambda drain: drain.begin(60)])
def test_connections_that_wait_are_woken_and_no_others(order: Callable[[Drain], None]) -> None:
    drain, woken = Drain(), list[str]()
    with drain.waking(lambda: woken.append("before")):
        pass
    with drain.waking(lambda: woken.append("one")), drain.waking(lambda: woken.append("two")):
        assert not drain.leaving
        order(drain)
        assert drain.leaving
    assert sorted(woken) == ["one", "two"]


def test_to_leave_is_not_to_stop() -> None:
    drain = Drain()
    drain.leave()
    drain.admit()
    drain.check()
    assert not drain.begun


@pytest.mark.parametrize("seconds", [0, -2])
def test_after_the_drain_open_work_ends(seconds: float) -> None:
    drain = Drain()
    drain.begin(seconds)
    with pytest.raises(Draining):
        drain.check()


def test_a_second_order_may_bring_the_end_forward_and_never_puts_it_off() -> None:
    drain = Drain()
    drain.begin(60)
    first = drain.ends_at
    drain.begin(90)
    assert drain.ends_at == first
    drain.begin(1)
    assert drain.ends_at < first


# -- the application ------------------------------------------------------------------------------


@pytest.fixture
def client(tmp_path: Path) -> FlaskClient:
    return create_app(isolated(state_dir=tmp_path)).test_client()


def drain_of(client: FlaskClient) -> Drain:
    drain: Drain = client.application.extensions[EXTENSION].drain
    return drain


def test_readyz_tells_that_the_gateway_drains_and_healthz_that_it_lives(client: FlaskClient) -> None:
    assert client.get("/readyz").status_code == 200
    drain_of(client).begin(60)
    answer = client.get("/readyz")
    assert (answer.status_code, answer.json) == (503, {"status": "draining"})
    assert client.get("/healthz").status_code == 200
    assert client.get("/version").status_code == 200
    assert client.get("/metrics").status_code == 200


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/v1/responses"), ("POST", "/responses/compact"), ("GET", "/v1/models"), ("GET", "/nowhere")],
)
def test_while_draining_all_else_is_answered_with_503(client: FlaskClient, method: str, path: str) -> None:
    drain_of(client).begin(60)
    answer = client.open(path, method=method, data=b"x" * 100_000)
    assert answer.status_code == 503
    assert answer.headers["Retry-After"] == "1"
    assert answer.json is not None
    assert answer.json["error"]["message"] == "The gateway is stopping. Send the request again."
    assert answer.headers["X-Request-ID"]


def test_a_refused_body_is_read_so_that_the_answer_arrives(client: FlaskClient) -> None:
    """A connection that is closed with unread bytes is reset, and the client may lose the answer."""
    drain_of(client).begin(60)
    body = io.BytesIO(bytes(1_000_000))
    client.post("/v1/responses", input_stream=body, content_length=1_000_000)
    assert body.tell() == 1_000_000


# -- the signals ----------------------------------------------------------------------------------


class Worker:
    """What `follow_server` knows of a gunicorn worker, with handlers that keep what they get."""

    def __init__(self) -> None:
        self.hooks: dict[str, Any] = {}
        self.cfg = SimpleNamespace(graceful_timeout=30, set=self.hooks.__setitem__)
        self.handled: list[int] = []

    def handle_exit(self, number: int, frame: Any) -> None:
        self.handled.append(number)

    def handle_quit(self, number: int, frame: Any) -> None:
        self.handled.append(number)


@pytest.fixture
def worker() -> Iterator[Worker]:
    """A worker whose handlers are in place, as they are when gunicorn loads the application."""
    found = Worker()
    before = {number: signal.getsignal(number) for number in FOLLOWED}
    signal.signal(signal.SIGTERM, found.handle_exit)
    signal.signal(signal.SIGQUIT, found.handle_quit)
    signal.signal(signal.SIGINT, found.handle_quit)
    yield found
    for number, handler in before.items():
        signal.signal(number, handler)


def test_sigterm_leaves_streams_the_worker_s_grace_but_for_their_last_words(worker: Worker) -> None:
    drain = Drain()
    follow_server(drain)
    signal.raise_signal(signal.SIGTERM)
    assert drain.begun
    assert drain.ends_at - time.monotonic() == pytest.approx(30 - LAST_WORDS_SECONDS, abs=1)
    assert worker.handled == [signal.SIGTERM]


@pytest.mark.parametrize("number", [signal.SIGQUIT, signal.SIGINT])
def test_sigquit_and_sigint_leave_no_time(worker: Worker, number: signal.Signals) -> None:
    drain = Drain()
    follow_server(drain)
    signal.raise_signal(number)
    with pytest.raises(Draining):
        drain.check()
    assert worker.handled == [number]


def test_a_worker_that_is_only_replaced_drains_when_the_server_ends(worker: Worker) -> None:
    ending = False
    worker.server_ends = lambda: ending  # type: ignore[attr-defined]
    drain = Drain()
    follow_server(drain)
    signal.raise_signal(signal.SIGTERM)
    assert not drain.begun
    assert drain.leaving
    ending = True
    signal.raise_signal(signal.SIGTERM)
    assert drain.begun
    assert worker.handled == [signal.SIGTERM, signal.SIGTERM]


def test_outside_of_a_worker_no_signal_is_touched() -> None:
    before = [signal.getsignal(number) for number in FOLLOWED]
    follow_server(Drain())
    assert [signal.getsignal(number) for number in FOLLOWED] == before
