from __future__ import annotations

import pytest

from deepseek_proxy.translate.sources import Found, Source, Sources, results_text

RESULT = {
    "title": "Why the sky\nis  blue",
    "url": "https://example.com/sky",
    "snippet": "For people.",
    "summary": "Light is\nscattered.",
    "content": "# Sky\n\nLong text.",
    "date": "2026-11-01T08:00:00Z",
    "rerank_score": 2.5,
}


def sources(*titles: str) -> Sources:
    made = Sources()
    for title in titles:
        made.number(f"https://example.com/{title}", title)
    return made


def cited(text: str, known: Sources) -> list[tuple[str, str]]:
    """Each marker, cut out of the text by its place, and the page it points to."""
    return [(text[found.start : found.end], found.source.title) for found in known.cited(text)]


# -- numbers --------------------------------------------------------------------------------------


def test_a_page_has_one_number_whoever_finds_it() -> None:
    known = Sources()
    assert known.number("https://a.example", "A") == Source(1, "https://a.example", "A")
    assert known.number("https://b.example", "B").number == 2
    assert known.number("https://a.example", "Other title") == Source(1, "https://a.example", "A")


def test_numbers_go_on_from_those_of_earlier_answers() -> None:
    known = Sources()
    known.add([Source(7, "https://a.example", "A"), Source(3, "https://b.example", "B")])
    assert known.number("https://b.example", "B").number == 3
    assert known.number("https://c.example", "C").number == 8
    assert known.has("https://a.example")
    assert not known.has("https://d.example")


def test_a_page_without_a_title_is_called_by_its_address() -> None:
    assert Sources().number("https://a.example", "").title == "https://a.example"


# -- citations ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Blue [1].", [("[1]", "a")]),
        ("[2][1]", [("[2]", "b"), ("[1]", "a")]),
        ("Both [1, 2].", [("[1, 2]", "a"), ("[1, 2]", "b")]),
        ("Both [1,2] [1,9].", [("[1,2]", "a"), ("[1,2]", "b"), ("[1,9]", "a")]),
        ("As trained [citation:2].", [("[citation:2]", "b")]),
        ("青い [2]。🙂[1]", [("[2]", "b"), ("[1]", "a")]),
        ("A link [1](https://example.com)", [("[1]", "a")]),
        ("Nothing: [3] [0] [x] [ ] [1.5] [a1] [] [1-2]", []),
        ("Code `a[1]` and\n```\nb[2]\n```\nthen [2].", [("[2]", "b")]),
        ("An open fence\n```\nb[2] [1]", []),
        ("A lone ` and [1]", [("[1]", "a")]),
    ],
)
def test_markers_that_point_to_pages(text: str, expected: list[tuple[str, str]]) -> None:
    assert cited(text, sources("a", "b")) == expected


def test_without_pages_nothing_is_cited() -> None:
    assert cited("See [1].", Sources()) == []


@pytest.mark.parametrize("unit", ["[1", "[1,1", "[citation:", "`x\n", "``x", "[[["])
def test_a_long_text_is_read_in_linear_time(unit: str) -> None:
    assert cited(unit * 200_000 + "\n [1]", sources("a")) == [("[1]", "a")]


# -- what the model reads -------------------------------------------------------------------------


def test_a_result_is_read_from_deepseeks_json() -> None:
    assert Found.of(RESULT) == Found(
        url="https://example.com/sky",
        title="Why the sky is blue",
        date="2026-11-01",
        summary="Light is scattered.",
        content="# Sky\n\nLong text.",
    )


def test_what_a_result_lacks_is_empty() -> None:
    url = "https://a.example"
    assert Found.of({"url": url, "title": None}) == Found(url, "", "", "", "")
    assert Found.of({**RESULT, "summary": ""}).summary == "For people."


def test_results_in_words() -> None:
    known = Sources()
    pages = [Found.of(RESULT), Found("https://b.example", "B", "", "About b.", "")]
    numbered = [(known.number(page.url, page.title), page) for page in pages]
    assert results_text(numbered, 0) == (
        "[1] Why the sky is blue\nhttps://example.com/sky (2026-11-01)\nLight is scattered.\n\n"
        "[2] B\nhttps://b.example\nAbout b."
    )
    assert results_text(numbered[:1], 5).endswith("Light is scattered.\n# Sky")
