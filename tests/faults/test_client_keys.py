"""Clients with limits on a gateway of several workers: sums that are exact, places that are kept, and keys
that are sent nowhere."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest
from harness import deepseek
from harness.fake_upstream import FakeUpstream
from harness.gateway import OWN_KEY, Gateway
from harness.wire import Request, Wire

from deepseek_proxy.models import FLASH, cost

pytestmark = pytest.mark.faults

TOKENS = deepseek.USAGE["total_tokens"]
KEYS = {name: f"the-key-of-{name}-canary" for name in ("alice", "bob", "carol", "dave", "erin")}
ANSWERS = 60


class Busy:
    """An upstream that notes how many requests it has at the same time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.now = 0
        self.most = 0

    def __call__(self, request: Request, wire: Wire) -> None:
        with self._lock:
            self.now += 1
            self.most = max(self.most, self.now)
        try:
            wire.sleep(0.05)
            with self._lock:
                self.now -= 1  # before the answer ends: the next request may come at once
            deepseek.answers()(request, wire)
        except BaseException:
            with self._lock:
                self.now -= 1
            raise


@pytest.fixture(scope="module")
def upstream() -> Iterator[FakeUpstream]:
    server = FakeUpstream()
    yield server
    server.close()


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, upstream: FakeUpstream) -> Iterator[Gateway]:
    keys = [
        {"name": "alice", "key": KEYS["alice"], "budget_per_day": 1000, "tokens_per_day": 10**9},
        {"name": "bob", "key": KEYS["bob"], "max_concurrency": 3},
        {"name": "carol", "key": KEYS["carol"], "tokens_per_day": 10 * TOKENS},
        {"name": "dave", "key": KEYS["dave"], "requests_per_minute": 10},
        {"name": "erin", "key": KEYS["erin"], "max_concurrency": 1},
    ]
    settings = {"keys": orjson.dumps(keys).decode()}
    gateway = Gateway(tmp_path_factory.mktemp("gateway"), upstream.url, workers=3, settings=settings)
    yield gateway
    gateway.stop()
    for key in (*KEYS.values(), OWN_KEY):
        assert key not in gateway.log


def ask(gateway: Gateway, key: str, **fields: Any) -> tuple[int, dict[str, str]]:
    with gateway.ask({"Authorization": f"Bearer {key}"}, **fields) as call:
        reply = call.reply()
        assert reply.body
        return reply.status, {name.lower(): value for name, value in reply.headers.items()}


def statuses(gateway: Gateway, name: str, requests: int, at_once: int = 12) -> Counter[int]:
    with ThreadPoolExecutor(at_once) as pool:
        return Counter(status for status, _ in pool.map(lambda _: ask(gateway, KEYS[name]), range(requests)))


def sums(gateway: Gateway) -> dict[str, int]:
    """The sums of today, by client and kind."""
    path = next(Path(gateway.folder).rglob("ledger.db"))
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as db:
        rows = db.execute("SELECT name, total FROM counters").fetchall()
    db.close()
    return {name.rpartition(":")[0].removeprefix("client:"): total for name, total in rows}


def test_sums_are_exact_over_workers(gateway: Gateway, upstream: FakeUpstream) -> None:
    upstream.serve(deepseek.answers())
    began = datetime.now(UTC)
    assert statuses(gateway, "alice", ANSWERS) == {200: ANSWERS}
    spent = cost(FLASH, began, cache_hit=32, cache_miss=8, output=9).spent
    found = sums(gateway)
    assert found["alice:tokens"] == ANSWERS * TOKENS
    assert found["alice:spent"] == ANSWERS * round(spent * 10**9)
    assert len(upstream.requests) == ANSWERS
    assert {request.headers["authorization"] for request in upstream.requests} == {f"Bearer {OWN_KEY}"}


def test_no_more_answers_at_the_same_time_than_allowed_whichever_worker_has_them(
    gateway: Gateway, upstream: FakeUpstream
) -> None:
    busy = Busy()
    upstream.serve(busy)
    seen = statuses(gateway, "bob", ANSWERS)
    assert set(seen) == {200, 429}
    assert busy.most == 3
    assert len(upstream.requests) == seen[200]
    assert statuses(gateway, "bob", 3, at_once=1) == {200: 3}  # every place was given back


def test_who_has_an_answer_may_ask_again_at_once_whichever_worker_is_asked(
    gateway: Gateway, upstream: FakeUpstream
) -> None:
    upstream.serve(deepseek.answers())
    assert statuses(gateway, "erin", 30, at_once=1) == {200: 30}


def test_a_limit_of_the_day_holds_over_workers(gateway: Gateway, upstream: FakeUpstream) -> None:
    upstream.serve(deepseek.answers())
    assert statuses(gateway, "carol", 20, at_once=1) == {200: 10, 429: 10}
    assert sums(gateway)["carol:tokens"] == 10 * TOKENS
    status, headers = ask(gateway, KEYS["carol"])
    assert (status, headers["x-ratelimit-remaining-tokens"], headers["x-should-retry"]) == (429, "0", "false")


def test_so_does_one_of_the_minute(gateway: Gateway, upstream: FakeUpstream) -> None:
    upstream.serve(deepseek.answers())
    began = time.monotonic()
    seen = statuses(gateway, "dave", 30)
    came_back = (time.monotonic() - began) / 6  # one every six seconds
    assert 10 <= seen[200] <= 10 + came_back + 1
    assert seen[200] + seen[429] == 30
    assert len(upstream.requests) == seen[200]
    status, headers = ask(gateway, KEYS["dave"])
    assert status == 429
    assert 1 <= int(headers["retry-after"]) <= 6
    assert headers["x-ratelimit-limit-requests"] == "10"


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": f"Bearer {KEYS['alice']}x"},
        {"Authorization": f"Bearer {KEYS['alice'][:-1]}"},
        {"Authorization": "Bearer sk-0123456789abcdef0123456789abcdef"},
        {"Authorization": "Bearer gateway"},
        {"Authorization": "", "x-api-key": "sk-0123456789abcdef0123456789abcdef"},
        {"Authorization": ""},
    ],
)
def test_a_key_that_is_none_never_reaches_the_upstream(
    gateway: Gateway, upstream: FakeUpstream, headers: dict[str, str]
) -> None:
    upstream.serve(deepseek.answers())
    for stream in (True, False):
        with gateway.ask(headers, stream=stream) as call:
            reply = call.reply()
            assert reply.status == 401
            assert reply.json()["error"]["code"] == "invalid_api_key"
    with gateway.call("GET", "/v1/models", headers=headers) as call:
        assert call.reply().status == 401
    assert upstream.requests == []
    for sent in headers.values():
        assert len(sent) < 20 or sent.removeprefix("Bearer ") not in gateway.log
