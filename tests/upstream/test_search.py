"""Searches and pages: what is asked where, side by side, and what becomes of each failure."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from harness import deepseek
from harness.fake_upstream import FakeUpstream
from harness.wire import Handler, Request, Wire

from deepseek_proxy import settings
from deepseek_proxy.errors import (
    ContentRejected,
    InvalidRequest,
    NotFound,
    ProxyError,
    QuotaExhausted,
    RateLimited,
    Unauthenticated,
    UpstreamError,
    UpstreamMisconfigured,
    UpstreamOverloaded,
    UpstreamTimeout,
)
from deepseek_proxy.translate.lookup import Action, OpenPage, Options, Outcome, Search
from deepseek_proxy.upstream.client import Client
from deepseek_proxy.upstream.search import MAX_ANSWER_BYTES, Lookups, Searcher

SKY = Search("sky", 10, Options())
PAGE = OpenPage("https://a.example/x", 0, 100)
UNREACHABLE = deepseek.error("failed to fetch URL", "invalid_request_error")

Start = Callable[..., Lookups]


@pytest.fixture
def failures() -> list[ProxyError]:
    """What the client was told of failed attempts."""
    return []


@pytest.fixture
def start(upstream: FakeUpstream, failures: list[ProxyError]) -> Iterator[Start]:
    """Starts actions; `path` is added to the upstream's address."""
    made: list[tuple[Client, Lookups]] = []

    def begin(*actions: Action, path: str = "", **chosen: Any) -> Lookups:
        values = settings.isolated(
            upstream_url=upstream.url + path, **{"upstream_attempts": 1, "retry_max_seconds": 0.1, **chosen}
        )
        client = Client(values, failures.append)
        made.append((client, Searcher(client, values).start(actions, "sk-key", "req_1", lambda: None)))
        return made[-1][1]

    yield begin
    for client, lookups in made:
        lookups.close()
        client.close()


def outcomes(lookups: Lookups) -> Sequence[Outcome]:
    return lookups.wait(lambda: None)


def answers(body: bytes) -> Handler:
    return lambda _, wire: wire.respond(200, body)


# -- what is asked --------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["", "/", "/v1", "/v1/"])
def test_searches_and_pages_have_their_own_addresses(start: Start, upstream: FakeUpstream, path: str) -> None:
    upstream.serve(answers(b"{}"))
    assert outcomes(start(SKY, path=path)) == outcomes(start(PAGE, path=path)) == [b"{}"]
    search, page = upstream.requests
    assert [(sent.method, sent.path, sent.body) for sent in (search, page)] == [
        ("POST", "/v1/tools/search", SKY.body),
        ("POST", "/v1/tools/fetch", PAGE.body),
    ]
    assert search.headers["authorization"] == "Bearer sk-key"
    assert search.headers["accept"] == "application/json"
    assert search.headers["x-request-id"] == "req_1"


def test_only_the_upstream_is_ever_asked(start: Start, upstream: FakeUpstream) -> None:
    """The address of a page goes to DeepSeek as a text; the gateway has no business there."""
    upstream.serve(answers(b"{}"))
    other = FakeUpstream()
    other.serve(answers(b"secret"))
    assert outcomes(start(OpenPage(other.url, 0, 100))) == [b"{}"]
    other.close()
    assert other.connections == 0


def test_outcomes_come_in_the_order_of_the_actions(start: Start, upstream: FakeUpstream) -> None:
    """All are under way at once: none is answered before the last one has come."""

    def together(request: Request, wire: Wire) -> None:
        upstream.wait_until(lambda: len(upstream.requests) == 5)
        wire.respond(200, request.body)

    upstream.serve(together)
    actions = [Search(f"query {n}", 10, Options()) for n in range(5)]
    assert outcomes(start(*actions)) == [action.body for action in actions]


def test_no_action_has_no_outcome(start: Start, upstream: FakeUpstream) -> None:
    assert start().poll() == []
    assert upstream.requests == []


