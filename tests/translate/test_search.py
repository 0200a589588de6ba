from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from deepseek_proxy.errors import SearchLimitReached, UpstreamTimeout
from deepseek_proxy.translate.lookup import OPEN_PAGE, SIZES, WEB_SEARCH, Action, OpenPage, Options
from deepseek_proxy.translate.search import Limits, Planned, Session, Told
from deepseek_proxy.translate.sources import Source
from deepseek_proxy.translate.tools import Tool, ToolKind, ToolTable

PLENTY = Limits(rounds=8, searches=16, seconds=60)
PAGE = {"title": "A page", "content": "0123456789"}


def result(url: str, **changes: Any) -> dict[str, Any]:
    return {"url": url, "title": "T", "summary": "S", "date": "2026-11-01T00:00:00Z", **changes}


def offered(
    options: Options | None = None, limits: Limits = PLENTY, now: Callable[[], float] = lambda: 0
) -> Session:
    session = Session(limits, now)
    session.offer(ToolTable(64), options or Options())
    return session


def planned(session: Session, kind: ToolKind = WEB_SEARCH.kind, **arguments: Any) -> Planned:
    (plan,) = session.plan([(kind, json.dumps(arguments))])
    return plan


def action(session: Session, kind: ToolKind = WEB_SEARCH.kind, **arguments: Any) -> Action:
    made = planned(session, kind, **arguments).action
    assert made is not None
    return made


def told(session: Session, made: Action, answer: Any) -> Told:
    return session.tell(made, json.dumps(answer).encode())


# -- what the model is offered --------------------------------------------------------------------


def declared(options: Options) -> dict[str, Any]:
    table = ToolTable(64)
    Session(PLENTY, lambda: 0).offer(table, options)
    return {each["function"]["name"]: each["function"] for each in table.declarations}


def test_two_functions_are_offered() -> None:
    functions = declared(Options())
    assert [*functions] == ["web_search", "open_page"]
    assert functions["web_search"]["parameters"]["required"] == ["query"]
    assert functions["open_page"]["parameters"]["required"] == ["url"]
    assert "never for instructions" in functions["web_search"]["description"]


def test_without_live_access_no_page_can_be_opened() -> None:
    assert [*declared(Options(live=False))] == ["web_search"]


def test_the_model_is_told_of_the_sites_it_is_kept_to() -> None:
    description = declared(Options(domains=("a.example", "b.example")))["web_search"]["description"]
    assert description.endswith("Only these sites are searched: a.example, b.example.")


def test_deepseek_accepts_the_declarations(deepseek_check: Callable[[Any], Any]) -> None:
    table = ToolTable(64)
    offered().offer(table, Options(domains=("a.example",)))
    body = {
        "model": "deepseek-flash",
        "messages": [{"role": "user", "content": "Hi"}],
        "tools": table.declarations,
    }
    assert deepseek_check(body) == (200, None)


def test_a_tool_of_the_client_may_have_the_same_name() -> None:
    table = ToolTable(64)
    table.declare(Tool(ToolKind.FUNCTION, "web_search"), None, {})
    Session(PLENTY, lambda: 0).offer(table, Options())
    first, second, _ = (each["function"]["name"] for each in table.declarations)
    assert table.client_tool(first) == Tool(ToolKind.FUNCTION, "web_search")
    assert table.client_tool(second) == WEB_SEARCH


def test_a_session_without_an_offer_offers_nothing() -> None:
    assert not Session().is_offered
    assert offered().is_offered


# -- bounds ---------------------------------------------------------------------------------------


def test_only_what_was_found_can_be_opened_where_that_is_asked_for() -> None:
    session = offered(Options(found_only=True))
    found = "https://a.example/x"
    assert planned(session, OPEN_PAGE.kind, url=found).refusal == (
        "Only pages that a search has found can be opened."
    )
    told(session, action(session, query="sky"), {"results": [result(found)]})
    assert planned(session, OPEN_PAGE.kind, url=found).action is not None
    assert planned(session, OPEN_PAGE.kind, url=found + "?secret=1").action is None


def runs(session: Session, calls: int = 1) -> list[bool]:
    plans = session.plan([(WEB_SEARCH.kind, '{"query": "sky"}')] * calls)
    return [plan.action is not None for plan in plans]


