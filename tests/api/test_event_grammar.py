"""Every kind of answer, by every way in which its events can be had: the grammar of events holds on each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from harness import deepseek
from harness.fake_upstream import FakeUpstream
from harness.responses_grammar import assert_responses_grammar
from harness.websocket import WebSocket
from harness.wire import Handler, Request, Wire

from deepseek_proxy.translate.responses.compaction import PROMPT
from tests.api.test_websocket import BEARER, Served

Events = list[dict[str, Any]]


def sums_up(request: Request, wire: Wire) -> None:
    summing_up = request.json()["messages"][-1]["content"] == PROMPT
    deepseek.streams(deepseek.frames(["They talked."] if summing_up else ["Well."], ["Hm"]))(request, wire)


CALLS = (
    deepseek.opening(),
    deepseek.thinking("I call two."),
    deepseek.text("Let me see."),
    deepseek.call(0, "call_0", "look"),
    deepseek.arguments(0, '{"at": "this"}'),
    deepseek.call(1, "call_1", "look"),
    deepseek.arguments(1, "{}"),
    deepseek.last("tool_calls"),
    deepseek.DONE,
)
LOOK = {"type": "function", "name": "look", "parameters": {"type": "object", "properties": {}}}
TALK = [
    {"role": "user", "content": "Talk."},
    {"role": "assistant", "content": "bla " * 2_000},
    {"role": "user", "content": "And?"},
]
SCENES: dict[str, tuple[Handler, dict[str, Any], str]] = {
    "text": (deepseek.streams(deepseek.frames(["Hel", "lo, 世界"])), {}, "completed"),
    "thinking and text": (deepseek.streams(deepseek.frames(["Hello"], ["Hm", "mm"])), {}, "completed"),
    "padded": (
        deepseek.streams(deepseek.frames(["Hello"], ["Hm"])),
        {"stream_options": {"include_obfuscation": True}},
        "completed",
    ),
    "calls": (deepseek.streams(CALLS), {"tools": [LOOK]}, "completed"),
    "cut off": (deepseek.streams(deepseek.frames(["Hel"], ["Hm"], "length")), {}, "incomplete"),
    "filtered": (deepseek.streams(deepseek.frames(["Hel"], ["Hm"], "content_filter")), {}, "incomplete"),
    "broken off": (deepseek.streams(deepseek.frames(["Hel"], ["Hm"])[:-2]), {}, "failed"),
    "compacted first": (
        sums_up,
        {"input": TALK, "context_management": [{"type": "compaction", "compact_threshold": 1_000}]},
        "completed",
    ),
}


@pytest.fixture
def served(make: Callable[..., Any]) -> Iterator[Served]:
    running = Served(make())
    yield running
    running.close()


def stream(served: Served, **fields: Any) -> Events:
    return served.face.events(served.face.ask(stream=True, **fields))  # type: ignore[no-any-return]


def socket(served: Served, **fields: Any) -> Events:
    connected: WebSocket = served.connect()
    return connected.ask(**{"input": "hi", **fields})


def again(served: Served, **fields: Any) -> Events:
    """The stored events of a stream, which are the same."""
    face = served.face
    first: Events = face.events(face.finish(face.ask(stream=True, **fields)))
    answer = face.request("GET", f"/v1/responses/{first[0]['response']['id']}?stream=true", headers=BEARER)
    replayed: Events = face.events(answer)
    assert replayed == first
    return replayed


def background(served: Served, **fields: Any) -> Events:
    """A stream of what is made in the background begins with one event more."""
    events = stream(served, background=True, **fields)
    assert events[0]["response"]["status"] == "queued"
    return events


WAYS: dict[str, Callable[..., Events]] = {
    "stream": stream,
    "socket": socket,
    "again": again,
    "background": background,
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS.keys())
@pytest.mark.parametrize("scene", SCENES.values(), ids=SCENES.keys())
def test_the_grammar_holds(
    served: Served,
    upstream: FakeUpstream,
    scene: tuple[Handler, dict[str, Any], str],
    way: Callable[..., Events],
) -> None:
    handler, fields, status = scene
    upstream.serve(handler)
    assert assert_responses_grammar(way(served, **fields))["status"] == status
