from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepseek_proxy.translate.chat.citations import Citer, restored
from deepseek_proxy.translate.sources import Source, Sources

SKY, SEA = Source(1, "https://a.example/sky", "Sky"), Source(22, "https://b.example/sea", "Sea")


def sources(*more: Source) -> Sources:
    made = Sources()
    made.add([SKY, SEA, *more])
    return made


def linked(pieces: Sequence[str]) -> tuple[str, list[Any]]:
    citer = Citer(sources())
    return "".join(map(citer.feed, pieces)) + citer.finish(), citer.annotations


UNITS = ["[1]", "[", "1", "]", "`", "```", "\n", "a", ",", " ", "22", "citation:", "Ü"]
SKY_LINK, SEA_LINK = "[[1]](https://a.example/sky)", "[[22]](https://b.example/sea)"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("", ""),
        ("Blue.", "Blue."),
        ("Blue [1].", f"Blue {SKY_LINK}."),
        ("[citation:1]", SKY_LINK),
        ("[citation: 22]", SEA_LINK),
        ("[1][22]", SKY_LINK + SEA_LINK),
        ("[1, 22]", f"{SKY_LINK}, {SEA_LINK}"),
        ("[1, 7]", f"{SKY_LINK}, [7]"),
        ("[7] and [123456]", "[7] and [123456]"),
        ("a[1", "a[1"),
        ("[[1]]", f"[{SKY_LINK}]"),
        ("[link](https://c.example) [c", "[link](https://c.example) [c"),
        ("`a[1]` but [1]", f"`a[1]` but {SKY_LINK}"),
        ("a ` b [1]\n`", f"a ` b {SKY_LINK}\n`"),
        ("``a[1]``", "``a[1]``"),
        ("```\na[1]\n``` [1]", f"```\na[1]\n``` {SKY_LINK}"),
        ("```py\na[1]", "```py\na[1]"),
        ("```a``", "```a``"),
    ],
)
def test_markers_become_links_but_not_in_code(text: str, shown: str) -> None:
    assert linked([text])[0] == shown
    assert linked(list(text))[0] == shown


def test_annotations_say_where_the_links_stand() -> None:
    text, annotations = linked(["Ü [1]", ", [22", ", 1]"])
    cited = [annotation["url_citation"] for annotation in annotations]
    assert [text[c["start_index"] : c["end_index"]] for c in cited] == [SKY_LINK, SEA_LINK, SKY_LINK]
    assert [(c["url"], c["title"]) for c in cited] == [(s.url, s.title) for s in (SKY, SEA, SKY)]
    assert {annotation["type"] for annotation in annotations} == {"url_citation"}


@given(
    st.lists(st.sampled_from(UNITS)),
    st.lists(st.integers(0, 60), max_size=8),
)
def test_any_split_gives_the_same(units: list[str], cuts: list[int]) -> None:
    text = "".join(units)
    edges = sorted({0, len(text), *(cut % (len(text) + 1) for cut in cuts)})
    pieces = [text[a:b] for a, b in pairwise(edges)]
    assert linked(pieces) == linked([text])


def test_what_may_become_a_marker_waits_and_nothing_else() -> None:
    citer = Citer(sources())
    assert citer.feed("See [") == "See "
    assert citer.feed("the") == "[the"
    assert citer.feed(" list [1") == " list "
    assert citer.feed("]") == SKY_LINK
    assert citer.feed("```") == "```"
    assert citer.feed("x[1]`") == "x[1]"
    assert citer.finish() == "`"


def test_what_goes_by_is_counted() -> None:
    citer = Citer(sources())
    citer.skip("\n\n")
    citer.feed("[1]")
    assert citer.annotations[0]["url_citation"]["start_index"] == 2


def test_an_address_cannot_end_the_link() -> None:
    citer = Citer(sources(Source(3, "https://c.example/a_(b) c", "C")))
    assert citer.feed("[3]") == "[[3]](https://c.example/a_%28b%29%20c)"


def test_an_earlier_answer_is_restored_and_keeps_its_numbers() -> None:
    found = Sources()
    assert restored(f"Blue {SKY_LINK}, {SEA_LINK}. [[x]](y)", found) == "Blue [1], [22]. [[x]](y)"
    assert found.get(22) == Source(22, SEA.url, SEA.url)
    assert found.number("https://new.example", "New").number == 23


def test_a_known_title_is_kept() -> None:
    found = sources()
    restored(SKY_LINK, found)
    assert found.get(1) == SKY
