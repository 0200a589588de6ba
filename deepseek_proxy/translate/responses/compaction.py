"""Compaction: a long conversation becomes a summary that the client keeps sealed, and later sends back.

Codex has two forms: a `compaction_trigger` at the end of a streamed request, answered with exactly one
`compaction` item (0.142 and later), and `POST /v1/responses/compact`, answered with JSON (0.104 to
0.130, and the SDKs). With `context_management`, the gateway compacts by itself above a number of tokens: the
item comes first in the output, and the answer goes on from the summary. In each case it is one turn of the
model with `PROMPT` as its last message. The sealed text holds the summary and every user message, so that it
needs no other state. User messages that stay beside the item are not repeated when it is expanded.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from deepseek_proxy.errors import ContentRejected, UpstreamError
from deepseek_proxy.translate import ids, jsontext
from deepseek_proxy.translate.history import Entry, SystemText, TextPart, UserMessage
from deepseek_proxy.translate.hub import Delta, Literal, Stage
from deepseek_proxy.translate.lookup import Outcome
from deepseek_proxy.translate.responses import codex
from deepseek_proxy.translate.responses.options import StreamOptions
from deepseek_proxy.translate.responses.output import CompactionItem, ItemStatus
from deepseek_proxy.translate.responses.response import Envelope
from deepseek_proxy.translate.responses.stream import FILTERED, ResponseStream
from deepseek_proxy.translate.sealed import Purpose

PROMPT: Final = """\
This conversation is about to be replaced by a summary, because it has become too long. Write that summary now, \
for the assistant who will go on with the work and will see nothing else of it but the user's messages. Call no \
tools. Say:
- what the user wants, with every requirement, preference and limit that still holds;
- what has been done, and how it turned out: files read, made and changed (with their paths), commands that matter \
and their results, decisions and the reasons for them;
- what is true of the project that was hard to find out;
- what was being done at this moment, what is left to do, in order, and what is known to be broken or open.
Be exact with names, paths, numbers and error messages. Leave out what no longer matters."""

_LEAD: Final = "The conversation up to here was replaced by this summary:\n\n"
_MISSING_LEAD: Final = "Written by the user earlier in this conversation:\n\n"


@dataclass(frozen=True, slots=True)
class Compaction:
    """What a compaction item holds. `user_texts` are the user's messages, oldest first."""

    summary: str
    user_texts: Sequence[str]

    def pack(self) -> str:
        return jsontext.dumps({"summary": self.summary, "user": list(self.user_texts)}).decode()

    def expand(self, present: Collection[str]) -> list[Entry]:
        """The entries that stand for the conversation; user messages in `present` are there already."""
        missing = [text for text in self.user_texts if text not in present]
        entries: list[Entry] = [UserMessage((TextPart(_MISSING_LEAD + text),)) for text in missing]
        return [*entries, UserMessage((TextPart(_LEAD + self.summary),))]


def unpack(text: str) -> Compaction | None:
    """The reverse of `Compaction.pack`; None for what another version packed in another way."""
    try:
        value = orjson.loads(text)
        return Compaction(str(value["summary"]), tuple(map(str, value["user"])))
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return None


def kept_entries(entries: Iterable[Entry]) -> list[Entry]:
    """What stays beside the summary of a conversation: the messages of the user and of the system."""
    return [
        entry
        for entry in entries
        if isinstance(entry, SystemText) or (isinstance(entry, UserMessage) and not _is_expanded(entry))
    ]


def _is_expanded(message: UserMessage) -> bool:
    """Whether a message comes from an earlier compaction."""
    first = message.parts[0] if message.parts else None
    return isinstance(first, TextPart) and first.text.startswith((_LEAD, _MISSING_LEAD))


def user_texts(entries: Iterable[Entry]) -> tuple[str, ...]:
    """What the user wrote in a conversation, message by message; also before an earlier compaction."""
    texts = []
    for entry in entries:
        if isinstance(entry, UserMessage):
            parts = [part.text for part in entry.parts if isinstance(part, TextPart)]
            text = "\n\n".join(parts).removeprefix(_MISSING_LEAD)
            if text and not text.startswith(_LEAD) and not _is_context(parts):
                texts.append(text)
    return tuple(texts)


