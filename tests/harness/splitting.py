"""An answer of few bytes with all that a wrong split can break: long characters, CRLF, comments."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from harness.wire import Handler, Request, Wire


def _frame(payload: Mapping[str, Any]) -> bytes:
    return b"data: %b\r\n\r\n" % json.dumps(payload, ensure_ascii=False, separators=(",", ":")).encode()


def _chunk(delta: Mapping[str, Any], finish: str | None = None) -> bytes:
    return _frame({"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})


THOUGHT: Final = "思"
TEXT: Final = "é😀\n"
STREAM: Final = b"".join(
    [
        b": keep-alive\r\n\r\n",
        _chunk({"reasoning_content": THOUGHT}),
        _chunk({"content": TEXT[:-1]}),
        _chunk({"content": TEXT[-1]}, "stop"),
        _frame({"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2}}),
        b"data: [DONE]\r\n\r\n",
    ]
)


def split_at(position: int) -> Handler:
    """Says it in two pieces."""

    def handler(_: Request, wire: Wire) -> None:
        wire.start_stream()
        wire.chunk(STREAM[:position])
        wire.sleep(0.001)
        wire.chunk(STREAM[position:])
        wire.end()

    return handler
