from __future__ import annotations

import json

import pytest

from deepseek_proxy.errors import SearchLimitReached, UpstreamTimeout
from deepseek_proxy.translate.history import TextPart, ToolCall, ToolResult
from deepseek_proxy.translate.lookup import OPEN_PAGE, WEB_SEARCH, Options, Search
from deepseek_proxy.translate.rounds import Answered, Rounds
from deepseek_proxy.translate.search import Limits, Session
from deepseek_proxy.translate.sources import Source
from deepseek_proxy.translate.tools import Tool, ToolKind, ToolTable

FOUND = json.dumps({"results": [{"url": "https://a.example/", "title": "A", "summary": "S"}]}).encode()


def offered(limits: Limits | None = None) -> Rounds:
    table, session = ToolTable(64), Session(limits or Limits(8, 16, 60))
    session.offer(table, Options())
    return Rounds(session, table)


def test_without_an_offer_nothing_is_run() -> None:
    rounds = Rounds(Session(), ToolTable(64))
    assert not rounds.are_possible
    assert not rounds.runs(WEB_SEARCH)


def test_only_the_gateways_own_tools_are_run() -> None:
    rounds = offered()
    assert rounds.runs(WEB_SEARCH)
    assert rounds.runs(OPEN_PAGE)
    assert not rounds.runs(Tool(ToolKind.FUNCTION, "web_search"))


def test_arguments_come_in_pieces() -> None:
    rounds = offered()
    rounds.want(0, WEB_SEARCH.kind, "call_0", '{"que')
    rounds.go_on(0, 'ry": "sky"}')
    rounds.go_on(1, "of another call")
    assert rounds.are_wanted
    (action,) = rounds.plan()
    assert isinstance(action, Search)
    assert action.query == "sky"


def test_what_was_found_is_what_a_later_request_repeats() -> None:
    rounds = offered()
    rounds.want(0, WEB_SEARCH.kind, "call_0", '{"query": "sky"}')
    rounds.plan()
    ended, (told,) = rounds.settle([FOUND])
    assert ended.sources == (Source(1, "https://a.example/", "A"),)
    assert ended.calls == [Answered(WEB_SEARCH.kind, "call_0", '{"query": "sky"}', told.text)]
    assert rounds.said == [
        ToolCall("call_0", "web_search", '{"query": "sky"}'),
        ToolResult("call_0", None, (TextPart(told.text),)),
    ]
    assert not rounds.are_wanted


def test_a_call_that_cannot_be_made_is_answered_and_not_run() -> None:
    rounds = offered()
    rounds.want(0, WEB_SEARCH.kind, "call_0", "{}")
    rounds.want(1, WEB_SEARCH.kind, "call_1", '{"query": "sky"}')
    assert len(rounds.plan()) == 1
    ended, run = rounds.settle([UpstreamTimeout("late")])
    assert ['"query" has to be a text.' in call.result for call in ended.calls] == [True, False]
    assert [told.ok for told in run] == [False]


def test_who_goes_on_after_the_last_round_fails() -> None:
    rounds = offered(Limits(rounds=1, searches=16, seconds=60))
    for number in range(2):
        rounds.want(0, WEB_SEARCH.kind, f"call_{number}", '{"query": "sky"}')
        outcomes = [FOUND] * len(rounds.plan())
        rounds.settle(outcomes)
    rounds.want(0, WEB_SEARCH.kind, "call_2", '{"query": "sky"}')
    with pytest.raises(SearchLimitReached):
        rounds.plan()