def _is_context(parts: Sequence[str]) -> bool:
    return bool(parts) and all(map(codex.is_context_block, parts))


def kept_messages(value: object, new_id: ids.NewId) -> list[dict[str, Any]]:
    """The user's messages of an `input`, as items for the output of `/responses/compact`."""
    items = [{"role": "user", "content": value}] if isinstance(value, str) else value
    kept = []
    for item in items if isinstance(items, list) else ():
        if isinstance(item, dict) and item.get("role") == "user":
            content = item.get("content")
            if not isinstance(content, list):
                content = [{"type": "input_text", "text": content}] if isinstance(content, str) else []
            if _is_context(_all_texts(content)):
                continue
            fixed = {"type": "message", "status": "completed", "role": "user", "content": content}
            kept.append({"id": item.get("id") or new_id(ids.MESSAGE), **fixed})
    return kept


def _all_texts(content: object) -> list[str]:
    """The texts of a message's content parts; empty where one is no text."""
    parts = content if isinstance(content, list) else ()
    texts = [part.get("text") for part in parts if isinstance(part, dict)]
    return [text for text in texts if isinstance(text, str)] if len(texts) == len(parts) else []


class CompactionStream(ResponseStream):
    """The stream machine of a compaction: the model's text becomes one sealed item, its thinking none.

    Nothing but lifecycle events is sent before the summary is whole. With `kept_texts`, the user's messages
    that stay in the conversation, the item does not end the response: the answer itself is the next turn.
    """

    def __init__(
        self,
        envelope: Envelope,
        options: StreamOptions,
        texts: Sequence[str],
        kept_texts: Sequence[str] | None = None,
    ) -> None:
        super().__init__(envelope, options)
        self._user_texts = texts
        self._kept_texts = kept_texts
        self._summary = jsontext.TextBuffer()
        self._answers = False  # whether the compaction is over, and the answer has begun

    def feed(self, delta: Delta) -> bytes:
        if self._answers:
            return super().feed(delta)
        if isinstance(delta, Literal):
            if delta.stage is Stage.CONTENT:
                self._summary.add(delta.json)
            return b""
        if delta.content:
            self._summary.add(jsontext.dumps(delta.content))
        self.finish_reason = self.finish_reason or delta.finish_reason
        self._usage = delta.usage or self._usage
        return b""

    def finish(self) -> bytes:
        if self._answers:
            return super().finish()
        ended = self.finish_reason in ("stop", "tool_calls")
        if ended and not self._summary.text.strip():
            return self.fail(UpstreamError("The model wrote no summary of the conversation."))
        if ended and self._kept_texts is not None and self.response is None:
            return self._go_on(self._kept_texts)
        if self.finish_reason == "length":
            return self.fail(UpstreamError("The summary of the conversation was cut off."))
        if self.finish_reason == "content_filter":
            return self.fail(ContentRejected(FILTERED))
        return super().finish()

    def _go_on(self, kept_texts: Sequence[str]) -> bytes:
        """Shows the item, and asks for the turn that answers."""
        self.rounds.said += self._compaction.expand(kept_texts)
        self.actions = ()  # nothing has to be run before it
        self._spent, self._usage = self.usage, None
        self.finish_reason = None
        return self._show_item("completed")

    def found(self, outcomes: Sequence[Outcome]) -> bytes:
        if self._answers:
            return super().found(outcomes)
        self._answers = True
        self._turn_begin = len(self._items)
        self.actions = None
        return b""

    def _close_all(self, status: ItemStatus) -> bytes:
        return super()._close_all(status) if self._answers else self._show_item(status)

    @property
    def _compaction(self) -> Compaction:
        return Compaction(self._summary.text.strip(), self._user_texts)

    def _show_item(self, status: ItemStatus) -> bytes:
        sealed = self._options.seal(Purpose.COMPACTION, self._compaction.pack())
        item = CompactionItem(self._emit, self._options.new_id, sealed)
        self._items.append(item)
        return item.open() + self._close(item, status)
