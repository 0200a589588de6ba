"""DeepSeek's wire shapes: the chunks of a stream, and the body of an answer in one piece.

Both are made of the same pieces, a token each, so that they always say the same. Refuses to know why the
model says what it says, and how the bytes are paced. Shapes and key order: recorded replies of Nov 2026, and
the chunk generator of `deepseek-recipe` 0.2.0 (the tests compare with it).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import groupby
from typing import Any, NamedTuple

from deepseek_proxy.simulator import tokens
from deepseek_proxy.simulator.turns import Turn


class Kind(Enum):
    REASONING = "reasoning_content"
    CONTENT = "content"
    CALL = "call"
    """A call opens; the text is its name."""
    ARGUMENTS = "arguments"


class Piece(NamedTuple):
    """One token of an answer. `call` is the position of the call it belongs to, 0 for text."""

    kind: Kind
    text: str
    call: int = 0


@dataclass(frozen=True, slots=True)
class Identity:
    """What stays the same in all chunks of an answer. `call_ids` are for the calls in their order."""

    id: str
    created: int
    model: str
    fingerprint: str
    call_ids: Sequence[str]


@dataclass(frozen=True, slots=True)
class Shape:
    """What the request asked of the answer's form. `usage_everywhere` is `stream_options.include_usage`."""

    thinking: bool
    usage_everywhere: bool = False
    logprobs: bool = False
    top_logprobs: int = 0


@dataclass(frozen=True, slots=True)
class Answer:
    """A turn as it is sent: its pieces after all limits, and why it ended."""

    pieces: Sequence[Piece]
    finish: str
    prompt_tokens: int
    cached_tokens: int


def pieces_of(turn: Turn) -> list[Piece]:
    """The turn as pieces of a token each."""
    pieces = [Piece(Kind.REASONING, text) for text in tokens.split(turn.reasoning)]
    pieces += [Piece(Kind.CONTENT, text) for text in tokens.split(turn.text)]
    for position, call in enumerate(turn.calls):
        pieces.append(Piece(Kind.CALL, call.name, position))
        pieces += [Piece(Kind.ARGUMENTS, text, position) for text in _stretches(call.arguments)]
    return pieces


def regrouped(pieces: Iterable[Piece], characters: int) -> list[Piece]:
    """The same text in pieces of so many characters."""
    result: list[Piece] = []
    for (kind, call), run in groupby(pieces, key=lambda piece: (piece.kind, piece.call)):
        text = "".join(piece.text for piece in run)
        size = len(text) if kind is Kind.CALL else characters
        result += [Piece(kind, text[i : i + size], call) for i in range(0, len(text), size)]
    return result


def _stretches(arguments: str) -> Iterator[str]:
    """Arguments as DeepSeek's server builds them: brace, key, colon, quote, the value's tokens, quote."""
    try:
        values = json.loads(arguments)
    except ValueError:
        values = None
    if not isinstance(values, dict) or not values or arguments_json(values) != arguments:
        yield from tokens.split(arguments)
        return
    before = "{"
    for key, value in values.items():
        yield before
        yield arguments_json(key)
        yield ": "
        if isinstance(value, str):
            yield '"'
            yield from (arguments_json(token)[1:-1] for token in tokens.split(value))
            yield '"'
        else:
            yield from tokens.split(arguments_json(value))
        before = ", "
    yield "}"


def arguments_json(values: object) -> str:
    """Arguments in DeepSeek's spacing: `{"a": "x", "n": [1, 2]}`."""
    return json.dumps(values, ensure_ascii=False)


