from __future__ import annotations

import json
from typing import Any

import pytest

from deepseek_proxy.errors import (
    InvalidRequest,
    NotFound,
    ProxyError,
    RateLimited,
    UpstreamError,
    UpstreamTimeout,
)
from deepseek_proxy.translate import lookup
from deepseek_proxy.translate.lookup import (
    MAX_QUERY_CHARACTERS,
    OPEN_PAGE,
    SIZES,
    WEB_SEARCH,
    Action,
    OpenPage,
    Options,
    Search,
    WrongCall,
    action_of,
    failure,
    usable_results,
)
from deepseek_proxy.translate.tools import ToolKind

SKY = Search("sky", 2, Options())
PAGE = OpenPage("https://a.example", 0, 10)


def search(options: Options | None = None, **arguments: Any) -> Action:
    return action_of(WEB_SEARCH.kind, json.dumps(arguments), options or Options())


def opening(options: Options | None = None, **arguments: Any) -> Action:
    return action_of(OPEN_PAGE.kind, json.dumps(arguments), options or Options())


# -- requests -------------------------------------------------------------------------------------


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
        (Options(size=SIZES["high"]), {"query": "sky"}, {"query": "sky", "count": 20, "need_content": True}),
        (Options(domains=("a.example",)), {"query": "sky"}, {"query": "sky site:a.example", "count": 50}),
        (Options(domains=("a.example",)), {"query": "x" * 120}, {"query": "x" * 120, "count": 50}),
        (Options(domains=("a.example", "b.example")), {"query": "sky"}, {"query": "sky", "count": 50}),
    ],
)
def test_a_search(options: Options, arguments: dict[str, Any], body: dict[str, Any]) -> None:
    assert json.loads(search(options, **arguments).body) == body


def test_a_page_to_open() -> None:
    page = opening(url="https://a.example/x?y=1", start=5)
    assert page == OpenPage("https://a.example/x?y=1", 5, SIZES["medium"].page_characters)
    assert json.loads(page.body) == {"url": "https://a.example/x?y=1"}


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
    with pytest.raises(WrongCall) as wrong:
        action_of(kind, arguments, Options())
    assert str(wrong.value).startswith(refusal)


def test_what_is_too_long_is_refused() -> None:
    assert search(query="x" * MAX_QUERY_CHARACTERS)
    with pytest.raises(WrongCall, match="at most 128"):
        search(query="x" * (MAX_QUERY_CHARACTERS + 1))
    with pytest.raises(WrongCall):
        opening(url="https://a.example/" + "x" * 8192)


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
    options = Options(domains=("a.example",))
    if allowed:
        assert opening(options, url=url)
    else:
        with pytest.raises(WrongCall, match=r"Only pages of these sites can be opened: a\.example\."):
            opening(options, url=url)


def test_without_live_access_no_page_is_opened() -> None:
    with pytest.raises(WrongCall, match="Pages cannot be opened here"):
        opening(Options(live=False), url="https://a.example")


# -- answers --------------------------------------------------------------------------------------


def urls(search: Search, *urls: Any) -> list[str]:
    return [page.url for page in usable_results({"results": [{"url": url} for url in urls]}, search)]


def test_results_beyond_the_count_are_left_out() -> None:
    assert urls(SKY, "https://a.example", "https://b.example", "https://c.example") == [
        *("https://a.example", "https://b.example")
    ]


def test_results_of_other_sites_are_left_out() -> None:
    narrow = Search("sky", 2, Options(domains=("a.example",)))
    found = urls(narrow, "https://b.example", "https://a.example/1", "https://x.a.example")
    assert found == ["https://a.example/1", "https://x.a.example"]


@pytest.mark.parametrize("url", [None, "", 5, "javascript:alert(1)", "ftp://a.example"])
def test_a_result_without_a_web_address_is_left_out(url: Any) -> None:
    assert urls(SKY, url) == []


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (RateLimited("Too many"), "too many searches at this moment"),
        (UpstreamTimeout("The answer took longer than 120 seconds."), "it took too long"),
        (UpstreamError("DeepSeek failed: secret.internal"), "the search service does not answer"),
        (InvalidRequest("'url' must be a valid URL."), "'url' must be a valid URL"),
        (NotFound("it cannot be reached"), "it cannot be reached"),
    ],
)
def test_a_failure_in_words(error: ProxyError, why: str) -> None:
    end = "Go on without it, or try something else."
    assert failure(SKY, error) == f"The search failed: {why}. {end}"
    assert failure(PAGE, error) == f"The page could not be opened: {why}. {end}"


# -- what a client asks for ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tool_type", "is_search"),
    [
        ("web_search", True),
        ("web_search_2025_08_26", True),
        ("web_search_preview", True),
        ("web_search_preview_2025_03_11", True),
        ("web_search_call", False),
        ("web_searches", False),
        ("file_search", False),
    ],
)
def test_the_names_of_the_tool(tool_type: str, is_search: bool) -> None:
    assert lookup.is_web_search(tool_type) is is_search


@pytest.mark.parametrize(
    ("tool", "options"),
    [
        ({}, Options()),
        ({"search_context_size": "high"}, Options(size=SIZES["high"])),
        ({"filters": {"allowed_domains": ["A.example"]}}, Options(domains=("a.example",))),
        ({"filters": {"allowed_domains": []}}, Options()),
        ({"filters": None, "user_location": {"type": "approximate", "country": "DE"}}, Options()),
        ({"external_web_access": False, "search_content_types": ["text"]}, Options(live=False)),
        ({"external_web_access": True, "indexed_web_access": True}, Options(found_only=True)),
    ],
)
def test_what_the_tool_asks_for(tool: dict[str, Any], options: Options) -> None:
    assert lookup.options({"type": "web_search", **tool}, "tools[0]") == options


@pytest.mark.parametrize(
    ("tool", "param"),
    [
        ({"search_context_size": "huge"}, "tools[0].search_context_size"),
        ({"filters": []}, "tools[0].filters"),
        ({"filters": {"allowed_domains": "a.example"}}, "tools[0].filters.allowed_domains"),
        ({"filters": {"allowed_domains": ["a.example", 5]}}, "tools[0].filters.allowed_domains[1]"),
        ({"external_web_access": "no"}, "tools[0].external_web_access"),
    ],
)
def test_what_is_wrong_with_the_tool_is_named(tool: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        lookup.options(tool, "tools[0]")
    assert refused.value.param == param
