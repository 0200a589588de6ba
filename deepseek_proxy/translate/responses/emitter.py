"""Frames of a Responses stream: names, sequence numbers, and the ready-made form of a delta.

Knows nothing of items or of their order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from deepseek_proxy.translate import jsontext, sse

_BLOCK = 16


class DeltaTemplate:
    """The constant bytes around one item's deltas, made once when the item opens."""

    __slots__ = ("head", "tail")

    def __init__(
        self, event: str, fields: Mapping[str, Any], trailing: Mapping[str, Any] | None = None
    ) -> None:
        name = event.encode()
        body = jsontext.dumps({"type": event, **fields})
        self.head = b'event: %b\ndata: %b,"delta":' % (name, body[:-1])
        self.tail = (
            b"," + (jsontext.dumps(trailing)[1:-1] + b"," if trailing else b"") + b'"sequence_number":'
        )


class Emitter:
    """Numbers the events of one response, from 0 without gaps, and frames each in one piece.

    `padding(n)` makes n random characters for `obfuscation`, which hides the sizes of deltas from who
    watches the wire; None leaves it out.
    """

    __slots__ = ("_padding", "next")

    def __init__(self, padding: Callable[[int], str] | None = None) -> None:
        self.next = 0
        """The sequence number of the next event."""
        self._padding = padding

    def event(self, event: str, fields: Mapping[str, Any]) -> bytes:
        data = jsontext.dumps({"type": event, "sequence_number": self.next, **fields})
        self.next += 1
        return sse.encode(event.encode(), data)

    def error(self, error: Mapping[str, Any]) -> bytes:
        """The event of a failure, of `code`, `message`, `param` and `type`.

        Two shapes of it are in the field, flat (SDK types) and nested (the wire): both are sent.
        """
        flat = {key: error[key] for key in ("code", "message", "param")}
        return self.event("error", {**flat, "error": error})

    def lifecycle(self, event: str, response: bytes) -> bytes:
        """An event with the whole Response, given as JSON so that it is dumped once for two events."""
        number = self.next
        self.next += 1
        return b'event: %b\ndata: {"type":"%b","sequence_number":%d,"response":%b}\n\n' % (
            event.encode(),
            event.encode(),
            number,
            response,
        )

    def delta(self, template: DeltaTemplate, literal: bytes) -> bytes:
        """One delta; `literal` is its text as a JSON string literal."""
        number = self.next
        self.next = number + 1
        if self._padding is None:
            return b"%b%b%b%d}\n\n" % (template.head, literal, template.tail, number)
        padding = jsontext.dumps(self._padding(_BLOCK - len(literal) % _BLOCK))
        return b'%b%b%b%d,"obfuscation":%b}\n\n' % (template.head, literal, template.tail, number, padding)