def test_connections_are_kept_for_the_next_search(start: Start, upstream: FakeUpstream) -> None:
    upstream.serve(answers(b"{}"))
    values = settings.isolated(upstream_url=upstream.url)
    client = Client(values, lambda _: None)
    searcher = Searcher(client, values)
    for _ in range(3):
        lookups = searcher.start([SKY], "sk-key", "req_1", lambda: None)
        outcomes(lookups)
        lookups.close()
    client.close()
    assert upstream.connections == 1


# -- failures -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("handler", "kind"),
    [
        (deepseek.refuses(400, deepseek.INVALID), InvalidRequest),
        (deepseek.refuses(400, deepseek.RISKY), ContentRejected),
        (deepseek.refuses(404, UNREACHABLE), NotFound),
        (deepseek.refuses(404, b"<html>"), UpstreamMisconfigured),
        (deepseek.refuses(429, deepseek.TOO_MANY), RateLimited),
        (deepseek.refuses(500, b""), UpstreamError),
        (deepseek.refuses(503, deepseek.BUSY), UpstreamOverloaded),
        (deepseek.refuses(504, b""), UpstreamTimeout),
        (lambda _, wire: wire.wait_closed(5), UpstreamTimeout),
        (answers(b"x" * (MAX_ANSWER_BYTES + 1)), UpstreamError),
    ],
)
def test_a_failure_is_an_outcome(
    start: Start, upstream: FakeUpstream, handler: Handler, kind: type[ProxyError]
) -> None:
    upstream.serve(handler)
    (outcome,) = outcomes(start(PAGE, web_search_call_seconds=0.6))
    assert type(outcome) is kind


def test_one_failure_leaves_the_others_alone(start: Start, upstream: FakeUpstream) -> None:
    def handler(request: Request, wire: Wire) -> None:
        if b"bad" in request.body:
            wire.respond(503, deepseek.BUSY)
        else:
            wire.respond(200, request.body)

    upstream.serve(handler)
    good, bad = Search("good", 10, Options()), Search("bad", 10, Options())
    first, second, third = outcomes(start(good, bad, good))
    assert first == third == good.body
    assert isinstance(second, UpstreamOverloaded)


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [(401, deepseek.BAD_KEY, Unauthenticated), (402, deepseek.NO_BALANCE, QuotaExhausted)],
)
def test_a_wrong_key_and_an_empty_balance_end_everything(
    start: Start, upstream: FakeUpstream, status: int, body: bytes, kind: type[ProxyError]
) -> None:
    upstream.serve(deepseek.refuses(status, body))
    with pytest.raises(kind):
        outcomes(start(SKY, PAGE))


def test_what_may_pass_is_tried_again(start: Start, upstream: FakeUpstream) -> None:
    upstream.serve(deepseek.refuses(429, deepseek.TOO_MANY), deepseek.refuses(503, b""), answers(b"{}"))
    assert outcomes(start(SKY, upstream_attempts=3)) == [b"{}"]


def test_a_page_that_cannot_be_had_is_no_fault_of_the_upstream(
    start: Start, upstream: FakeUpstream, failures: list[ProxyError]
) -> None:
    upstream.serve(deepseek.refuses(404, UNREACHABLE))
    outcomes(start(PAGE, upstream_attempts=3))
    assert failures == []
    assert len(upstream.requests) == 1


def test_whoever_waits_can_look_after_the_client(start: Start, upstream: FakeUpstream) -> None:
    upstream.serve(lambda _, wire: wire.wait_closed(10))

    class Gone(Exception):
        pass

    def leave() -> None:
        raise Gone

    lookups = start(SKY, PAGE)
    with pytest.raises(Gone):
        lookups.wait(leave)
    closed = time.monotonic()
    lookups.close()
    upstream.wait_until(lambda: not upstream.busy_handlers)
    assert time.monotonic() - closed < 1