def chunks(
    answer: Answer, identity: Identity, shape: Shape, chunk_characters: int | None = None
) -> Iterator[dict[str, Any]]:
    """The `chat.completion.chunk` bodies of `answer`, the last one with its finish reason and usage.

    A chunk is a token, or `chunk_characters` characters.
    """

    def chunk(delta: dict[str, Any], text: Piece | None = None, finish: str | None = None) -> dict[str, Any]:
        logprobs = _logprobs([text], shape) if text is not None and shape.logprobs else None
        choice = {"index": 0, "delta": delta, "logprobs": logprobs, "finish_reason": finish}
        body: dict[str, Any] = {
            "id": identity.id,
            "object": "chat.completion.chunk",
            "created": identity.created,
            "model": identity.model,
            "system_fingerprint": identity.fingerprint,
            "choices": [choice],
        }
        if finish is not None:
            body["usage"] = usage(answer)
        elif shape.usage_everywhere:
            body["usage"] = None
        return body

    no_reasoning = {"reasoning_content": None} if shape.thinking else {}
    if shape.thinking:
        yield chunk({"role": "assistant", "content": None, "reasoning_content": ""})
    else:
        yield chunk({"role": "assistant", "content": ""})
    pieces = answer.pieces if chunk_characters is None else regrouped(answer.pieces, chunk_characters)
    for piece in pieces:
        if piece.kind is Kind.REASONING:
            yield chunk({"content": None, "reasoning_content": piece.text}, piece)
        elif piece.kind is Kind.CONTENT:
            yield chunk({"content": piece.text, **no_reasoning}, piece)
        elif piece.kind is Kind.CALL:
            yield chunk({"tool_calls": [_opened(identity.call_ids[piece.call], piece)]})
        else:
            yield chunk({"tool_calls": [{"index": piece.call, "function": {"arguments": piece.text}}]})
    yield chunk({"content": "", **no_reasoning}, finish=answer.finish)


def completion(answer: Answer, identity: Identity, shape: Shape) -> dict[str, Any]:
    """The `chat.completion` body of `answer`."""

    def text_of(kind: Kind) -> str:
        return "".join(piece.text for piece in answer.pieces if piece.kind is kind)

    message: dict[str, Any] = {"role": "assistant", "content": text_of(Kind.CONTENT)}
    if shape.thinking:
        message["reasoning_content"] = text_of(Kind.REASONING)
    calls = [_opened(identity.call_ids[p.call], p) for p in answer.pieces if p.kind is Kind.CALL]
    for piece in answer.pieces:
        if piece.kind is Kind.ARGUMENTS:
            calls[piece.call]["function"]["arguments"] += piece.text
    if calls:
        message["tool_calls"] = calls
    logprobs = _logprobs(answer.pieces, shape) if shape.logprobs else None
    choice = {"index": 0, "message": message, "logprobs": logprobs, "finish_reason": answer.finish}
    return {
        "id": identity.id,
        "object": "chat.completion",
        "created": identity.created,
        "model": identity.model,
        "choices": [choice],
        "usage": usage(answer),
        "system_fingerprint": identity.fingerprint,
    }


def usage(answer: Answer) -> dict[str, Any]:
    """Token counts in DeepSeek's keys. Details of the completion are there only when it thought, as live."""
    completion_tokens = len(answer.pieces)
    reasoning = sum(piece.kind is Kind.REASONING for piece in answer.pieces)
    counts: dict[str, Any] = {
        "prompt_tokens": answer.prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": answer.prompt_tokens + completion_tokens,
        "prompt_tokens_details": {"cached_tokens": answer.cached_tokens},
    }
    if reasoning:
        counts["completion_tokens_details"] = {"reasoning_tokens": reasoning}
    counts["prompt_cache_hit_tokens"] = answer.cached_tokens
    counts["prompt_cache_miss_tokens"] = answer.prompt_tokens - answer.cached_tokens
    return counts


def _opened(call_id: str, piece: Piece) -> dict[str, Any]:
    function = {"name": piece.text, "arguments": ""}
    return {"index": piece.call, "id": call_id, "type": "function", "function": function}


def _logprobs(pieces: Iterable[Piece], shape: Shape) -> dict[str, Any]:
    entries: dict[str, list[dict[str, Any]]] = {}
    for piece in pieces:
        if piece.kind in (Kind.REASONING, Kind.CONTENT):
            shown = {"token": piece.text, "logprob": -0.5, "bytes": list(piece.text.encode())}
            # The same token again stands in for the alternatives: this model never has any.
            top = [{**shown, "logprob": -0.5 - rank} for rank in range(shape.top_logprobs)]
            entries.setdefault(piece.kind.value, []).append({**shown, "top_logprobs": top})
    return entries
