"""Completions that are no chat: DeepSeek's "FIM completion" (beta), which fills in the middle of a text.

The request goes up as it is, but for the model's name: DeepSeek says what is wrong with it. Chunks in, frames
out, by the rules of `stream`. Shapes: DeepSeek "FIM Completion", docs of Nov 2026, and OpenAI's `Completion`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from deepseek_proxy.errors import InvalidRequest, ProxyError, UpstreamError, UpstreamTruncated
from deepseek_proxy.models import Resolved
from deepseek_proxy.translate import fields, jsontext, sse
from deepseek_proxy.translate.chat import errors, parameters
from deepseek_proxy.translate.chat.emitter import Envelope
from deepseek_proxy.translate.compose import resolve
from deepseek_proxy.translate.hub import Chunk, Delta, Literal, Usage
from deepseek_proxy.translate.lookup import Action, Outcome
from deepseek_proxy.translate.rounds import Rounds
from deepseek_proxy.translate.search import Session
from deepseek_proxy.translate.tools import ToolTable
from deepseek_proxy.translate.usage import chat_usage

_ENDS = frozenset({"stop", "length", "content_filter"})


@dataclass(frozen=True, slots=True)
class CompletionRequest:
    """One request, read. It has no tools, no schema and one turn."""

    resolved: Resolved
    stream: bool
    upstream: Mapping[str, Any]
    tells_usage: bool
    tools: ToolTable = field(default_factory=lambda: ToolTable(0))
    structured: None = None
    next_turn: None = None
    cache_key: None = None
    notes: Counter[str] = field(default_factory=Counter)
    unknown_fields: tuple[str, ...] = ()


def parse(body: Mapping[str, Any], find: Callable[[str], Resolved | None]) -> CompletionRequest:
    """Reads a request. Raises `InvalidRequest` with the path of the field, or `ModelNotFound`."""
    resolved = resolve(body, find)
    if resolved.search:
        raise InvalidRequest(
            "Completions of a prompt cannot search the web: leave '-search' away, or use chat completions.",
            param="model",
            code="unsupported_value",
        )
    parameters.refuse_several(body)
    prompt = _prompt(body)
    stream = fields.boolean(body, "stream", False)
    options = fields.mapping(body, "stream_options")
    upstream = {**body, "model": resolved.model.id, "prompt": prompt}
    if stream:
        upstream["stream_options"] = {**options, "include_usage": True}
    return CompletionRequest(
        resolved=resolved,
        stream=stream,
        upstream=upstream,
        tells_usage=fields.boolean(options, "include_usage", False, "stream_options"),
    )


def _prompt(body: Mapping[str, Any]) -> str:
    """OpenAI's clients may send a list of prompts, and LangChain always does; DeepSeek completes one."""
    match body.get("prompt"):
        case [str(text)]:
            return text
        case [_, _, *_] as several:
            raise InvalidRequest(
                f"{len(several)} prompts at once; DeepSeek completes one: send a request for each.",
                param="prompt",
                code="unsupported_value",
            )
        case _:
            return fields.required_string(body, "prompt")


class CompletionStream:
    """One completion, from its first chunk to its end."""

    def __init__(self, envelope: Envelope, *, tells_usage: bool) -> None:
        self._envelope = envelope
        self._tells_usage = tells_usage
        self._fingerprint: str | None = None
        self._pieces: list[str] = []
        self._logprobs: list[Mapping[str, Any]] = []
        self._ended = False
        self.rounds = Rounds(Session(), ToolTable(0))
        self.actions: Sequence[Action] | None = None
        self.usage: Usage | None = None
        self.finish_reason: str | None = None
        self.error: ProxyError | None = None
        self.response: dict[str, Any] | None = None

    @property
    def text(self) -> str:
        return "".join(self._pieces)

    def start(self) -> bytes:
        return b""

    def heartbeat(self) -> bytes:
        return b""

    def found(self, outcomes: Sequence[Outcome]) -> bytes:
        """Nothing is searched here."""
        return b""

    def feed(self, delta: Delta) -> bytes:
        if self._ended:
            return b""
        chunk = Chunk(content=jsontext.literal_text((delta.json,))) if isinstance(delta, Literal) else delta
        self.usage = chunk.usage or self.usage
        self._fingerprint = self._fingerprint or chunk.fingerprint
        if self.finish_reason is not None:
            return b""
        self.finish_reason = chunk.finish_reason
        if not chunk.content and not chunk.logprobs:
            return b""
        self._pieces.append(chunk.content)
        self._logprobs += chunk.logprobs
        return self._frame([self._choice(chunk.content, chunk.logprobs, None)])

    def finish(self) -> bytes:
        if self._ended:
            return b""
        reason = self.finish_reason
        if reason is None:
            return self.fail(UpstreamTruncated("The upstream ended its answer without a finish reason."))
        if reason not in _ENDS:
            return self.fail(UpstreamError(f"The upstream interrupted its answer ({reason})."))
        self._ended = True
        usage = chat_usage(self.usage or Usage(0, 0, 0, 0))
        choice = self._choice(self.text, self._logprobs, reason)
        self.response = {**self._head(), "choices": [choice], "usage": usage}
        frames = self._frame([self._choice("", (), reason)])
        if self._tells_usage:
            frames += self._frame([], usage)
        return frames + sse.DONE_FRAME

    def fail(self, error: ProxyError) -> bytes:
        if self._ended:
            return b""
        self._ended = True
        self.error = error
        return errors.frame(error)

    def _head(self) -> dict[str, Any]:
        return self._envelope.fields("text_completion", self._fingerprint)

    def _frame(self, choices: Sequence[Mapping[str, Any]], usage: Mapping[str, Any] | None = None) -> bytes:
        told = {"usage": usage} if self._tells_usage else {}
        return b"data: %b\n\n" % jsontext.dumps({**self._head(), "choices": choices, **told})

    @staticmethod
    def _choice(text: str, logprobs: Sequence[Mapping[str, Any]], reason: str | None) -> dict[str, Any]:
        return {"index": 0, "text": text, "logprobs": _joined(logprobs), "finish_reason": reason}


def _joined(logprobs: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The log probabilities of several chunks as one object: lists behind each other."""
    if len(logprobs) < 2:
        return logprobs[0] if logprobs else None
    joined: dict[str, Any] = {}
    for entry in logprobs:
        for key, value in entry.items():
            joined[key] = [*joined.get(key, []), *value] if isinstance(value, list) else value
    return joined
