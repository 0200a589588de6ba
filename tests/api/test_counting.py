"""What requests leave in the metrics: each failure once, their price, and the same from every worker."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from flask import Flask
from harness import deepseek
from harness.fake_upstream import FakeUpstream
from harness.gateway import Gateway
from harness.responses import read_stream
from harness.waiting import wait_for
from harness.wire import Request, Wire

from deepseek_proxy.app import create_app
from deepseek_proxy.models import FLASH, cost
from deepseek_proxy.ops import logs
from deepseek_proxy.settings import isolated


@pytest.fixture(scope="module")
def upstream() -> Iterator[FakeUpstream]:
    server = FakeUpstream()
    yield server
    server.close()


@pytest.fixture
def app(tmp_path: Path, upstream: FakeUpstream) -> Iterator[Flask]:
    settings = {"upstream_url": upstream.url, "upstream_attempts": 2, "retry_max_seconds": 0.01}
    yield create_app(isolated(state_dir=tmp_path, log_stderr="never", **settings))
    logs.close()


def ask(app: Flask, stream: bool) -> int:
    response = app.test_client().post(
        "/v1/responses",
        json={"model": "deepseek-flash", "input": "hi", "stream": stream},
        headers={"Authorization": "Bearer sk-counting"},
    )
    response.get_data()
    response.close()
    return response.status_code


def numbers(text: str) -> dict[str, float]:
    """Series -> value, without the prefix and without what is 0."""
    found = re.findall(r"^deepseek_proxy_(\S+) (\S+)$", text, re.MULTILINE)
    return {name: float(value) for name, value in found if float(value)}


def counted(app: Flask) -> dict[str, float]:
    return numbers(app.test_client().get("/metrics").text)


def errors(found: dict[str, float]) -> dict[str, float]:
    series = {name: value for name, value in found.items() if name.startswith("upstream_errors_total")}
    return {re.findall('"(.*)"', name)[0]: value for name, value in series.items()}


def cut(_: Request, wire: Wire) -> None:
    wire.start_stream()
    wire.chunk(deepseek.opening() + deepseek.text("Hel"))
    wire.end()


def cut_whole(_: Request, wire: Wire) -> None:
    wire.head(200, {"Content-Type": "application/json", "Content-Length": "1000"})
    wire.send(b'{"id": "')
    wire.close()


@pytest.mark.parametrize(("stream", "handler"), [(True, cut), (False, cut_whole)])
def test_an_answer_that_fails_on_its_way_is_a_failure_of_the_upstream(
    app: Flask, upstream: FakeUpstream, stream: bool, handler: Callable[..., None]
) -> None:
    upstream.serve(handler)
    assert ask(app, stream) == (200 if stream else 502)
    found = counted(app)
    assert sum(errors(found).values()) == 1, found
    assert "retries_total" not in found


@pytest.mark.parametrize("stream", [True, False])
def test_each_attempt_that_fails_counts_once(app: Flask, upstream: FakeUpstream, stream: bool) -> None:
    upstream.serve(deepseek.refuses(503, deepseek.error("busy", "server_error")))
    assert ask(app, stream) == 503
    found = counted(app)
    assert errors(found) == {"upstream_overloaded": 2}
    assert found["retries_total"] == 1


@pytest.mark.parametrize("stream", [True, False])
def test_a_failure_that_a_retry_mends_counts_too(app: Flask, upstream: FakeUpstream, stream: bool) -> None:
    upstream.serve(deepseek.refuses(503, deepseek.error("busy", "server_error")), deepseek.answers())
    assert ask(app, stream) == 200
    assert errors(counted(app)) == {"upstream_overloaded": 1}


@pytest.mark.parametrize("stream", [True, False])
def test_a_good_answer_is_priced(app: Flask, upstream: FakeUpstream, stream: bool) -> None:
    upstream.serve(deepseek.answers())
    before = datetime.now(UTC)
    assert ask(app, stream) == 200
    found = counted(app)
    assert not errors(found)
    money = (
        found['cost_usd_total{model="deepseek-flash"}'],
        found['cache_saved_usd_total{model="deepseek-flash"}'],
    )
    prices = [
        cost(FLASH, moment, cache_hit=32, cache_miss=8, output=9) for moment in (before, datetime.now(UTC))
    ]
    assert any(money == pytest.approx((price.spent, price.saved)) for price in prices)


# -- several workers ------------------------------------------------------------------------------


def scrape(gateway: Gateway) -> dict[str, float]:
    with gateway.call("GET", "/metrics") as call:
        return numbers(call.reply().body.decode())


def requests(found: dict[str, float]) -> float:
    return found.get('requests_total{dialect="responses",model="deepseek-flash",status="200"}', 0)


def test_every_worker_answers_for_all_also_for_those_that_were_killed(
    tmp_path: Path, upstream: FakeUpstream
) -> None:
    hold = []

    def handler(request: Request, wire: Wire) -> None:
        if "stay" in request.json()["messages"][-1]["content"]:
            wire.start_stream()
            wire.chunk(deepseek.opening() + deepseek.text("Hel"))
            hold.append(wire.wait_closed(20))
            return
        deepseek.answers()(request, wire)

    upstream.serve(handler)
    gateway = Gateway(tmp_path, upstream.url, workers=2)
    try:
        for _ in range(12):
            with gateway.ask() as call:
                assert read_stream(call.reply()).text == "Hello"
        # A stream's numbers are written after its last byte.
        wait_for(lambda: requests(scrape(gateway)) == 12)
        assert len({requests(scrape(gateway)) for _ in range(8)}) == 1

        with gateway.ask(input="stay") as call:
            pieces = call.reply().pieces()
            next(pieces)
            wait_for(lambda: scrape(gateway).get("open_streams") == 1)
            before = set(gateway.worker_pids())
            for pid in before:
                os.kill(pid, signal.SIGKILL)
            wait_for(lambda: len(set(gateway.worker_pids()) - before) == 2)
        wait_for(lambda: "open_streams" not in scrape(gateway))
        found = scrape(gateway)
        assert requests(found) == 12
        assert found['tokens_total{kind="cache_hit",model="deepseek-flash"}'] == 12 * 32
        assert found['first_token_seconds_count{dialect="responses",model="deepseek-flash"}'] == 12
    finally:
        gateway.process.send_signal(signal.SIGTERM)
        gateway.process.wait(15)
