from __future__ import annotations

import json
from datetime import date
from typing import Any

import pytest

from deepseek_proxy.errors import InvalidRequest, NotFound, UpstreamTimeout
from deepseek_proxy.translate.responses.standalone import StandaloneSearch, parse

TODAY = date(2026, 11, 21)
PAGE = json.dumps({"title": "T", "content": "\n".join(f"line {n}" for n in range(1, 101))}).encode()
URL = "https://a.example/x"


def found(*urls: str) -> bytes:
    return json.dumps({"results": [{"url": url, "title": "T", "summary": "S"} for url in urls]}).encode()


def read(
    commands: dict[str, Any], settings: dict[str, Any] | None = None, *, max_actions: int = 16, **fields: Any
) -> StandaloneSearch:
    body = {"id": "x", "model": "m", "input": [], "commands": commands, "settings": settings, **fields}
    return parse(body, max_actions=max_actions, today=TODAY)


def sent(asked: StandaloneSearch) -> list[Any]:
    return [json.loads(action.body) for action in asked.actions]


@pytest.mark.parametrize(
    ("query", "settings", "body"),
    [
        ({"q": "sky"}, None, {"query": "sky", "count": 10}),
        ({"q": " sky "}, {"search_context_size": "low"}, {"query": "sky", "count": 5}),
        ({"q": "sky", "recency": 7}, None, {"query": "sky after:2026-11-14", "count": 10}),
        ({"q": "sky", "recency": 10**9}, None, {"query": "sky after:0001-01-01", "count": 10}),
        ({"q": "x" * 120, "recency": 7}, None, {"query": "x" * 120, "count": 10}),
        ({"q": "sky", "domains": ["A.example"]}, None, {"query": "sky site:a.example", "count": 50}),
        (
            {"q": "sky", "domains": ["docs.a.example", "b.example"]},
            {"filters": {"allowed_domains": ["a.example"]}},
            {"query": "sky site:docs.a.example", "count": 50},
        ),
    ],
)
def test_a_query(query: dict[str, Any], settings: dict[str, Any] | None, body: dict[str, Any]) -> None:
    assert sent(read({"search_query": [query]}, settings)) == [body]


@pytest.mark.parametrize(("length", "count"), [("short", 5), ("medium", 10), ("long", 20), ("huge", 10)])
def test_the_length_of_the_answer_is_the_number_of_results(length: str, count: int) -> None:
    (body,) = sent(read({"search_query": [{"q": "sky"}], "response_length": length}))
    assert body["count"] == count


def test_results_go_by_their_addresses() -> None:
    asked = read({"search_query": [{"q": "sky"}, {"q": "sea"}]})
    assert asked.output([found(URL, "https://b.example"), found()]) == (
        f"## Search: sky\n\nT\n{URL}\nS\n\nT\nhttps://b.example\nS\n\n"
        "## Search: sea\n\nNothing was found. Try other words."
    )


def test_a_page_from_a_line_on() -> None:
    asked = read({"open": [{"ref_id": URL, "lineno": 99}]})
    assert sent(asked) == [{"url": URL}]
    assert asked.output([PAGE]) == f"## Page {URL}\n\n(Lines 99 to 100 of 100.)\nline 99\nline 100"
    assert (
        read({"open": [{"ref_id": URL, "lineno": 500}]}).output([PAGE]).endswith("(The page has 100 lines.)")
    )


def test_a_long_page_says_where_it_goes_on() -> None:
    page = json.dumps({"content": "\n".join(["y" * 5_000] * 10)}).encode()
    text = read({"open": [{"ref_id": URL}]}, {"search_context_size": "low"}).output([page])
    assert "(Lines 1 to 2 of 10. Open it with lineno 3 to go on.)" in text
    assert text.count("y") == 10_000


def test_a_page_of_one_endless_line_is_cut() -> None:
    page = json.dumps({"content": "y" * 100_000}).encode()
    assert read({"open": [{"ref_id": URL}]}).output([page]).count("y") == 30_000


