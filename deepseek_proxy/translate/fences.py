"""The code fence around an answer that is to be JSON, taken away while the answer streams.

Models that are asked for JSON like to show it as Markdown does. A client parses the text as it is.

1. A fence is one that stands before all other text, with what ends it. Text that begins otherwise is passed
   on untouched, without being read.
2. Only what may still become a fence is kept back, and that is a few characters.
3. Behind the end of the fence, nothing of the answer is JSON: it is dropped.
4. Any split of the same text gives the same.

Inside of JSON, no line begins with a fence: strings have their line ends escaped. Refuses to know schemas,
and whether the text is JSON.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, Protocol

from deepseek_proxy.translate import hub, jsontext

# Bounded, so that what may become a fence is too: a model may stall in white space.
_OPENING: Final = re.compile(r"\s{0,100}```[a-zA-Z0-9_-]{0,20}[ \t]{0,20}\r?\n")
_PERHAPS_OPENING: Final = re.compile(r"\s{0,100}(?:`{1,2}|```[a-zA-Z0-9_-]{0,20}[ \t]{0,20}\r?)?")
_CLOSING: Final = re.compile(r"\s{0,100}\n[ \t]{0,100}```")
_PERHAPS_CLOSING: Final = re.compile(r"\s*`{0,3}\s*\Z")
_END: Final = re.compile(r"\s*```\s*\Z")  # at the end of the answer, a fence needs no line of its own
_MAX_HELD_CHARACTERS: Final = 256


class Filter(Protocol):
    """What stands between the upstream's chunks and a stream machine (`markup.Healer`)."""

    def feed(self, delta: hub.Delta) -> Sequence[hub.Delta]: ...
    def finish(self) -> Sequence[hub.Delta]: ...


class Unfenced:
    """Passes on what `inner` does, but for the fence."""

    __slots__ = ("_blank", "_closed", "_held", "_inner", "_logprobs", "_opened", "_plain")

    def __init__(self, inner: Filter) -> None:
        self._inner = inner
        self._plain = False  # nothing is looked for any more
        self._opened = False
        self._blank = True  # whether nothing has been said since
        self._closed = False
        self._held = ""
        self._logprobs: list[Mapping[str, Any]] = []  # of what is kept back

    def feed(self, delta: hub.Delta) -> Sequence[hub.Delta]:
        deltas = self._inner.feed(delta)
        return deltas if self._plain else [out for one in deltas for out in self._of(one)]

    def finish(self) -> Sequence[hub.Delta]:
        """What was kept back for an ending that never came."""
        deltas = [out for one in self._inner.finish() for out in self._of(one)]
        return [*deltas, *self._settled()]

    def _of(self, delta: hub.Delta) -> Sequence[hub.Delta]:
        if self._plain:
            return (delta,)
        if isinstance(delta, hub.Literal):
            is_text = delta.stage is hub.Stage.CONTENT
            return self._said(jsontext.literal_text((delta.json,)), ()) if is_text else (delta,)
        ends = bool(delta.refusal or delta.tool_calls or delta.finish_reason)
        if not delta.content and not ends:
            return (delta,)
        said = self._said(delta.content, delta.logprobs)
        if ends:
            said += self._settled()
        before = hub.Chunk(
            reasoning=delta.reasoning,
            announces_thinking=delta.announces_thinking,
            fingerprint=delta.fingerprint,
        )
        after = replace(delta, reasoning="", announces_thinking=False, content="", logprobs=())
        return [before, *said, after]

    def _said(self, text: str, logprobs: Sequence[Mapping[str, Any]]) -> list[hub.Delta]:
        self._logprobs += logprobs
        return self._chunks(self._read(self._held + text))

    def _settled(self) -> list[hub.Delta]:
        """The text has ended: all that was kept back, unless it is the fence."""
        held, self._held = self._held, ""
        return self._chunks(_END.sub("", held) if self._opened else held)

    def _chunks(self, text: str) -> list[hub.Delta]:
        if not text:
            return []
        logprobs, self._logprobs = tuple(self._logprobs), []
        return [hub.Chunk(content=text, logprobs=logprobs)]

    def _read(self, text: str) -> str:
        """What can be shown of `text`, which begins with what was kept back."""
        self._held = ""
        if not self._opened:
            if _PERHAPS_OPENING.fullmatch(text):
                self._held = text
                return ""
            opening = _OPENING.match(text)
            if opening is None:
                self._plain = True
                return text
            self._opened = True
            text = text[opening.end() :]
        if self._closed or (self._blank and not (text := text.lstrip())):
            self._logprobs.clear()
            return ""
        self._blank = False
        if closing := _CLOSING.search(text):
            self._closed = True
            return text[: closing.start()]
        held = _PERHAPS_CLOSING.search(text, max(0, len(text) - _MAX_HELD_CHARACTERS))
        end = held.start() if held else len(text)
        self._held = text[end:]
        return text[:end]
