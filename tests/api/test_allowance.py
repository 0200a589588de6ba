"""What a client's key allows: who is refused and told what, and what an answer is charged for, once."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from harness import deepseek
from harness.fake_upstream import FakeUpstream
from harness.threads import at_once
from harness.wire import Handler, Request, Wire

from deepseek_proxy.api.allowance import NANODOLLARS, may_use
from deepseek_proxy.credentials import ClientKey
from deepseek_proxy.models import ALIASES, FLASH, PRO, SEARCH_USD, Resolved, cost
from deepseek_proxy.store.ledger.base import LedgerUnavailable

Make = Callable[..., Any]
"""Of `conftest`."""

KEY = "the-key-of-alice-01"
ASKED = [{"role": "user", "content": "hi"}]
HEADERS = {"Authorization": f"Bearer {KEY}"}
TOKENS = deepseek.USAGE["total_tokens"]
END = re.compile(rb'event: response\.(completed|incomplete|failed)|data: \[DONE\]|data: {"error"')


@pytest.fixture
def alice(make: Make) -> Callable[..., Any]:
    """The application, for one client with these limits."""

    def face(**limits: Any) -> Any:
        settings = {"deepseek_api_key": "sk-own", "web_search": limits.pop("web_search", "off")}
        return make(**settings, keys=[{"key": KEY, "name": "alice", **limits}])

    return face


def spent(face: Any) -> tuple[int, int]:
    """Tokens and billionths of a dollar in alice's sums of today; two days, should it be midnight."""
    today = datetime.now(UTC).date()
    days = (today - timedelta(days=1), today)
    totals = face.gateway.books.ledger.read(
        [f"client:alice:{kind}:{day}" for kind in ("tokens", "spent") for day in days]
    )
    return (
        sum(total for name, total in totals.items() if ":tokens:" in name),
        sum(total for name, total in totals.items() if ":spent:" in name),
    )


def price(usage: Mapping[str, Any] = deepseek.USAGE) -> int:
    """Of one answer now, in billionths of a dollar."""
    hit = usage["prompt_cache_hit_tokens"]
    miss = usage["prompt_cache_miss_tokens"]
    now = datetime.now(UTC)
    spent = cost(FLASH, now, cache_hit=hit, cache_miss=miss, output=usage["completion_tokens"]).spent
    return round(spent * NANODOLLARS)


# -- what is charged ------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_is_charged_for_what_was_reported(alice: Make, stream: bool) -> None:
    face = alice(budget_per_day=1)
    for _ in range(3):
        assert face.finish(face.ask(HEADERS, stream=stream)).status_code == 200
    assert spent(face) == (3 * TOKENS, 3 * price())


def test_prices_are_whole_billionths_of_a_dollar_for_a_token() -> None:
    """So sums of them are exact."""
    for model in (FLASH, PRO):
        for moment in (datetime(2026, 11, 20, 2, tzinfo=UTC), datetime(2026, 11, 21, 2, tzinfo=UTC)):
            for count in (1, 7, 1_048_576):
                for kind in ("cache_hit", "cache_miss", "output"):
                    one = {"cache_hit": 0, "cache_miss": 0, "output": 0, kind: 1}
                    all_of_them = {**one, kind: count}
                    single = round(cost(model, moment, **one).spent * NANODOLLARS)
                    assert single >= 3
                    assert round(cost(model, moment, **all_of_them).spent * NANODOLLARS) == count * single


def test_the_turns_that_were_asked_for_again_are_charged_too(alice: Make, upstream: FakeUpstream) -> None:
    def answer(content: str) -> Callable[[Request, Wire], None]:
        return lambda _, wire: wire.respond(200, deepseek.completion(content))

    upstream.serve(answer("[]"), answer('{"a": 1}'))
    schema = {"type": "object", "required": ["a"]}
    face = alice(tokens_per_day=1_000_000)
    text = {"format": {"type": "json_schema", "name": "x", "schema": schema}}
    assert face.finish(face.ask(HEADERS, text=text)).status_code == 200
    assert len(upstream.requests) == 2
    assert spent(face) == (2 * TOKENS, 2 * price())