def test_find_shows_the_lines_around() -> None:
    asked = read({"find": [{"ref_id": URL, "pattern": "LINE 50"}]})
    shown = "\n".join(f"L{n}: line {n}" for n in range(48, 53))
    assert asked.output([PAGE]) == f"## “LINE 50” in {URL}\n\n{shown}"


def test_find_shows_only_so_many() -> None:
    text = read({"find": [{"ref_id": URL, "pattern": "line"}]}).output([PAGE])
    assert text.endswith("(And 80 more.)")
    assert (
        read({"find": [{"ref_id": URL, "pattern": "sky"}]}).output([PAGE]).endswith("Not found on the page.")
    )


@pytest.mark.parametrize(
    ("commands", "settings", "refusal"),
    [
        ({"search_query": [{"q": "x" * 129}]}, None, "A query has at most 128 characters."),
        (
            {"search_query": [{"q": "sky", "domains": ["b.example"]}]},
            {"filters": {"allowed_domains": ["a.example"]}},
            "Nothing can be searched on b.example.",
        ),
        ({"open": [{"ref_id": "turn0search0"}]}, None, "Give the whole address of the page"),
        ({"find": [{"ref_id": "file:///etc/passwd", "pattern": "x"}]}, None, "Give the whole address"),
        ({"open": [{"ref_id": URL}]}, {"external_web_access": False}, "Pages cannot be opened here"),
        ({"open": [{"ref_id": URL}]}, {"indexed_web_access": True}, "Pages cannot be opened here"),
        (
            {"open": [{"ref_id": URL}]},
            {"filters": {"allowed_domains": ["b.example"]}},
            "Only pages of these sites can be opened: b.example.",
        ),
        ({"weather": [{"location": "Berlin"}]}, None, "This is not available here: search for it."),
        ({"search_query": [{"q": ""}]}, None, "Nothing was asked for"),
        ({}, None, "Nothing was asked for"),
    ],
)
def test_what_cannot_be_done_is_told(
    commands: dict[str, Any], settings: dict[str, Any] | None, refusal: str
) -> None:
    asked = read(commands, settings)
    assert asked.actions == []
    assert refusal in asked.output([])


def test_not_too_much_at_once() -> None:
    asked = read({"search_query": [{"q": "a"}, {"q": "b"}, {"q": "c"}]}, max_actions=2)
    assert len(asked.actions) == 2
    assert asked.output([found(URL), found(URL)]).endswith("## Search: c\n\nToo much at once.")


def test_failures_are_told() -> None:
    asked = read({"search_query": [{"q": "sky"}], "open": [{"ref_id": URL}], "find": []})
    text = asked.output([UpstreamTimeout("Late."), NotFound("it cannot be reached")])
    assert "The search failed: it took too long." in text
    assert "The page could not be opened: it cannot be reached." in text
    assert "could not be read" in asked.output([b"<html>", b'{"content": 5}'])


def test_the_answer_is_as_short_as_asked_for() -> None:
    text = read({"open": [{"ref_id": URL}]}, max_output_tokens=20).output([PAGE])
    assert text.endswith("(Cut here: ask for less at once.)")
    assert len(text) < 80 + 40


@pytest.mark.parametrize(
    ("commands", "param"),
    [
        ([], "commands"),
        ({"search_query": {"q": "sky"}}, "commands.search_query"),
        ({"search_query": ["sky"]}, "commands.search_query[0]"),
        ({"search_query": [{"q": 5}]}, "commands.search_query[0].q"),
        ({"search_query": [{"q": "sky", "recency": 0}]}, "commands.search_query[0].recency"),
        ({"open": [{}]}, "commands.open[0].ref_id"),
        ({"find": [{"ref_id": URL}]}, "commands.find[0].pattern"),
    ],
)
def test_what_is_wrong_is_named(commands: Any, param: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        read(commands)
    assert refused.value.param == param
