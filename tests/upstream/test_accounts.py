"""Requests over several accounts: where they go, how many at once, and what an account's refusal costs."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from harness import deepseek, redis_server
from harness.accounts import Accounts, account, held_until, in_turns
from harness.fake_upstream import FakeUpstream
from harness.threads import at_once
from harness.waiting import wait_for

from deepseek_proxy import models, settings
from deepseek_proxy.errors import (
    AccountRefused,
    InvalidRequest,
    ModelNotFound,
    NoAccount,
    ProxyError,
    QuotaExhausted,
    RateLimited,
    Saturated,
    UpstreamOverloaded,
)
from deepseek_proxy.store.ledger.opening import Books
from deepseek_proxy.translate.hub import Usage
from deepseek_proxy.upstream.account_standing import Standing
from deepseek_proxy.upstream.accounts import Sums
from deepseek_proxy.upstream.call import Call
from deepseek_proxy.upstream.client import SEARCH, Client, Request

ANSWER = b"".join(deepseek.frames())
BODY = b'{"model": "deepseek-flash", "stream": true, "messages": []}'


class Gateway:
    """A client with accounts and a ledger of its own."""

    def __init__(self, folder: Path, url: str, accounts: list[Any], **chosen: Any) -> None:
        self.failures: list[ProxyError] = []
        given = {"upstream_url": url, "state_dir": folder, "accounts": accounts, **chosen}
        self.books = Books(settings.isolated(**given))
        self.client = Client(settings.isolated(**given), self.failures.append, self.books)

    def open(self, conversation: str | None = None, **more: Any) -> Call:
        asked = {"model": "deepseek-flash", **more}
        affinity = None if conversation is None else lambda: conversation
        return self.client.open(Request(BODY, None, True, "req", lambda _: None, affinity=affinity, **asked))

    def ask(self, conversation: str | None = None, **more: Any) -> str:
        """One whole call. Returns the account that answered it."""
        call = self.open(conversation, **more)
        try:
            assert call.read_all(1 << 20, on_tick=lambda: None) == ANSWER
            return call.account or ""
        finally:
            call.close()

    def fail(self, **more: Any) -> ProxyError:
        call = self.open(**more)
        try:
            call.read_all(1 << 20, on_tick=lambda: None)
        except ProxyError as error:
            return error
        finally:
            call.close()
        raise AssertionError("the call did not fail")

    def held(self) -> int:
        assert self.client.accounts is not None
        holds = {
            m.hold(model).name for m in self.client.accounts.members for model in ("deepseek-flash", None)
        }
        return sum(self.books.ledger.held(sorted(holds)).values())

    def close(self) -> None:
        self.client.close()
        self.books.close()


@pytest.fixture
def fake() -> Accounts:
    return Accounts()


@pytest.fixture
def gateway(tmp_path: Path, upstream: FakeUpstream, fake: Accounts) -> Iterator[Callable[..., Gateway]]:
    """Makes gateways, one for each process that there is supposed to be."""
    upstream.serve(fake)
    made: list[Gateway] = []

    def make(*accounts: Any, **chosen: Any) -> Gateway:
        made.append(Gateway(tmp_path, upstream.url, list(accounts), **chosen))
        return made[-1]

    yield make
    for one in made:
        assert one.held() == 0, "a lease was lost"
        one.close()


Make = Callable[..., Gateway]


@pytest.fixture(scope="module")
def redis_url() -> Iterator[str]:
    with redis_server.running() as url:
        yield url


@pytest.fixture(params=["workers", "machines"])
def shared(request: pytest.FixtureRequest) -> dict[str, str]:
    """What gateways share: a folder, as the workers of one machine do, or a Redis."""
    if request.param == "workers":
        return {}
    return {"store_url": request.getfixturevalue("redis_url")}


# -- where requests go ----------------------------------------------------------------------------


def test_the_load_is_shared_by_weight(gateway: Make, fake: Accounts) -> None:
    go_on = threading.Event()
    fake.handlers = dict.fromkeys(("a", "b", "c"), held_until(go_on))
    one = gateway(account("a"), account("b"), account("c", weight=2))
    calls = []
    for number in range(16):
        calls.append(one.open())
        while not calls[-1].read():
            pass
        assert one.held() == number + 1
    assert fake.asked == {"a": 4, "b": 4, "c": 8}
    go_on.set()
    for call in calls:
        call.read_all(1 << 20, on_tick=lambda: None)
        call.close()


def test_a_conversation_stays_where_it_began(gateway: Make, fake: Accounts, shared: dict[str, str]) -> None:
    one = gateway(*map(account, "abcd"), **shared)
    homes = {talk: one.ask(talk) for talk in map(str, range(12))}
    other_worker = gateway(*map(account, "abcd"), **shared)
    for _ in range(3):
        assert {talk: other_worker.ask(talk) for talk in homes} == homes
    assert len(set(homes.values())) > 1


def test_a_conversation_moves_on_when_its_account_is_busy_and_stays_there(
    gateway: Make, fake: Accounts
) -> None:
    one = gateway(account("a", max_concurrency=1), account("b", max_concurrency=1))
    home = one.ask("talk")
    go_on = threading.Event()
    fake.handlers[home] = held_until(go_on)
    busy = one.open("talk")
    while not busy.read():
        pass
    other = one.ask("talk")
    assert other != home
    go_on.set()
    busy.read_all(1 << 20, on_tick=lambda: None)
    busy.close()
    assert one.ask("talk") == other


def test_models_and_searches_go_where_they_are_served(
    gateway: Make, fake: Accounts, upstream: FakeUpstream
) -> None:
    one = gateway(
        account("a", models=["deepseek-v4-pro"]),
        account("b", models={"deepseek-flash": "org/flash"}, base_url=f"{upstream.url}/host/v1"),
    )
    assert one.ask() == "b"
    assert upstream.requests[-1].path == "/host/v1/chat/completions"
    assert upstream.requests[-1].json() == {"model": "org/flash", "stream": True, "messages": []}
    assert one.ask(model="deepseek-v4-pro") == "a"
    assert upstream.requests[-1].body == BODY
    assert one.ask(model=None, path=SEARCH) == "a"
    assert upstream.requests[-1].path == SEARCH


def test_what_nobody_serves_is_said_at_once(gateway: Make, fake: Accounts, upstream: FakeUpstream) -> None:
    one = gateway(account("a", models=["deepseek-v4-pro"], full_api=False))
    assert type(one.fail()) is ModelNotFound
    assert "whole API" in one.fail(model=None, path=SEARCH).message
    assert upstream.requests == []


def test_a_key_of_the_callers_own_takes_no_account(gateway: Make, fake: Accounts) -> None:
    one = gateway(account("a", max_concurrency=1))
    call = one.client.open(Request(BODY, "sk-own", True, "req", lambda _: None, model="deepseek-flash"))
    assert call.read_all(1 << 20, on_tick=lambda: None) == ANSWER
    assert (call.account, one.held(), list(fake.asked)) == (None, 0, ["own"])
    call.close()


def test_a_single_key_opens_no_ledger(upstream: FakeUpstream, tmp_path: Path) -> None:
    books = Books(settings.isolated(state_dir=tmp_path))
    chosen = settings.isolated(upstream_url=upstream.url, deepseek_api_key="sk-only", state_dir=tmp_path)
    client = Client(chosen, lambda _: None, books)
    call = client.open(Request(BODY, None, True, "req", lambda _: None, model="deepseek-flash"))
    assert call.read_all(1 << 20, on_tick=lambda: None) == ANSWER
    call.close()
    client.close()
    assert client.accounts is None
    assert list(tmp_path.iterdir()) == []


# -- how many at once -----------------------------------------------------------------------------


def test_a_limit_is_kept_over_several_gateways(gateway: Make, fake: Accounts, shared: dict[str, str]) -> None:
    def slow(request: Any, wire: Any) -> None:
        time.sleep(0.02)
        deepseek.answers()(request, wire)

    fake.handlers["a"] = slow
    one = gateway(account("a", max_concurrency=2), **shared)
    two = gateway(account("a", max_concurrency=2), **shared)
    ends = {}
    calls = []
    for number in range(30):
        calls.append((one, two)[number % 2].open())
        time.sleep(0.01)  # they come one after another

    def read(number: int) -> None:
        assert calls[number].read_all(1 << 20, on_tick=lambda: None) == ANSWER
        calls[number].close()
        ends[number] = time.monotonic()

    at_once(30, read)
    assert len(ends) == 30
    assert fake.most == {"a": 2}


def test_those_who_wait_are_served_in_their_order(
    gateway: Make, fake: Accounts, shared: dict[str, str]
) -> None:
    go_on = threading.Event()
    fake.handlers["a"] = in_turns(held_until(go_on), deepseek.answers())
    one, two = (gateway(account("a", max_concurrency=1), **shared) for _ in range(2))
    first = one.open()
    while not first.read():
        pass
    waiting = []
    for number in range(6):
        call = (one, two)[number % 2].open()
        waiting.append(call)
        while one.books.ledger.waiting(["account:a"])["account:a"] <= number:
            time.sleep(0.002)
    assert fake.asked["a"] == 1
    go_on.set()
    first.read_all(1 << 20, on_tick=lambda: None)
    first.close()
    for call in waiting:
        assert not any(later.answered for later in waiting[waiting.index(call) + 1 :])
        call.read_all(1 << 20, on_tick=lambda: None)
        call.close()


def test_the_keys_of_a_group_share_a_limit(gateway: Make, fake: Accounts) -> None:
    go_on = threading.Event()
    fake.handlers = dict.fromkeys(("a", "b"), held_until(go_on))
    one = gateway(
        account("a", group="g", max_concurrency=2),
        account("b", group="g", max_concurrency=2),
        account_queue=0,
    )
    calls = [one.open(), one.open()]
    for call in calls:
        while not call.read():
            pass
    error = one.fail()
    assert (type(error), error.status, error.retry_after) == (Saturated, 429, 5)
    go_on.set()
    for call in calls:
        call.read_all(1 << 20, on_tick=lambda: None)
        call.close()


def test_without_a_limit_of_its_own_each_model_has_deepseeks(gateway: Make, fake: Accounts) -> None:
    accounts = gateway(account("a"), account("b", group="g", max_concurrency=7)).client.accounts
    assert accounts is not None
    a, b = accounts.members
    holds = [member.hold(model) for member in (a, b) for model in ("deepseek-flash", "deepseek-v4-pro")]
    limits = {hold.name: hold.limit for hold in holds}
    assert limits == {"account:a:deepseek-flash": 2500, "account:a:deepseek-v4-pro": 500, "account:g": 7}


def test_who_waits_too_long_is_told_when_to_come_again(gateway: Make, fake: Accounts) -> None:
    go_on = threading.Event()
    fake.handlers["a"] = held_until(go_on)
    one = gateway(account("a", max_concurrency=1), account_queue_seconds=0.2)
    busy = one.open()
    while not busy.read():
        pass
    began = time.monotonic()
    assert type(one.fail()) is Saturated
    assert 0.2 <= time.monotonic() - began < 3
    assert one.books.ledger.waiting(["account:a"]) == {"account:a": 0}
    go_on.set()
    busy.read_all(1 << 20, on_tick=lambda: None)
    busy.close()


def test_who_waits_soon_hears_what_another_process_has_found(gateway: Make, fake: Accounts) -> None:
    """The account whose place it waits for is out."""
    go_on = threading.Event()
    fake.handlers["a"] = held_until(go_on)
    one, other = gateway(account("a", max_concurrency=1)), gateway(account("a", max_concurrency=1))
    busy = one.open()
    while not busy.read():
        pass
    waits = one.open()
    wait_for(lambda: one.books.ledger.waiting(["account:a"])["account:a"])
    time.sleep(0.2)  # it has looked
    assert other.client.accounts is not None
    (member,) = other.client.accounts.members
    refused = Standing().after(QuotaExhausted("no balance"), 1, time.time())
    other.books.ledger.mark(member.standing, refused.written(), 60)
    began = time.monotonic()
    with pytest.raises(NoAccount):
        waits.read_all(1 << 20, on_tick=lambda: None)
    assert time.monotonic() - began < 0.8
    waits.close()
    go_on.set()
    busy.read_all(1 << 20, on_tick=lambda: None)
    busy.close()


def test_who_leaves_the_queue_leaves_no_trace(gateway: Make, fake: Accounts) -> None:
    go_on = threading.Event()
    fake.handlers["a"] = in_turns(held_until(go_on), deepseek.answers())
    one = gateway(account("a", max_concurrency=1))
    busy = one.open()
    while not busy.read():
        pass
    leaves, stays = one.open(), one.open()
    while one.books.ledger.waiting(["account:a"])["account:a"] < 2:
        time.sleep(0.002)
    leaves.close()
    while one.books.ledger.waiting(["account:a"])["account:a"] > 1:
        time.sleep(0.002)
    assert leaves.attempts == 0
    go_on.set()
    busy.read_all(1 << 20, on_tick=lambda: None)
    busy.close()
    assert stays.read_all(1 << 20, on_tick=lambda: None) == ANSWER
    stays.close()


# -- leases ---------------------------------------------------------------------------------------


def test_a_lease_lasts_as_long_as_its_stream(gateway: Make, fake: Accounts) -> None:
    go_on = threading.Event()
    fake.handlers["a"] = held_until(go_on)
    one = gateway(account("a"))
    call = one.open()
    while not call.read():
        pass
    assert one.held() == 1
    go_on.set()
    call.read_all(1 << 20, on_tick=lambda: None)
    assert one.held() == 1
    call.close()
    assert one.held() == 0
    call.close()
    assert one.held() == 0


def test_a_client_that_leaves_frees_its_place(gateway: Make, fake: Accounts, upstream: FakeUpstream) -> None:
    fake.handlers["a"] = held_until(threading.Event())
    one = gateway(account("a", max_concurrency=1))
    for _ in range(3):
        call = one.open()
        while not call.read():
            pass
        call.close()
        assert one.held() == 0
    upstream.wait_until(lambda: not upstream.busy_handlers)
    assert fake.most == {"a": 1}


def test_a_client_that_leaves_before_the_answer_frees_its_place(
    gateway: Make, fake: Accounts, upstream: FakeUpstream
) -> None:
    fake.handlers["a"] = lambda _, wire: wire.wait_closed(10)
    one = gateway(account("a"))
    call = one.open()
    upstream.wait_until(lambda: fake.asked["a"])
    assert one.held() == 1
    call.close()
    upstream.wait_until(lambda: one.held() == 0)


def test_a_bug_of_ours_loses_no_lease(gateway: Make, fake: Accounts, monkeypatch: pytest.MonkeyPatch) -> None:
    one = gateway(account("a"))

    def breaks(*_: object) -> Any:
        raise KeyError("a bug")

    monkeypatch.setattr(one.client, "_post", breaks)
    assert "KeyError" in one.fail().message
    monkeypatch.undo()
    assert one.held() == 0
    accounts = one.client.accounts
    assert accounts is not None
    monkeypatch.setattr(accounts, "succeeded", breaks)
    assert "KeyError" in one.fail().message


# -- what failures mean ---------------------------------------------------------------------------

REFUSALS = [
    (401, deepseek.BAD_KEY),
    (402, deepseek.NO_BALANCE),
    (403, deepseek.BAD_KEY),
    (404, b"not here"),
]


@pytest.mark.parametrize(("status", "body"), REFUSALS)
def test_a_refused_account_is_out_and_nobody_notices(
    gateway: Make, fake: Accounts, status: int, body: bytes
) -> None:
    fake.handlers["a"] = deepseek.refuses(status, body)
    one = gateway(account("a", weight=100), account("b"))
    other_worker = gateway(account("a", weight=100), account("b"))
    assert [one.ask() for _ in range(5)] == ["b"] * 5
    assert [other_worker.ask() for _ in range(5)] == ["b"] * 5
    assert fake.asked["a"] == 1
    assert AccountRefused in [type(failure) for failure in one.failures]


def test_all_accounts_refused_is_the_operators_matter(gateway: Make, fake: Accounts) -> None:
    fake.handlers = {
        "a": deepseek.refuses(401, deepseek.BAD_KEY),
        "b": deepseek.refuses(402, deepseek.NO_BALANCE),
    }
    one = gateway(account("a"), account("b"))
    for _ in range(3):
        error = one.fail()
        assert (type(error), error.status) == (NoAccount, 503)
        assert error.retry_after == pytest.approx(60, abs=5)
        assert "sk-" not in error.message
    assert fake.asked == {"a": 1, "b": 1}


def test_a_refused_account_comes_back_by_one_request(
    gateway: Make, fake: Accounts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deepseek_proxy.upstream.account_standing.FIRST_RECHECK_SECONDS", 0.2)
    tried = threading.Event()
    fake.handlers["a"] = in_turns(
        deepseek.refuses(402, deepseek.NO_BALANCE), held_until(tried), deepseek.answers()
    )
    one = gateway(account("a", weight=100), account("b"))
    assert one.ask() == "b"
    time.sleep(0.25)
    held_up = threading.Event()

    def slow(request: Any, wire: Any) -> None:
        held_up.wait(5)
        deepseek.answers()(request, wire)

    fake.handlers["a"] = in_turns(slow, deepseek.answers())
    first = one.open()
    while fake.asked["a"] < 2:
        time.sleep(0.002)
    assert [one.ask() for _ in range(3)] == ["b"] * 3, "one request tries it, the others go elsewhere"
    held_up.set()
    assert first.read_all(1 << 20, on_tick=lambda: None) == ANSWER
    first.close()
    assert one.ask() == "a"


def test_a_rate_limit_pauses_and_tells_what_fits(gateway: Make, fake: Accounts) -> None:
    fake.handlers["a"] = in_turns(deepseek.refuses(429, deepseek.TOO_MANY), deepseek.answers())
    one = gateway(account("a", weight=100, max_concurrency=100), account("b"))
    assert one.ask() == "b"
    accounts = one.client.accounts
    assert accounts is not None
    standing = accounts.standings(accounts.members)["a"]
    assert (standing.reason, standing.limit) == ("rate_limited", 25)
    assert one.ask() == "b"
    time.sleep(1.1)
    assert one.ask() == "a"
    assert accounts.standings(accounts.members)["a"].failures == 0


def test_the_only_account_is_waited_for_while_it_pauses(gateway: Make, fake: Accounts) -> None:
    fake.handlers["a"] = in_turns(deepseek.refuses(429, deepseek.TOO_MANY), deepseek.answers())
    one = gateway(account("a"))
    began = time.monotonic()
    assert one.ask() == "a"
    assert 0.9 < time.monotonic() - began < 5


def test_a_server_that_fails_once_is_not_paused_but_twice_is(gateway: Make, fake: Accounts) -> None:
    fake.handlers["a"] = deepseek.refuses(503, deepseek.BUSY)
    one = gateway(account("a", weight=100), account("b"))
    assert [one.ask() for _ in range(4)] == ["b"] * 4
    assert fake.asked == {"a": 2, "b": 4}


def test_attempts_are_bounded_when_every_account_fails(gateway: Make, fake: Accounts) -> None:
    fake.handlers = dict.fromkeys("abcde", deepseek.refuses(503, deepseek.BUSY))
    one = gateway(*map(account, "abcde"))
    assert type(one.fail()) is UpstreamOverloaded
    assert fake.asked == dict.fromkeys("abcde", 1)


def test_a_clients_mistake_is_no_failure_of_the_account(gateway: Make, fake: Accounts) -> None:
    fake.handlers["a"] = in_turns(*[deepseek.refuses(400, deepseek.INVALID)] * 3, deepseek.answers())
    one = gateway(account("a", weight=100), account("b"))
    assert [type(one.fail()) for _ in range(3)] == [InvalidRequest] * 3
    assert one.ask() == "a"
    assert fake.asked == {"a": 4}


def test_a_rate_limit_everywhere_is_told_with_its_own_error(gateway: Make, fake: Accounts) -> None:
    fake.handlers = dict.fromkeys("abc", deepseek.refuses(429, deepseek.TOO_MANY))
    one = gateway(*map(account, "abc"), account_queue_seconds=0.2)
    error = one.fail()
    assert isinstance(error, RateLimited | NoAccount | Saturated)
    assert fake.asked == Counter("abc")


def test_what_was_used_is_counted_for_the_account(gateway: Make, fake: Accounts) -> None:
    one = gateway(account("a"))
    accounts = one.client.accounts
    assert accounts is not None
    began = datetime(2026, 11, 21, 12, tzinfo=UTC)
    for _ in range(2):
        accounts.charge("a", models.FLASH, began, Usage(1_000, 800, 100, 40))
    counted = one.books.ledger.read(Sums.names("a", began))
    assert Sums(*counted.values()) == Sums(2, 1_600, 400, 200, 2 * (800 * 3 + 200 * 150 + 100 * 600))


def test_what_a_host_lacks_beside_the_chat_takes_no_account_out(gateway: Make, fake: Accounts) -> None:
    fake.handlers["a"] = in_turns(
        deepseek.refuses(404, b"no"), deepseek.refuses(403, b"no"), deepseek.answers()
    )
    one = gateway(account("a"))
    assert one.fail(model=None, path=SEARCH).status == 502
    assert one.fail(model=None, path=SEARCH).status == 403
    assert one.ask() == "a"
