"""Tool markup that leaked into an answer's text, turned back into tool calls or taken out.

DeepSeek's models write calls as markup (`dsml`) that the server parses away; hosts that parse badly let
it through, cut anywhere (reference section 14).

1. Text is passed on at once, except the shortest ending that may still become a tag.
2. What breaks the form of the markup is text after all, from the last complete call on: a call is never
   made of incomplete markup, and no text is lost.
3. Markup that calls a tool which is not declared is text: somebody explains the markup.
4. `</think>` is taken out where only white space stands before it; elsewhere it is text.
5. Any split of the same text gives the same text and the same calls.

Refuses to know dialects and what tools do. Thinking is never touched.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any, Final, Literal

from deepseek_proxy.translate import dsml, hub, jsontext

Mode = Literal["recover", "remove", "pass"]

_MAX_HELD_CHARS: Final = 256  # white space at the start: more of it is a stalled model, not a separator

_NOTHING: Final = hub.Chunk()


class Healer:
    """Stands between `hub.ChunkParser` and a stream machine; what it returns takes the delta's place.

    `declared` holds the names of the tools that were sent upstream. A call is kept back until it is
    complete, up to `max_markup_bytes`, and comes out as one chunk with an id from `new_call_id`.
    `healed` counts the calls recovered, or removed, and the stray tags taken out.
    """

    __slots__ = (
        "_blank",
        "_carry",
        "_declared",
        "_held",
        "_logprobs",
        "_markup",
        "_max",
        "_mode",
        "_new_call_id",
        "_out",
        "_plain",
        "_positions",
        "_recovered",
        "_separated",
        "healed",
    )

    def __init__(
        self,
        mode: Mode,
        declared: Container[str],
        max_markup_bytes: int,
        new_call_id: Callable[[], str],
    ) -> None:
        self._mode = mode
        self._declared = declared
        self._max = max_markup_bytes
        self._new_call_id = new_call_id
        self.healed = 0
        self._plain = mode == "pass"  # nothing is kept back and nothing is expected
        self._carry = ""  # the beginning of a tag
        self._markup: dsml.Markup | None = None
        self._blank = True  # only white space since the start, or since something was taken out
        self._held = ""  # that white space
        self._separated = False  # whether it only separated the text from what was taken out
        self._recovered = 0
        self._positions: dict[int, int] = {}  # upstream's position of a call -> ours
        self._out: list[str | hub.ToolCallDelta] = []
        self._logprobs: list[Mapping[str, Any]] = []

    def feed(self, delta: hub.Delta) -> Sequence[hub.Delta]:
        """What to pass on now in place of `delta`: often itself, sometimes nothing yet."""
        if self._plain and isinstance(delta, hub.Literal):
            return (delta,)
        if self._mode == "pass":
            return (delta,)
        if isinstance(delta, hub.Literal):
            return self._feed_literal(delta)
        return self._feed_chunk(delta)

    def finish(self) -> Sequence[hub.Delta]:
        """What was kept back for an ending that never came. A finish reason has let it out already."""
        self._settle()
        return self._take()

    def _feed_literal(self, literal: hub.Literal) -> Sequence[hub.Delta]:
        if literal.stage is not hub.Stage.CONTENT:
            return (literal,)
        text = jsontext.literal_text((literal.json,))
        self._read(text)
        healed = self._take()
        return (literal,) if _says_just(healed, text) else healed

    def _feed_chunk(self, chunk: hub.Chunk) -> Sequence[hub.Delta]:
        if chunk.content:
            self._logprobs.extend(chunk.logprobs)
            self._read(chunk.content)
        if chunk.refusal or chunk.tool_calls or chunk.finish_reason:
            self._settle()
        calls = self._renumbered(chunk.tool_calls)
        reason = chunk.finish_reason
        if reason == "stop" and self._recovered:
            reason = "tool_calls"
        healed = self._take()
        if _says_just(healed, chunk.content):
            if calls == chunk.tool_calls and reason == chunk.finish_reason:
                return (chunk,)
            return (replace(chunk, tool_calls=calls, finish_reason=reason),)
        before = hub.Chunk(
            reasoning=chunk.reasoning,
            announces_thinking=chunk.announces_thinking,
            fingerprint=chunk.fingerprint,
        )
        after = hub.Chunk(
            refusal=chunk.refusal,
            tool_calls=calls,
            finish_reason=reason,
            usage=chunk.usage,
            fingerprint=chunk.fingerprint,
        )
        parts = (before, *healed, after)
        return tuple(part for part in parts if part != _NOTHING)

    def _renumbered(self, calls: tuple[hub.ToolCallDelta, ...]) -> tuple[hub.ToolCallDelta, ...]:
        """Upstream's calls, those that began after a recovered one at a later position."""
        for call in calls:
            self._positions.setdefault(call.position, call.position + self._recovered)
        if not self._recovered:
            return calls
        return tuple(call._replace(position=self._positions[call.position]) for call in calls)

    # -- reading text

    def _read(self, text: str) -> None:
        text, self._carry = self._carry + text, ""
        position = 0
        while (start := text.find("<", position)) >= 0:
            if start > position:
                self._read_plain(text[position:start])
            if tag := dsml.TAG.match(text, start):
                self._read_tag(tag)
                position = tag.end()
            elif dsml.BEGINNING.fullmatch(text, start):
                self._carry = text[start:]
                break
            else:
                self._read_plain("<")
                position = start + 1
        else:
            if position < len(text):
                self._read_plain(text[position:])
        self._plain = not (self._carry or self._markup or self._blank)

    def _read_plain(self, text: str) -> None:
        if self._markup is None:
            self._say(text)
        elif not self._markup.text(text):
            self._give_up(self._markup)
            self._say(text)
        elif self._markup.size > self._max:
            self._give_up(self._markup)

    def _read_tag(self, tag: re.Match[str]) -> None:
        markup = self._markup
        if markup is None:
            if tag["block"] is not None or (tag["tool"] is not None and tag["tool"] in self._declared):
                self._markup = dsml.Markup(tag)
            elif tag["think"] is not None and self._blank:
                self._took_out()
            else:
                self._say(tag.group())
            return
        step = markup.tag(tag, self._declared)
        if step is dsml.Step.CALL:
            self._heal(markup)
            if not markup.in_block:
                self._markup = None
        elif step is dsml.Step.BROKEN:
            self._give_up(markup)
            self._read_tag(tag)
        elif step is dsml.Step.END and markup.calls:
            self._markup = None
        elif step is dsml.Step.END or markup.size > self._max:
            self._give_up(markup)

    def _heal(self, markup: dsml.Markup) -> None:
        self._took_out()
        if self._mode == "recover":
            position = max(self._positions.values(), default=-1) + 1
            self._recovered += 1
            self._positions[-self._recovered] = position  # under a number that upstream does not use
            self._out.append(hub.ToolCallDelta(position, self._new_call_id(), markup.tool, markup.arguments))

    def _took_out(self) -> None:
        self.healed += 1
        self._held = ""
        self._blank = self._separated = True
        self._logprobs.clear()

    def _give_up(self, markup: dsml.Markup) -> None:
        """What looked like markup is text."""
        self._markup = None
        self._say("".join(markup.raw))

    def _settle(self) -> None:
        """Nothing more comes: lets out all that is kept back."""
        carry, self._carry = self._carry, ""
        markup = self._markup
        if markup is not None and markup.is_spent:
            self._markup = None  # with what came of its closing tag
        elif carry:
            self._read_plain(carry)
        if self._markup is not None:
            self._give_up(self._markup)
        if self._held and not self._separated:
            self._out.append(self._held)
        self._held = ""
        self._plain = not self._blank

    # -- writing

    def _say(self, text: str) -> None:
        if self._blank:
            text = self._held + text
            if text.isspace() and len(text) <= _MAX_HELD_CHARS:
                self._held = text
                return
            self._held = ""
            self._blank = False
            if self._separated:
                text = text.lstrip()
        if text:
            self._out.append(text)

    def _take(self) -> list[hub.Chunk]:
        chunks: list[hub.Chunk] = []
        for is_text, pieces in groupby(self._out, key=lambda piece: isinstance(piece, str)):
            if is_text:
                text = "".join(piece for piece in pieces if isinstance(piece, str))
                chunks.append(hub.Chunk(content=text, logprobs=tuple(self._logprobs)))
                self._logprobs.clear()
            else:
                chunks += (hub.Chunk(tool_calls=(call,)) for call in pieces if not isinstance(call, str))
        self._out.clear()
        return chunks


def _says_just(healed: Sequence[hub.Chunk], text: str) -> bool:
    return (
        not any(chunk.tool_calls for chunk in healed) and "".join(chunk.content for chunk in healed) == text
    )
