"""The pages that searches found: their numbers, how the model reads them, and where an answer cites them.

Refuses to know how pages are found, and the shape in which a dialect shows a citation.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

MARKER: Final = re.compile(r"\[(?:citation:\s?)?(?P<numbers>\d{1,5}(?:\s?,\s?\d{1,5}){0,20})\]")
"""As the model was told to write it, also for several pages, or with the word that DeepSeek's models were
trained on."""
# Code is not searched: there, [1] is an index.
_MARKER_OR_CODE: Final = re.compile(rf"```.*?(?:```|\Z)|`[^`\n]+`|{MARKER.pattern}", re.DOTALL)


class Source(NamedTuple):
    """A page with its number."""

    number: int
    url: str
    title: str


class Citation(NamedTuple):
    """A marker at `start` to `end` of a text, in characters, and what it points to."""

    start: int
    end: int
    source: Source


@dataclass(frozen=True, slots=True)
class Found:
    """One result of a search, as far as a model needs it."""

    url: str
    title: str
    date: str
    summary: str
    content: str

    @classmethod
    def of(cls, result: Mapping[str, Any]) -> Found:
        """From DeepSeek's JSON. What is missing is empty; a text stays on one line, except the content."""

        def text(key: str) -> str:
            return " ".join(str(result.get(key) or "").split())

        return cls(
            url=str(result["url"]).strip(),
            title=text("title"),
            date=text("date")[: len("2026-11-01")],
            summary=text("summary") or text("snippet"),
            content=str(result.get("content") or "").strip(),
        )


class Sources:
    """All pages of a conversation, each with one number, counted from 1."""

    def __init__(self) -> None:
        self._by_number: dict[int, Source] = {}
        self._by_url: dict[str, Source] = {}

    def add(self, sources: Iterable[Source]) -> None:
        """Enters pages under the numbers that they have, those of an earlier answer."""
        for source in sources:
            self._by_number[source.number] = source
            self._by_url.setdefault(source.url, source)

    def has(self, url: str) -> bool:
        return url in self._by_url

    def get(self, number: int) -> Source | None:
        return self._by_number.get(number)

    def number(self, url: str, title: str) -> Source:
        """The page's entry; a page that is new gets the next number."""
        known = self._by_url.get(url)
        if known is None:
            known = Source(max(self._by_number, default=0) + 1, url, title or url)
            self.add((known,))
        return known

    def cited(self, text: str) -> Iterator[Citation]:
        """The markers in `text` that point to a known page, in their order."""
        if not self._by_number:
            return
        for marker in _MARKER_OR_CODE.finditer(text):
            for number in (marker["numbers"] or "").split(","):
                source = self._by_number.get(int(number)) if number else None
                if source is not None:
                    yield Citation(marker.start(), marker.end(), source)


def results_text(numbered: Sequence[tuple[Source, Found]], content_characters: int) -> str:
    """Search results as the model reads them."""
    return "\n\n".join(_result_text(source, page, content_characters) for source, page in numbered)


def _result_text(source: Source, page: Found, content_characters: int) -> str:
    address = f"{page.url} ({page.date})" if page.date else page.url
    lines = (f"[{source.number}] {source.title}", address, page.summary, page.content[:content_characters])
    return "\n".join(filter(None, lines))