@pytest.mark.parametrize("stream", [False, True])
def test_what_the_upstream_refuses_costs_nothing(alice: Make, upstream: FakeUpstream, stream: bool) -> None:
    upstream.serve(deepseek.refuses(402, deepseek.NO_BALANCE))
    face = alice(tokens_per_day=1_000_000)
    assert face.finish(face.ask(HEADERS, stream=stream)).status_code == 429
    assert spent(face) == (0, 0)


def test_a_cut_answer_is_charged_for_its_prompt_and_what_came_of_it(
    alice: Make, upstream: FakeUpstream
) -> None:
    def cut(_: Request, wire: Wire) -> None:
        wire.start_stream()
        for frame in (deepseek.opening(), *map(deepseek.text, ["abcdef", "ghijkl", "mnopqr"])):
            wire.chunk(frame)
        wire.close()

    upstream.serve(cut)
    face = alice(tokens_per_day=1_000_000)
    face.finish(face.ask(HEADERS, stream=True))
    tokens, nanodollars = spent(face)
    prompt = tokens - 6  # three bytes a token
    assert len(upstream.requests[0].body) // 3 <= prompt <= len(upstream.requests[0].body) // 3 + 1
    assert nanodollars == price(
        {"prompt_cache_hit_tokens": 0, "prompt_cache_miss_tokens": prompt, "completion_tokens": 6}
    )


def test_a_client_that_leaves_is_charged_once(alice: Make, upstream: FakeUpstream) -> None:
    def endless(_: Request, wire: Wire) -> None:
        wire.start_stream()
        wire.chunk(deepseek.opening())
        wire.chunk(deepseek.text("abcdef"))
        wire.wait_closed(5)

    upstream.serve(endless)
    face = alice(tokens_per_day=1_000_000, max_concurrency=1)
    response = face.ask(HEADERS, stream=True)
    received = iter(response.response)
    while b"abcdef" not in next(received):
        pass
    assert face.ask(HEADERS).status_code == 429  # the place is taken
    response.close()
    response.close()
    tokens, _ = spent(face)
    assert 2 < tokens <= len(upstream.requests[0].body) // 3 + 1 + 2
    upstream.serve(deepseek.answers())
    assert face.finish(face.ask(HEADERS)).status_code == 200  # and free again
    assert spent(face)[0] == tokens + TOKENS


def cut_off(_: Request, wire: Wire) -> None:
    wire.start_stream()
    wire.chunk(deepseek.opening() + deepseek.text("abcdef"))
    wire.close()


@pytest.mark.parametrize("path", ["/v1/responses", "/v1/chat/completions"])
@pytest.mark.parametrize("handler", [deepseek.answers(), cut_off])
def test_who_has_seen_the_end_of_a_stream_has_been_charged_and_may_ask_again(
    alice: Make, upstream: FakeUpstream, path: str, handler: Handler
) -> None:
    """Of any worker: nothing is left to be done after the last byte."""
    upstream.serve(handler)
    face = alice(tokens_per_day=1_000_000, max_concurrency=1)
    fields = {"input": None, "messages": ASKED} if path.endswith("completions") else {}
    for answers in (1, 2):
        stream = face.ask(HEADERS, path, stream=True, **fields)
        assert stream.status_code == 200
        received = b""
        for piece in stream.response:
            received += piece
            if END.search(received):
                break
        tokens, _ = spent(face)
        assert tokens
        assert END.search(received)
        assert face.gateway.books.ledger.held(["client:alice:answers"]) == {"client:alice:answers": 0}
        stream.close()
        assert spent(face)[0] == tokens, f"charged twice for answer {answers}"


def test_searches_of_a_client_cost_too(alice: Make, upstream: FakeUpstream) -> None:
    upstream.serve(lambda _, wire: wire.respond(200, b'{"results": []}'))
    face = alice(budget_per_day=1, web_search="deepseek")
    body = {"commands": {"search_query": [{"q": "one"}, {"q": "two"}]}}
    response = face.request("POST", "/v1/alpha/search", json=body, headers=HEADERS)
    assert response.status_code == 200, response.text
    assert spent(face) == (0, round(2 * SEARCH_USD * NANODOLLARS))