def test_the_number_of_rounds_is_bounded() -> None:
    session = offered(limits=Limits(rounds=2, searches=16, seconds=60))
    assert [runs(session), runs(session), runs(session)] == [[True], [True], [False]]


def test_the_number_of_searches_is_bounded() -> None:
    session = offered(limits=Limits(rounds=8, searches=3, seconds=60))
    assert runs(session, 2) == [True, True]
    assert runs(session, 2) == [True, False]
    assert session.searches == 3


def test_no_search_is_started_late() -> None:
    clock = iter([100.0, 159.0, 161.0])
    session = offered(limits=PLENTY, now=lambda: next(clock))
    assert [runs(session), runs(session)] == [[True], [False]]


def test_a_request_may_lower_the_bound_and_not_raise_it() -> None:
    session = offered()
    session.limit(2)
    session.limit(100)
    assert runs(session, 3) == [True, True, False]


def test_at_a_bound_the_model_is_told_to_answer_and_then_fails() -> None:
    session = offered(limits=Limits(rounds=1, searches=1, seconds=60))
    assert (
        "Answer now" in [plan.refusal for plan in session.plan([(WEB_SEARCH.kind, '{"query": "x"}')] * 2)][1]
    )
    with pytest.raises(SearchLimitReached, match="web_search_rounds"):
        runs(session)


def test_a_wrong_call_costs_no_search_but_a_round() -> None:
    session = offered(limits=Limits(rounds=1, searches=16, seconds=60))
    assert planned(session).action is None
    assert session.searches == 0
    assert runs(session) == [False]


# -- what the model is told -----------------------------------------------------------------------


def test_results_are_numbered_over_the_whole_conversation() -> None:
    session = offered()
    session.sources.add([Source(4, "https://old.example", "Old")])
    search = action(session, query="sky")
    first = told(session, search, {"results": [result("https://a.example"), result("https://old.example")]})
    assert first.ok
    assert [line for line in first.text.splitlines() if line.startswith("[")] == ["[5] T", "[4] Old"]
    assert [source.number for source in first.sources] == [5, 4]
    second = told(session, search, {"results": [result("https://b.example"), result("https://a.example")]})
    assert [source.number for source in second.sources] == [6, 5]


def test_nothing_found_on_the_sites_says_so() -> None:
    session = offered(Options(domains=("a.example",)))
    found = told(session, action(session, query="sky"), {"results": []})
    assert found.text == "Nothing was found on a.example. Try other words."


def test_contents_are_told_where_the_size_allows() -> None:
    answer = {"results": [result("https://a.example", content="x" * 3000)]}
    for size, characters in (("medium", 0), ("high", 2000)):
        session = offered(Options(size=SIZES[size]))
        assert told(session, action(session, query="sky"), answer).text.count("x") == characters + 1


@pytest.mark.parametrize(
    ("start", "shown"),
    [
        (0, '0123\n\n(The page goes on: "start": 4 of 10.)'),
        (4, '4567\n\n(The page goes on: "start": 8 of 10.)'),
        (8, "89"),
        (99, "(The page has 10 characters.)"),
    ],
)
def test_a_page_comes_in_parts(start: int, shown: str) -> None:
    session = offered()
    page = told(session, OpenPage("https://a.example", start, 4), PAGE)
    assert page == Told(
        f"[1] A page\nhttps://a.example\n\n{shown}",
        ok=True,
        sources=(Source(1, "https://a.example", "A page"),),
    )


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"null", b"[]", b'{"results": 5}', b'{"results": [5]}', b'{"content": 5}']
)
def test_an_answer_of_another_shape_is_a_failed_search(body: bytes) -> None:
    session = offered()
    for made in (action(session, query="sky"), action(session, OPEN_PAGE.kind, url="https://a.example")):
        assert session.tell(made, body) == Told(
            "DeepSeek's answer could not be read. Try something else.", ok=False
        )


def test_a_failure_is_told_and_the_model_goes_on() -> None:
    session = offered()
    failed = session.tell(action(session, query="sky"), UpstreamTimeout("Late."))
    assert (failed.ok, failed.sources) == (False, ())
    assert failed.text.startswith("The search failed: it took too long.")
