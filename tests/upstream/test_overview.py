"""What an operator sees of accounts and proxies."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from harness import deepseek
from harness.accounts import account
from harness.fake_upstream import FakeUpstream
from harness.wire import Request, Wire

from deepseek_proxy import models, settings
from deepseek_proxy.errors import QuotaExhausted, RateLimited
from deepseek_proxy.store.ledger.opening import Books
from deepseek_proxy.translate.hub import Usage
from deepseek_proxy.upstream import overview
from deepseek_proxy.upstream.accounts import Accounts
from deepseek_proxy.upstream.client import Client

BALANCE = {"is_available": True, "balance_infos": [{"currency": "CNY", "total_balance": "110.00"}]}
PROXY = "http://user:canary@127.0.0.1:9"


class Operated:
    def __init__(self, folder: Path, upstream: FakeUpstream, *accounts: Any, **more: Any) -> None:
        chosen = settings.isolated(
            state_dir=folder, upstream_url=upstream.url, accounts=list(accounts), **more
        )
        self.books = Books(chosen)
        self.client = Client(chosen, lambda _: None, self.books)
        assert self.client.accounts is not None
        self.accounts: Accounts = self.client.accounts

    def page(self) -> dict[str, Any]:
        page = overview.accounts_page(self.client, self.accounts)
        assert "canary" not in json.dumps(page)
        assert "sk-" not in json.dumps(page)
        return page

    def entries(self) -> dict[str, dict[str, Any]]:
        return {entry["name"]: entry for entry in self.page()["accounts"]}

    def close(self) -> None:
        self.client.close()
        self.books.close()


@pytest.fixture
def operated(tmp_path: Path, upstream: FakeUpstream) -> Iterator[Operated]:
    upstream.serve(lambda _, wire: wire.respond(200, json.dumps(BALANCE).encode()))
    made = Operated(
        tmp_path,
        upstream,
        account("a", group="g", max_concurrency=5),
        account("b", group="g", max_concurrency=5, proxy="direct"),
        account("c", base_url=f"{upstream.url}/host", models={"deepseek-flash": "x"}, weight=2),
    )
    yield made
    made.close()


def test_accounts_that_nobody_has_used(operated: Operated, upstream: FakeUpstream) -> None:
    entries = operated.entries()
    assert entries["a"] == {
        "name": "a",
        "group": "g",
        "base_url": upstream.url,
        "models": None,
        "weight": 1,
        "proxy": None,
        "state": "ready",
        "reason": None,
        "failures": 0,
        "seconds_left": 0,
        "limits": [{"model": None, "in_use": 0, "limit": 5, "waiting": 0}],
        "today": {
            "answers": 0,
            "cache_hit_tokens": 0,
            "cache_miss_tokens": 0,
            "output_tokens": 0,
            "cache_hit_rate": None,
            "spent_usd": 0,
        },
        "balance": {"is_available": True, "amounts": [{"currency": "CNY", "total": "110.00"}]},
    }
    assert entries["b"]["proxy"] == "direct"
    assert entries["c"]["balance"] is None
    assert {limit["model"]: limit["limit"] for limit in entries["c"]["limits"]} == {
        "deepseek-flash": 2500,
        "deepseek-v4-pro": 500,
        None: 500,
    }


def test_what_is_under_way_and_what_was_spent(operated: Operated) -> None:
    a = operated.accounts.members[0]
    lease = operated.books.holdings.acquire([[a.hold("deepseek-flash")]])
    ticket = operated.books.holdings.enter(["account:g"], 10)
    assert lease is not None
    assert ticket is not None
    operated.accounts.charge("a", models.FLASH, datetime.now(UTC), Usage(1000, 750, 100, 0))
    entries = operated.entries()
    for name in ("a", "b"):
        assert entries[name]["limits"] == [{"model": None, "in_use": 1, "limit": 5, "waiting": 1}]
    today = entries["a"]["today"]
    assert (today["answers"], today["cache_hit_rate"]) == (1, 0.75)
    assert today["spent_usd"] > 0
    assert entries["b"]["today"]["answers"] == 0
    operated.books.holdings.leave(ticket)
    operated.books.holdings.release(lease)


def test_what_is_wrong_with_an_account(operated: Operated) -> None:
    accounts = operated.accounts
    a, b, _ = accounts.members
    accounts.failed(a, "account:g", QuotaExhausted("no balance"))
    accounts.failed(b, "account:g", RateLimited("exceeds your concurrency limit of 3"))
    entries = operated.entries()
    assert (entries["a"]["state"], entries["a"]["reason"]) == ("out", "no_balance")
    assert entries["a"]["seconds_left"] == pytest.approx(60, abs=5)
    assert (entries["b"]["state"], entries["b"]["reason"]) == ("paused", "rate_limited")
    assert entries["a"]["limits"][0]["limit"] == entries["b"]["limits"][0]["limit"] == 3
    assert entries["c"]["state"] == "ready"


def test_a_balance_is_not_asked_for_again_at_once(operated: Operated, upstream: FakeUpstream) -> None:
    operated.page()
    assert sorted(request.path for request in upstream.requests) == ["/user/balance"] * 2
    operated.page()
    assert len(upstream.requests) == 2


def test_a_balance_that_cannot_be_had_is_none(operated: Operated, upstream: FakeUpstream) -> None:
    upstream.serve(deepseek.refuses(401, deepseek.BAD_KEY))
    assert operated.entries()["a"]["balance"] is None


@pytest.mark.parametrize("body", [b"[]", b"no", b'{"balance_infos": 7}', b'{"balance_infos": [7]}'])
def test_a_balance_of_another_shape_breaks_nothing(
    operated: Operated, upstream: FakeUpstream, body: bytes
) -> None:
    upstream.serve(lambda _, wire: wire.respond(200, body))
    assert operated.entries()["a"]["balance"] == {"is_available": False, "amounts": []}
    assert list(overview.levels(operated.accounts))


def test_the_levels_say_the_same(operated: Operated) -> None:
    operated.page()
    operated.accounts.failed(operated.accounts.members[0], "account:g", QuotaExhausted("no balance"))
    levels = {
        (level.name, *level.labels.values()): level.value for level in overview.levels(operated.accounts)
    }
    assert levels["account_requests_limit", "g", "any"] == 5
    assert levels["account_requests_limit", "c", "deepseek-flash"] == 2500
    assert levels["account_requests_in_use", "g", "any"] == 0
    assert levels["account_requests_waiting", "g", "any"] == 0
    assert levels["account_out", "a", "no_balance"] == 1
    assert levels["account_out", "c", "none"] == 0
    assert levels["account_balance", "a", "CNY"] == 110


def test_the_proxies_are_shown_without_their_passwords(tmp_path: Path, upstream: FakeUpstream) -> None:
    made = Operated(
        tmp_path,
        upstream,
        account("a", base_url=upstream.url, proxy=PROXY),
        proxy_pool_enabled=True,
        proxy_pool=[PROXY, "direct"],
    )
    page = made.page()
    assert page["accounts"][0]["proxy"] == "http://127.0.0.1:9"
    assert [proxy["proxy"] for proxy in page["proxies"]] == ["http://127.0.0.1:9", "direct"]
    assert [proxy["uses_today"] for proxy in page["proxies"]] == [0, 0]
    made.close()


def test_an_account_tells_its_models_and_its_balance(operated: Operated, upstream: FakeUpstream) -> None:
    def answer(request: Request, wire: Wire) -> None:
        listed = {"data": [{"id": "deepseek-flash"}, 7]} if request.path.endswith("/models") else BALANCE
        wire.respond(200, json.dumps(listed).encode())

    upstream.serve(answer)
    a, _, c = operated.accounts.members
    told = overview.ask(operated.client, a)
    assert list(told.models) == ["deepseek-flash"]
    assert told.balance == {"is_available": True, "amounts": [{"currency": "CNY", "total": "110.00"}]}
    assert overview.ask(operated.client, c).balance is None
    upstream.serve(deepseek.refuses(401, deepseek.BAD_KEY))
    assert "refused the API key" in (overview.ask(operated.client, a).problem or "")
