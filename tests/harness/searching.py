"""A DeepSeek whose model wants one search before it answers, with its Search and Fetch beside it.

Everything behaves well until a test puts another handler in its place. Refuses to know the gateway.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

from harness import deepseek
from harness.machines import completion_of, payloads_of
from harness.wire import Handler, Request, Wire

TOOL: Final = {"type": "web_search"}
ANSWER: Final = "So [1]."


def calling(*calls: tuple[str, dict[str, Any]]) -> list[bytes]:
    """A turn that ends in these calls."""
    frames = [deepseek.opening(), deepseek.thinking("Hm")]
    for index, (name, values) in enumerate(calls):
        frames += [deepseek.call(index, f"call_{index}", name), deepseek.arguments(index, json.dumps(values))]
    return [*frames, deepseek.last("tool_calls"), deepseek.DONE]


SEARCH_TURN: Final = calling(("web_search", {"query": "sky"}))
ANSWER_TURN: Final = deepseek.frames(["So ", "[1]."], ["Ah"])


def turn(frames: Sequence[bytes]) -> Handler:
    """Says one turn, as a stream where one was asked for, else whole."""

    def handler(request: Request, wire: Wire) -> None:
        if not request.json().get("stream"):
            wire.respond(200, json.dumps(completion_of(payloads_of(b"".join(frames)))).encode())
            return
        deepseek.streams(frames)(request, wire)

    return handler


def finds(request: Request, wire: Wire) -> None:
    """Search finds one page, and Fetch opens it."""
    page = {"url": "https://example.com/sky", "title": "Sky", "summary": "Blue.", "date": "2026-11-01"}
    found = {"results": [page]} if request.path.endswith("/search") else {"title": "Sky", "content": "Blue."}
    wire.respond(200, json.dumps(found).encode())


def is_lookup(request: Request) -> bool:
    return "/tools/" in request.path


def searches(
    lookup: Handler = finds,
    answer: Handler | None = None,
    first: Handler | None = None,
) -> Handler:
    """`first` is the turn without results, `answer` the one with them, `lookup` Search and Fetch."""

    def handler(request: Request, wire: Wire) -> None:
        if is_lookup(request):
            lookup(request, wire)
        elif any(message["role"] == "tool" for message in request.json()["messages"]):
            (answer or turn(ANSWER_TURN))(request, wire)
        else:
            (first or turn(SEARCH_TURN))(request, wire)

    return handler
