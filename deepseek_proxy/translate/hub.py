"""The DeepSeek side: the values of a Chat Completions stream, and how they are read.

One chunk type for all three dialects. Refuses to know any dialect, and does no I/O. Shapes:
DeepSeek "Create Chat Completion", docs of Nov 2026, and recorded streams.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any, Final, NamedTuple, NotRequired, TypedDict

import orjson

from deepseek_proxy.errors import UpstreamError
from deepseek_proxy.translate import jsontext


class Message(TypedDict):
    """One message of a request to DeepSeek; the keys are written in this order, always."""

    role: str
    content: str | list[dict[str, Any]]
    reasoning_content: NotRequired[str]
    tool_calls: NotRequired[list[dict[str, Any]]]
    tool_call_id: NotRequired[str]
    prefix: NotRequired[bool]  # whether the model goes on with this message, the last one (beta)


class Stage(Enum):
    """Which part of the answer a text delta belongs to."""

    REASONING = "reasoning_content"
    CONTENT = "content"


class Literal(NamedTuple):
    """A text delta that was not parsed: `json` is the string's own JSON literal, quotes included.

    Never empty, valid JSON, and free of `\\u` escapes and of `<`, so that it can be passed on as it is.
    """

    stage: Stage
    json: bytes


class ToolCallDelta(NamedTuple):
    """A piece of the call at `position` (DeepSeek's `index`); id and name come with the first piece."""

    position: int
    id: str | None
    name: str | None
    arguments: str


class Usage(NamedTuple):
    """Token counts of one turn. `prompt_tokens` includes `cached_tokens`, `completion_tokens` includes
    `reasoning_tokens`."""

    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    reasoning_tokens: int


@dataclass(frozen=True, slots=True)
class Chunk:
    """One parsed chunk. Empty strings and tuples stand for absent parts."""

    reasoning: str = ""
    content: str = ""
    refusal: str = ""
    tool_calls: tuple[ToolCallDelta, ...] = ()
    finish_reason: str | None = None
    usage: Usage | None = None
    logprobs: Sequence[Mapping[str, Any]] = field(default=())
    """Entries `{token, logprob, bytes, top_logprobs}` of the content in this chunk; of a completion
    that is no chat, its one object."""
    announces_thinking: bool = False
    """Whether a thinking turn begins: DeepSeek's first chunk then has an empty `reasoning_content`."""
    fingerprint: str | None = field(default=None, compare=False)
    """Of the upstream's configuration. The same in every chunk of a stream, and no part of what one says."""


Delta = Chunk | Literal

DONE: Final = b"[DONE]"
_MAX_COUNT: Final = 2**53  # of tokens; JSON numbers beyond are not exact

# A JSON string literal without \u escapes (a surrogate pair could be split over two of them) and without
# `<`, at which leaked tool markup starts.
_PLAIN_LITERAL = re.compile(rb'"(?:[^"\\<\x00-\x1f]|\\["\\/bfnrt])+"')
_STRETCH = {Stage.CONTENT: b'"content":', Stage.REASONING: b'"reasoning_content":'}


class ChunkParser:
    """Reads the data payloads of one stream.

    All content chunks of a stream differ only in one string. The head and the tail around it are learnt
    from the first chunk; from then on a payload that has both, and a plain literal between them, is
    passed on without parsing JSON. Anything else is parsed.

    Hosts that cut texts by UTF-16 send a character in two chunks, half a surrogate pair in each. The first
    half is kept back for the second one; where its text ends without that, it becomes U+FFFD.
    """

    __slots__ = ("_around", "_halves")

    def __init__(self) -> None:
        self._around: dict[Stage, tuple[bytes, bytes]] = {}
        # First halves that were kept back, by key; those of arguments by the call's position.
        self._halves: dict[str | int, str] = {}

    def parse(self, payload: bytes) -> Delta:
        """The value of one payload. Raises `UpstreamError` for what is no chunk."""
        for stage, (head, tail) in self._around.items():
            if payload.startswith(head) and payload.endswith(tail):
                literal = payload[len(head) : len(payload) - len(tail)]
                if (
                    not self._halves
                    and _PLAIN_LITERAL.fullmatch(literal)
                    and (literal.isascii() or _is_utf8(literal))
                ):
                    return Literal(stage, literal)
        return self._parse_json(payload)

    def _parse_json(self, payload: bytes) -> Chunk:
        halved = None
        try:
            body = orjson.loads(payload)
        except orjson.JSONDecodeError:
            body = jsontext.loads_received(payload, "an event")
            halved = jsontext.loads_halved(payload)
        if not isinstance(body, dict):
            raise UpstreamError("The upstream sent an event that is not a chunk.")
        chunk = parse_chunk(body)
        if halved is not None or self._halves:
            return self._joined(chunk, chunk if halved is None else parse_chunk(halved))
        if not (chunk.tool_calls or chunk.finish_reason or chunk.usage or chunk.logprobs or chunk.refusal):
            if chunk.content and not chunk.reasoning:
                self._learn(Stage.CONTENT, payload, chunk.content)
            elif chunk.reasoning and not chunk.content:
                self._learn(Stage.REASONING, payload, chunk.reasoning)
        return chunk

    def _joined(self, chunk: Chunk, halved: Chunk) -> Chunk:
        """`chunk` with its characters whole; `halved` is the same one with their halves as they came."""
        ended = chunk.finish_reason is not None
        called = ended or bool(chunk.tool_calls)
        answered = called or bool(halved.content)
        return replace(
            chunk,
            reasoning=self._join("reasoning", halved.reasoning, ended=answered),
            content=self._join("content", halved.content, ended=called),
            refusal=self._join("refusal", halved.refusal, ended=ended),
            tool_calls=tuple(
                call._replace(arguments=self._join(call.position, other.arguments, ended=ended))
                for call, other in zip(chunk.tool_calls, halved.tool_calls)
            ),
        )

    def _join(self, key: str | int, text: str, *, ended: bool) -> str:
        text = self._halves.pop(key, "") + text
        if not ended and "\ud800" <= text[-1:] <= "\udbff":
            self._halves[key] = text[-1]
            text = text[:-1]
        return jsontext.mend_surrogates(text)

    def _learn(self, stage: Stage, payload: bytes, text: str) -> None:
        """Remembers what surrounds `text`, if it stands in the payload exactly once as its key's value."""
        if payload.count(_STRETCH[stage]) != 1:
            return
        start = payload.index(_STRETCH[stage]) + len(_STRETCH[stage])
        while payload[start : start + 1] == b" ":
            start += 1
        found = _PLAIN_LITERAL.match(payload, start)
        if found and orjson.loads(found.group()) == text:
            self._around[stage] = (payload[:start], payload[found.end() :])


def parse_chunk(body: Mapping[str, Any]) -> Chunk:
    """A `chat.completion.chunk` as a value. An in-stream `error` object raises `UpstreamError`."""
    if body.get("error"):
        raise stream_error(body["error"])
    usage = parse_usage(body.get("usage"))
    choices = body.get("choices")
    if not choices:
        return Chunk(usage=usage)  # other hosts send usage in a chunk of its own
    try:
        choice = choices[0]
        delta = choice.get("delta") or {}
        logprobs = choice.get("logprobs") or {}
        if "text" in choice:  # of a completion that is no chat
            return Chunk(
                content=_text(choice["text"]),
                finish_reason=_text(choice.get("finish_reason")) or None,
                usage=usage,
                logprobs=_entries([logprobs]) if logprobs else (),
                fingerprint=_text(body.get("system_fingerprint")) or None,
            )
        return Chunk(
            reasoning=_text(delta.get("reasoning_content") or delta.get("reasoning")),
            content=_text(delta.get("content")),
            refusal=_text(delta.get("refusal")),
            tool_calls=tuple(_tool_call(call, i) for i, call in enumerate(delta.get("tool_calls") or ())),
            finish_reason=_text(choice.get("finish_reason")) or None,
            usage=usage,
            logprobs=_entries(logprobs.get("content")),
            announces_thinking=delta.get("reasoning_content") == "",
            fingerprint=_text(body.get("system_fingerprint")) or None,
        )
    except (AttributeError, KeyError, TypeError, IndexError, ValueError):
        raise UpstreamError("The upstream sent a chunk of an unknown shape.") from None


def parse_completion(body: Mapping[str, Any]) -> Chunk:
    """A whole `chat.completion` as the one chunk that says the same."""
    if body.get("error"):
        raise stream_error(body["error"])
    choices = body.get("choices")
    if not choices or not isinstance(choices, list) or not isinstance(choices[0], dict):
        raise UpstreamError("The upstream's answer has no choices.")
    first = choices[0]
    return parse_chunk({**body, "choices": [{**first, "delta": first.get("message")}]})


def parse_usage(usage: object) -> Usage | None:
    """Token counts from DeepSeek's own keys, or from OpenAI's where another host sends those.

    A count that is missing or cannot be is 0, and no part is more than its whole: clients subtract.
    """
    if not isinstance(usage, dict):
        return None

    def count(value: object) -> int:
        return int(value) if isinstance(value, (int, float)) and 0 <= value < _MAX_COUNT else 0

    def detail(of: str, key: str) -> object:
        details = usage.get(of)
        return details.get(key) if isinstance(details, dict) else None

    cached = usage.get("prompt_cache_hit_tokens")
    if cached is None:
        cached = detail("prompt_tokens_details", "cached_tokens")
    prompt, completion = count(usage.get("prompt_tokens")), count(usage.get("completion_tokens"))
    reasoning = count(detail("completion_tokens_details", "reasoning_tokens"))
    return Usage(prompt, min(count(cached), prompt), completion, min(reasoning, completion))


def stream_error(error: object) -> UpstreamError:
    """The error object that some hosts send inside a stream, or with status 200."""
    message = error.get("message") if isinstance(error, dict) else None
    return UpstreamError(f"The upstream reported an error: {message or 'no reason given'}")


def _text(value: object) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise TypeError
    return value


def _entries(value: object) -> Sequence[Mapping[str, Any]]:
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(entry, dict) for entry in value):
        raise TypeError
    return value


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _tool_call(call: Mapping[str, Any], position: int) -> ToolCallDelta:
    function = call.get("function") or {}
    index = call.get("index")
    return ToolCallDelta(
        position=position if index is None else int(index),
        id=_text(call.get("id")) or None,
        name=_text(function.get("name")) or None,
        arguments=_text(function.get("arguments")),
    )
