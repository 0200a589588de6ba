"""The searches of an earlier answer, which no client sends back: kept under what it does send.

A chat has no place for the calls and results that led to an answer. Without them, the model would not know
in the next turn what it has read, and DeepSeek's cache would not know the prompt. Where they are not found,
the answer stands alone. Refuses to know where they are kept.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from deepseek_proxy.translate import jsontext
from deepseek_proxy.translate.history import AssistantText, Entry, TextPart, Thinking, ToolCall, ToolResult
from deepseek_proxy.translate.sources import Source


def key_of(call_ids: Sequence[str], content: str) -> str:
    """The key of an answer, of its calls' ids or else of its text as the client has it."""
    if call_ids:
        return f"searches before {call_ids[0]}"
    return f"searches of {hashlib.sha256(content.encode('utf-8', 'replace')).hexdigest()}"


@dataclass(frozen=True, slots=True)
class Kept:
    """What led to an answer, the answer's own thinking and text as the model wrote them, and the pages."""

    entries: Sequence[Entry]
    sources: Sequence[Source]


def pack(entries: Iterable[Entry], sources: Iterable[Source]) -> str:
    """A text from which `unpack` makes the same."""
    return jsontext.dumps({"said": [_packed(entry) for entry in entries], "sources": list(sources)}).decode()


def unpack(packed: str) -> Kept | None:
    """None for what another version packed in another way."""
    try:
        found = orjson.loads(packed)
        sources = [Source(int(number), str(url), str(title)) for number, url, title in found["sources"]]
        return Kept([_unpacked(entry) for entry in found["said"]], sources)
    except (KeyError, TypeError, ValueError):
        return None


def _packed(entry: Entry) -> list[Any]:
    match entry:
        case Thinking(text=text):
            return ["thinking", text]
        case ToolCall(call_id=call_id, name=name, arguments=arguments):
            return ["call", call_id, name, arguments]
        case ToolResult(call_id=call_id, parts=parts):
            return ["result", call_id, *(part.text for part in parts if isinstance(part, TextPart))]
        case AssistantText(text=text):
            return ["text", text]
        case _:
            raise TypeError(f"no part of an answer: {entry!r}")


def _unpacked(packed: list[str]) -> Entry:
    match packed:
        case ["thinking", text]:
            return Thinking(text)
        case ["call", call_id, name, arguments]:
            return ToolCall(call_id, name, arguments)
        case ["result", call_id, *texts]:
            return ToolResult(call_id, None, tuple(TextPart(text) for text in texts))
        case ["text", text]:
            return AssistantText(text)
        case _:
            raise ValueError("no part of an answer")
