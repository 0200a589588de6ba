"""Frames of a Chat Completions stream, and the ready-made form of a delta.

Knows nothing of their order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from deepseek_proxy.translate import jsontext
from deepseek_proxy.translate.hub import Usage
from deepseek_proxy.translate.usage import chat_usage

_BLOCK: Final = 16


class DeltaTemplate(NamedTuple):
    """The bytes around the one text in which the deltas of a kind differ."""

    head: bytes
    tail: bytes


@dataclass(frozen=True, slots=True)
class Envelope:
    """What is the same in every chunk of an answer; `created` is Unix time in seconds."""

    id: str
    created: int
    model: str

    def fields(self, kind: str, fingerprint: str | None) -> dict[str, Any]:
        """The first keys of a chunk, or of a whole answer; `kind` is its `object`."""
        return {
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": fingerprint,
        }


class Emitter:
    """Frames the chunks of one answer.

    With `tells_usage`, each chunk has a `usage`, which is null but in the last one. `padding(n)` makes n
    random characters for `obfuscation`, which hides the sizes of deltas from who watches the wire.
    """

    __slots__ = ("_envelope", "_fingerprint", "_padding", "_tells_usage")

    def __init__(
        self, envelope: Envelope, *, tells_usage: bool, padding: Callable[[int], str] | None = None
    ) -> None:
        self._envelope = envelope
        self._fingerprint: str | None = None
        self._tells_usage = tells_usage
        self._padding = padding

    def knows(self, fingerprint: str | None) -> None:
        """Tells what stands in every chunk from the first one on."""
        self._fingerprint = fingerprint

    def template(self, head: bytes, tail: bytes) -> DeltaTemplate:
        """Of deltas whose JSON is `head`, a text, and `tail`."""
        before, after = self._around()
        return DeltaTemplate(before + head, tail + after)

    def text(self, template: DeltaTemplate, literal: bytes) -> bytes:
        """One delta; `literal` is its text as a JSON string literal."""
        if self._padding is None:
            return b"%b%b%b}\n\n" % (template.head, literal, template.tail)
        padding = jsontext.dumps(self._padding(_BLOCK - len(literal) % _BLOCK))
        return b'%b%b%b,"obfuscation":%b}\n\n' % (template.head, literal, template.tail, padding)

    def delta(
        self,
        delta: Mapping[str, Any],
        *,
        logprobs: Sequence[Mapping[str, Any]] = (),
        finish_reason: str | None = None,
    ) -> bytes:
        """A delta that is rare enough to be dumped as a whole."""
        before, after = self._around(logprobs, finish_reason)
        return b"%b%b%b}\n\n" % (before, jsontext.dumps(delta), after)

    def usage(self, usage: Usage) -> bytes:
        """The chunk without choices in which a stream tells what it took."""
        fields = self._envelope.fields("chat.completion.chunk", self._fingerprint)
        body = jsontext.dumps({**fields, "choices": [], "usage": chat_usage(usage)})
        return b"data: %b\n\n" % body

    def _around(
        self, logprobs: Sequence[Mapping[str, Any]] = (), finish_reason: str | None = None
    ) -> tuple[bytes, bytes]:
        """The bytes of a chunk before and behind its `delta`, the last brace left out."""
        fields = self._envelope.fields("chat.completion.chunk", self._fingerprint)
        said = {
            "logprobs": {"content": list(logprobs), "refusal": None} if logprobs else None,
            "finish_reason": finish_reason,
        }
        before = b'data: %b,"choices":[{"index":0,"delta":' % jsontext.dumps(fields)[:-1]
        after = b",%b}]" % jsontext.dumps(said)[1:-1]
        return before, after + (b',"usage":null' if self._tells_usage else b"")