def test_what_cannot_be_entered_is_entered_later(alice: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    face = alice(tokens_per_day=1_000_000)
    ledger = face.gateway.books.ledger
    add = ledger.add

    def out_of_reach(amounts: Mapping[str, int], expires_at: float) -> dict[str, int]:
        raise LedgerUnavailable("It is away.")

    monkeypatch.setattr(ledger, "add", out_of_reach)
    assert face.finish(face.ask(HEADERS)).status_code == 200
    assert spent(face) == (0, 0)
    monkeypatch.setattr(ledger, "add", add)
    assert face.finish(face.ask(HEADERS)).status_code == 200
    assert spent(face) == (2 * TOKENS, 2 * price())


def test_nobody_counts_for_clients_without_limits(make: Make) -> None:
    face = make(keys=[KEY], deepseek_api_key="sk-own")
    assert face.finish(face.ask(HEADERS)).status_code == 200
    assert not list(face.gateway.settings.state_dir.glob("ledger*"))


# -- who is refused -------------------------------------------------------------------------------


def seconds_to_midnight() -> float:
    now = datetime.now(UTC)
    return 86_400 - (now - now.replace(hour=0, minute=0, second=0, microsecond=0)).total_seconds()


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        ({"tokens_per_day": TOKENS}, f"This key's {TOKENS} tokens for today are used up"),
        ({"budget_per_day": 1e-9}, "budget for today"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_who_has_used_up_the_day_is_refused_until_midnight(
    alice: Make, upstream: FakeUpstream, limits: dict[str, Any], words: str, stream: bool
) -> None:
    face = alice(**limits)
    assert face.finish(face.ask(HEADERS, stream=stream)).status_code == 200
    asked = len(upstream.requests)
    refused = face.ask(HEADERS, stream=stream)
    assert (refused.status_code, refused.json["error"]["type"]) == (429, "insufficient_quota")
    assert words in refused.json["error"]["message"]
    assert refused.headers["x-should-retry"] == "false"
    assert abs(int(refused.headers["Retry-After"]) - seconds_to_midnight()) < 5
    assert len(upstream.requests) == asked


def test_tokens_of_the_day_are_in_the_headers(alice: Make) -> None:
    face = alice(tokens_per_day=1000)
    first, second = (face.finish(face.ask(HEADERS)).headers for _ in range(2))
    assert (first["x-ratelimit-limit-tokens"], first["x-ratelimit-remaining-tokens"]) == ("1000", "1000")
    assert second["x-ratelimit-remaining-tokens"] == str(1000 - TOKENS)
    assert second["x-ratelimit-reset-tokens"].endswith("s")


def test_who_asks_too_often_is_told_when_to_come_again(alice: Make, upstream: FakeUpstream) -> None:
    face = alice(requests_per_minute=2)
    for remaining in ("1", "0"):
        headers = face.finish(face.ask(HEADERS, stream=True)).headers
        assert headers["x-ratelimit-limit-requests"] == "2"
        assert headers["x-ratelimit-remaining-requests"] == remaining
    refused = face.ask(HEADERS)
    assert refused.status_code == 429
    assert refused.json["error"] == {
        "message": "This key may send 2 requests per minute.",
        "type": "rate_limit_error",
        "param": None,
        "code": "rate_limit_exceeded",
    }
    assert 1 <= int(refused.headers["Retry-After"]) <= 30
    assert refused.headers["x-ratelimit-remaining-requests"] == "0"
    assert "x-should-retry" not in refused.headers
    assert len(upstream.requests) == 2


def test_so_many_answers_at_the_same_time_and_no_more(alice: Make, upstream: FakeUpstream) -> None:
    go = threading.Event()

    def slow(request: Request, wire: Wire) -> None:
        go.wait(5)
        deepseek.answers()(request, wire)

    upstream.serve(slow)
    face = alice(max_concurrency=2)
    statuses: list[int] = []
    threads = [
        threading.Thread(target=lambda: statuses.append(face.finish(face.ask(HEADERS)).status_code))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    upstream.wait_until(lambda: len(upstream.requests) == 2)
    refused = face.ask(HEADERS)
    assert (refused.status_code, refused.headers["Retry-After"]) == (429, "5")
    assert "2 answers at the same time" in refused.json["error"]["message"]
    go.set()
    for thread in threads:
        thread.join()
    assert statuses == [200, 200]
    assert face.finish(face.ask(HEADERS)).status_code == 200


def test_a_place_is_given_back_also_after_a_failure(alice: Make, upstream: FakeUpstream) -> None:
    upstream.serve(deepseek.refuses(400, deepseek.INVALID))
    face = alice(max_concurrency=1)
    for stream in (False, True, False, True):
        assert face.finish(face.ask(HEADERS, stream=stream)).status_code == 400
    assert face.gateway.books.ledger.held(["client:alice:answers"]) == {"client:alice:answers": 0}


def test_codex_is_told_inside_a_stream(alice: Make) -> None:
    face = alice(requests_per_minute=1)
    codex = {**HEADERS, "Originator": "codex_cli_rs"}
    face.finish(face.ask(HEADERS))
    *_, failed = face.events(face.ask(codex, stream=True))
    assert failed["response"]["error"]["code"] == "rate_limit_exceeded"
    assert "Please try again in" in failed["response"]["error"]["message"]


def test_another_model_is_not_for_this_key(alice: Make, upstream: FakeUpstream) -> None:
    face = alice(models=["deepseek-flash"])
    for name in ("deepseek-flash", "deepseek-chat", "gpt-5"):
        assert face.finish(face.ask(HEADERS, model=name)).status_code == 200
    asked = len(upstream.requests)
    refused = face.ask(HEADERS, model="deepseek-v4-pro")
    assert refused.status_code == 403
    assert refused.json["error"] == {
        "message": "This key may not use the model 'deepseek-v4-pro'.",
        "type": "permission_error",
        "param": "model",
        "code": "model_not_found",
    }
    assert len(upstream.requests) == asked


def test_a_model_is_allowed_by_its_name_or_by_the_one_that_it_stands_for() -> None:
    def client(*names: str) -> ClientKey:
        return ClientKey.model_validate({"key": KEY, "models": names})

    chat = Resolved("deepseek-chat", ALIASES["deepseek-chat"].model, thinking=False)
    flash = Resolved("deepseek-flash", FLASH)
    assert may_use(client("deepseek-chat"), chat)
    assert may_use(client("deepseek-flash"), chat)
    assert not may_use(client("deepseek-chat"), flash)
    assert not may_use(client("deepseek-v4-pro"), chat)
    assert may_use(client(), chat)
    assert may_use(None, chat)


# -- at the same time -----------------------------------------------------------------------------


def test_sums_are_exact_whoever_adds_to_them_at_the_same_time(alice: Make) -> None:
    face = alice(budget_per_day=1_000_000)
    answers = 40

    def ask_some(_: int) -> None:
        for _ in range(answers // 4):
            assert face.finish(face.ask(HEADERS, stream=True)).status_code == 200

    at_once(4, ask_some)
    assert spent(face) == (answers * TOKENS, answers * price())


def test_an_answer_belongs_to_the_day_in_which_it_began(alice: Make) -> None:
    face = alice(tokens_per_day=1_000_000)
    limiter, client = face.gateway.limiter, face.gateway.settings.keys[0]
    yesterday = datetime.now(UTC) - timedelta(days=1)
    limiter.charge(client, yesterday, 7, 0)
    limiter.charge(client, yesterday, 7, 0)
    day = yesterday.date()
    assert face.gateway.books.ledger.read([f"client:alice:tokens:{day}"]) == {
        f"client:alice:tokens:{day}": 14
    }
    assert time.time() < (yesterday + timedelta(days=2)).timestamp()
