"""The model's markers of what it cites, as links in the text of a chat completion, and back again.

The text of a chat is shown as Markdown, so `[3]` becomes `[[3]](address)`, and an annotation says where that
stands. Any split of the text gives the same. Refuses to know how pages are found and numbered
(`translate.sources` does).
"""

from __future__ import annotations

import re
from typing import Any, Final
from urllib.parse import quote

from deepseek_proxy.translate.sources import MARKER, Source, Sources

_FENCE: Final = "```"
_SPECIAL: Final = re.compile(r"[`\[]")
_CODE: Final = re.compile(r"`[^`\n]+`")
# What may still become code, or a marker, when more text comes.
_OPEN_CODE: Final = re.compile(r"`[^`\n]{0,500}")
_OPEN_MARKER: Final = re.compile(r"\[(?:c[itaon]{0,7}:?)?[\d,\s]{0,170}")
_LINK: Final = re.compile(r"\[\[(\d{1,5})\]\]\((https?://[^\s()<>]{1,8192})\)")
_URL_CHARACTERS: Final = "%/:?#[]@!$&'*+,;=~"  # those that quote() is to leave; no parentheses, no spaces


class Citer:
    """Text in, text with links out. Code is left as it is: there, [1] is an index."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources
        self._pending = ""
        self._in_fence = False
        self._length = 0  # of what has been given
        self.annotations: list[dict[str, Any]] = []
        """The `url_citation` annotations so far; the indices count characters, the end is exclusive."""

    def feed(self, text: str) -> str:
        """What can be shown now: all but the shortest ending that may still become a marker, or code."""
        self._pending += text
        return self._read(final=False)

    def finish(self) -> str:
        """What was kept back."""
        return self._read(final=True)

    def skip(self, text: str) -> None:
        """Counts what stands in the text without having come through here."""
        self._length += len(text)

    def _read(self, *, final: bool) -> str:
        text, at, shown = self._pending, 0, list[str]()
        while at < len(text):
            piece = self._unit(text, at, final)
            if piece is None:
                break
            raw, given = piece
            shown.append(given)
            self._length += len(given)
            at += len(raw)
        self._pending = text[at:]
        return "".join(shown)

    def _unit(self, text: str, at: int, final: bool) -> tuple[str, str] | None:
        """The next piece of the text, and what to show for it. None: more text has to come first."""
        if self._in_fence:
            return self._fenced(text, at, final)
        if text[at] == "[":
            return self._bracket(text, at, final)
        if text[at] == "`":
            return self._backtick(text, at, final)
        special = _SPECIAL.search(text, at)
        plain = text[at : special.start() if special else len(text)]
        return plain, plain

    def _fenced(self, text: str, at: int, final: bool) -> tuple[str, str] | None:
        end = text.find(_FENCE, at)
        if end >= 0:
            self._in_fence = False
            code = text[at : end + len(_FENCE)]
        else:
            code = text[at:]
            if not final:  # the fence may have begun
                code = code[: len(code) - min(2, len(code) - len(code.rstrip("`")))]
        return (code, code) if code else None

    def _backtick(self, text: str, at: int, final: bool) -> tuple[str, str] | None:
        if text.startswith(_FENCE, at):
            self._in_fence = True
            return _FENCE, _FENCE
        if code := _CODE.match(text, at):
            return code.group(), code.group()
        if not final and (text[at:] == "``" or _OPEN_CODE.fullmatch(text, at)):
            return None
        return "`", "`"

    def _bracket(self, text: str, at: int, final: bool) -> tuple[str, str] | None:
        if marker := MARKER.match(text, at):
            return marker.group(), self._links(marker)
        if not final and _OPEN_MARKER.fullmatch(text, at):
            return None
        return "[", "["

    def _links(self, marker: re.Match[str]) -> str:
        numbers = [int(number) for number in marker["numbers"].split(",")]
        found = [self._sources.get(number) for number in numbers]
        if not any(found):
            return marker.group()
        text = ""
        for number, source in zip(numbers, found, strict=True):
            text += ", " if text else ""
            link = f"[{number}]" if source is None else f"[[{number}]]({_address(source)})"
            if source is not None:
                self._annotate(source, self._length + len(text), len(link))
            text += link
        return text

    def _annotate(self, source: Source, start: int, length: int) -> None:
        cited = {
            "start_index": start,
            "end_index": start + length,
            "title": source.title,
            "url": source.url,
        }
        self.annotations.append({"type": "url_citation", "url_citation": cited})


def restored(text: str, sources: Sources) -> str:
    """The text of an earlier answer as the model wrote it.

    Its links are entered into `sources`, so that their numbers stay theirs.
    """

    def marker(link: re.Match[str]) -> str:
        number, url = int(link[1]), link[2]
        if sources.get(number) is None:
            sources.add((Source(number, url, url),))
        return f"[{number}]"

    return _LINK.sub(marker, text)


def _address(source: Source) -> str:
    """The page's address in a form that ends a Markdown link nowhere but at its end."""
    return quote(source.url, safe=_URL_CHARACTERS)
