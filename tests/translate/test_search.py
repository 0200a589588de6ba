from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from deepseek_proxy.errors import (
    InvalidRequest,
    NotFound,
    ProxyError,
    RateLimited,
    SearchLimitReached,
    UpstreamError,
    UpstreamTimeout,
)
from deepseek_proxy.translate.search import (
    MAX_QUERY_CHARACTERS,
    OPEN_PAGE,
    SIZES,
    WEB_SEARCH,
    Action,
    Limits,
    OpenPage,
    Options,
    Planned,
    Search,
    Session,
    Told,
)
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


def sent(made: Action) -> Any:
    return json.loads(made.body)


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
    options = Options(domains=("a.example", "b.example"))
    assert (
        "Only these sites are searched: a.example, b.example."
        in (declared(options)["web_search"]["description"])
    )


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


# -- what is asked of DeepSeek --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "arguments", "body"),
    [
        (Options(), {"query": "sky"}, {"query": "sky", "count": 10}),
        (Options(), {"query": " 青い 空 "}, {"query": " 青い 空 ", "count": 10}),
        (Options(), {"query": "sky", "count": 3}, {"query": "sky", "count": 3}),
        (Options(), {"query": "sky", "count": 500}, {"query": "sky", "count": 20}),
        (Options(), {"query": "sky", "count": -1}, {"query": "sky", "count": 10}),
        (Options(), {"query": "sky", "count": "many"}, {"query": "sky", "count": 10}),
        (Options(size=SIZES["low"]), {"query": "sky"}, {"query": "sky", "count": 5}),
        (
            Options(size=SIZES["high"]),
            {"query": "sky"},
            {"query": "sky", "count": 20, "need_content": True},
        ),
        (
            Options(domains=("a.example",)),
            {"query": "sky"},
            {"query": "sky site:a.example", "count": 50},
        ),
        (
            Options(domains=("a.example",)),
            {"query": "x" * 120},
            {"query": "x" * 120, "count": 50},
        ),
        (Options(domains=("a.example", "b.example")), {"query": "sky"}, {"query": "sky", "count": 50}),
    ],
)
def test_a_search(options: Options, arguments: dict[str, Any], body: dict[str, Any]) -> None:
    made = action(offered(options), **arguments)
    assert isinstance(made, Search)
    assert sent(made) == body


def test_a_page_to_open() -> None:
    made = action(offered(), OPEN_PAGE.kind, url="https://a.example/x?y=1", start=5)
    assert made == OpenPage("https://a.example/x?y=1", 5, SIZES["medium"].page_characters)
    assert sent(made) == {"url": "https://a.example/x?y=1"}


@pytest.mark.parametrize(
    ("kind", "arguments", "refusal"),
    [
        (WEB_SEARCH.kind, "", "The arguments are not a JSON object."),
        (WEB_SEARCH.kind, '{"query": ', "The arguments are not a JSON object."),
        (WEB_SEARCH.kind, '["sky"]', "The arguments are not a JSON object."),
        (WEB_SEARCH.kind, "{}", '"query" has to be a text.'),
        (WEB_SEARCH.kind, '{"query": "  "}', '"query" has to be a text.'),
        (WEB_SEARCH.kind, '{"query": 5}', '"query" has to be a text.'),
        (OPEN_PAGE.kind, "{}", '"url" has to be a whole address'),
        (OPEN_PAGE.kind, '{"url": "a.example"}', '"url" has to be a whole address'),
        (OPEN_PAGE.kind, '{"url": "file:///etc/passwd"}', '"url" has to be a whole address'),
        (OPEN_PAGE.kind, '{"url": "http://["}', '"url" has to be a whole address'),
    ],
)
def test_a_call_that_cannot_be_made_is_refused(kind: ToolKind, arguments: str, refusal: str) -> None:
    (plan,) = offered().plan([(kind, arguments)])
    assert plan.action is None
    assert plan.refusal.startswith(refusal)


def test_what_is_too_long_is_refused() -> None:
    assert "at most 128" in planned(offered(), query="x" * (MAX_QUERY_CHARACTERS + 1)).refusal
    assert planned(offered(), OPEN_PAGE.kind, url="https://a.example/" + "x" * 8192).action is None


@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        ("https://a.example/x", True),
        ("http://A.Example", True),
        ("https://docs.a.example:8443/", True),
        ("https://nota.example/", False),
        ("https://a.example.evil.example/", False),
        ("https://evil.example/?a.example", False),
        ("https://a.example@evil.example/", False),
    ],
)
def test_pages_of_other_sites_are_not_opened(url: str, allowed: bool) -> None:
    session = offered(Options(domains=("a.example",)))
    plan = planned(session, OPEN_PAGE.kind, url=url)
    assert (plan.action is not None) is allowed
    assert allowed or plan.refusal == "Only pages of these sites can be opened: a.example."


def test_without_live_access_a_page_is_refused() -> None:
    plan = planned(offered(Options(live=False)), OPEN_PAGE.kind, url="https://a.example")
    assert plan.refusal.startswith("Pages cannot be opened here")


def test_only_what_was_found_can_be_opened_where_that_is_asked_for() -> None:
    session = offered(Options(found_only=True))
    found = "https://a.example/x"
    assert planned(session, OPEN_PAGE.kind, url=found).refusal == (
        "Only pages that a search has found can be opened."
    )
    told(session, action(session, query="sky"), {"results": [result(found)]})
    assert planned(session, OPEN_PAGE.kind, url=found).action is not None
    assert planned(session, OPEN_PAGE.kind, url=found + "?secret=1").action is None


# -- bounds ---------------------------------------------------------------------------------------


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


def test_results_of_other_sites_and_beyond_the_count_are_left_out() -> None:
    session = offered(Options(domains=("a.example",)))
    urls = ["https://b.example", "https://a.example/1", "https://x.a.example", "https://a.example/2"]
    answer = {"results": [result(url) for url in urls]}
    found = told(session, action(session, query="sky", count=2), answer)
    assert [source.url for source in found.sources] == ["https://a.example/1", "https://x.a.example"]


@pytest.mark.parametrize("url", [None, "", 5, "javascript:alert(1)", "ftp://a.example"])
def test_a_result_without_a_web_address_is_left_out(url: Any) -> None:
    session = offered()
    assert told(session, action(session, query="sky"), {"results": [result(url)]}) == Told(
        "Nothing was found. Try other words.", ok=True
    )


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


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (RateLimited("Too many"), "too many searches at this moment"),
        (UpstreamTimeout("The answer took longer than 120 seconds."), "it took too long"),
        (UpstreamError("DeepSeek failed: secret.internal"), "the search service does not answer"),
        (
            InvalidRequest("'url' must be a valid HTTP or HTTPS URL"),
            "'url' must be a valid HTTP or HTTPS URL",
        ),
        (NotFound("it cannot be reached"), "it cannot be reached"),
    ],
)
def test_a_failure_is_told_and_the_model_goes_on(error: ProxyError, why: str) -> None:
    session = offered()
    end = "Go on without it, or try something else."
    assert session.tell(action(session, query="sky"), error) == Told(
        f"The search failed: {why}. {end}", ok=False
    )
    page = action(session, OPEN_PAGE.kind, url="https://a.example")
    assert session.tell(page, error) == Told(f"The page could not be opened: {why}. {end}", ok=False)
