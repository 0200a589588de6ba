"""Answers over several accounts: a place is held for as long as an answer takes, and the log says which."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any

import pytest
from harness import deepseek
from harness.accounts import Accounts, account, held_until
from harness.fake_upstream import FakeUpstream
from harness.searching import searches
from harness.waiting import wait_for

Make = Callable[..., Any]
"""Of `conftest`."""
OURS = {"Authorization": ""}
"""Without a key of the caller's own."""
HOLD = "account:a"
ONE = [account("a", max_concurrency=1)]
SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}


def held(face: Any) -> int:
    return int(face.gateway.books.ledger.held([HOLD])[HOLD])


def waiting(face: Any) -> int:
    return int(face.gateway.books.ledger.waiting([HOLD])[HOLD])


@pytest.fixture
def fake(upstream: FakeUpstream) -> Accounts:
    accounts = Accounts()
    upstream.serve(accounts)
    return accounts


CHAT = {"path": "/v1/chat/completions", "messages": [{"role": "user", "content": "hi"}]}


@pytest.mark.parametrize("more", [{}, CHAT], ids=["responses", "chat"])
@pytest.mark.parametrize("stream", [True, False])
def test_a_place_is_held_for_an_answer_and_no_longer(
    make: Make, fake: Accounts, stream: bool, more: dict[str, Any]
) -> None:
    face = make(accounts=ONE)
    for _ in range(3):
        response = face.ask(OURS, stream=stream, **more)
        assert response.status_code == 200
        assert held(face) == int(stream)
        face.finish(response)
        assert held(face) == 0
    assert [line["account"] for line in face.lines()] == ["a"] * 3
    assert face.metric('account_answers_total{account="a",status="200"}') == 3
    assert face.metric('account_tokens_total{account="a",kind="cache_hit"}') == 96
    assert face.metric('account_cost_usd_total{account="a"}') > 0


@pytest.mark.parametrize("body", [b"data: {broken\n\n", b"", deepseek.text("Hel")])
def test_a_stream_that_breaks_frees_its_place(
    make: Make, fake: Accounts, upstream: FakeUpstream, body: bytes
) -> None:
    def breaks(_: Any, wire: Any) -> None:
        wire.start_stream()
        wire.chunk(deepseek.opening() + body)

    fake.handlers["a"] = breaks
    face = make(accounts=ONE)
    face.finish(face.ask(OURS, stream=True))
    assert held(face) == 0


def test_a_stream_that_nobody_reads_frees_its_place(make: Make, fake: Accounts) -> None:
    face = make(accounts=ONE)
    response = face.ask(OURS, stream=True)
    assert held(face) == 1
    response.close()
    assert held(face) == 0


def test_a_client_that_leaves_in_the_middle_frees_its_place(make: Make, fake: Accounts) -> None:
    fake.handlers["a"] = held_until(threading.Event())
    face = make(accounts=ONE)
    response = face.ask(OURS, stream=True)
    next(iter(response.response))
    response.close()
    assert held(face) == 0
    assert face.lines()[0]["client_gone"] is True


def test_answers_in_a_form_and_with_searches_hold_one_place_at_a_time(
    make: Make, fake: Accounts, upstream: FakeUpstream
) -> None:
    face = make(accounts=ONE, web_search="deepseek", account_queue_seconds=5)
    fake.handlers["a"] = searches()
    for stream in (True, False):
        response = face.finish(face.ask(OURS, stream=stream, tools=[{"type": "web_search"}]))
        assert response.status_code == 200
    assert fake.most == {"a": 1}
    assert {request.path for request in upstream.requests} >= {"/v1/tools/search", "/chat/completions"}
    del fake.handlers["a"]
    form = {"format": {"type": "json_schema", "name": "n", "schema": SCHEMA}}
    face.finish(face.ask(OURS, text=form))
    assert held(face) == 0
    assert fake.asked["a"] > 6


def test_who_finds_the_queue_full_is_told_when_to_come_again(make: Make, fake: Accounts) -> None:
    go_on = threading.Event()
    fake.handlers["a"] = held_until(go_on)
    face = make(accounts=ONE, account_queue=0)
    busy = face.ask(OURS, stream=True)
    response = face.ask(OURS, stream=True, **CHAT)
    assert (response.status_code, response.headers["Retry-After"]) == (429, "5")
    assert response.json["error"]["code"] == "rate_limit_exceeded"
    response.close()
    go_on.set()
    face.finish(busy)
    assert held(face) == 0


def test_those_who_wait_when_the_server_stops_leave_no_trace(make: Make, fake: Accounts) -> None:
    go_on = threading.Event()
    fake.handlers["a"] = held_until(go_on)
    face = make(accounts=ONE)
    busy = face.ask(OURS, stream=True)
    statuses: list[int] = []
    thread = threading.Thread(target=lambda: statuses.append(face.ask(OURS).status_code))
    thread.start()
    wait_for(lambda: waiting(face) == 1)
    face.gateway.drain.begin(0.3)
    thread.join(10)
    assert statuses == [503]
    wait_for(lambda: waiting(face) == 0)
    face.finish(busy)
    assert held(face) == 0
    assert fake.asked["a"] == 1


def test_a_conversation_stays_with_its_account(make: Make, fake: Accounts) -> None:
    face = make(accounts=[account(name) for name in "abcdef"])
    for talk in ("one", "two", "three", "four"):
        for turn in range(3):
            face.finish(face.ask(OURS, input=[{"role": "user", "content": talk}] + [EXCHANGE] * turn))
        face.finish(face.ask(OURS, input="another beginning", prompt_cache_key=talk))
        face.finish(face.ask(OURS, input="and another", prompt_cache_key=talk))
    used = [line["account"] for line in face.lines()]
    for begin in range(0, 20, 5):
        assert len(set(used[begin : begin + 3])) == 1
        assert len(set(used[begin + 3 : begin + 5])) == 1


EXCHANGE = {"role": "user", "content": "go on"}


def test_a_callers_own_key_uses_no_account(make: Make, fake: Accounts) -> None:
    face = make(accounts=ONE)
    face.finish(face.ask(stream=True))
    assert "account" not in face.lines()[0]
    assert fake.asked == {"client-0123456789": 1}


def test_an_account_that_is_refused_is_no_matter_of_the_client(make: Make, fake: Accounts) -> None:
    fake.handlers["a"] = deepseek.refuses(401, deepseek.BAD_KEY)
    face = make(accounts=[*ONE, account("b", weight=0.01)])
    assert face.ask(OURS).status_code == 200
    alone = make(accounts=ONE)
    response = alone.ask(OURS)
    assert response.status_code == 503
    assert int(response.headers["Retry-After"]) <= 60
    assert "sk-" not in json.dumps(response.json)
