"""One code path for every server: the same request gets the same answer, byte for byte.

But for what is random or a time. How each server fares with faults: tests/faults; with signals:
tests/faults/test_lifecycle.py.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from harness import deepseek
from harness.fake_upstream import FakeUpstream
from harness.gateway import CLIENT_KEY, PROMPT, Gateway, Server
from harness.websocket import WebSocket
from harness.wire import Request, Wire

TOOL = {"type": "function", "name": "look", "parameters": {"type": "object", "properties": {}}}
OWN_HEADERS = ("content-type", "cache-control", "x-accel-buffering", "x-request-id", "retry-after")
RANDOM = re.compile(
    r'((?:resp|msg|rs|fc|call)_[0-9a-f]{24}|"(?:created_at|completed_at)":\d+|"encrypted_content":"[^"]+")'
)


def thinks_calls_and_answers(request: Request, wire: Wire) -> None:
    wire.start_stream()
    for frame in (
        deepseek.opening() + deepseek.thinking("Hm. "),
        deepseek.thinking("Yes."),
        deepseek.text("Ein Bär: "),
        deepseek.text("🐻"),
        deepseek.call(0, "call_0", "look") + deepseek.arguments(0, "{}"),
        deepseek.last("tool_calls") + deepseek.DONE,
    ):
        wire.chunk(frame)
    wire.end()


def breaks(request: Request, wire: Wire) -> None:
    wire.start_stream()
    wire.chunk(deepseek.opening() + deepseek.text("Hel"))
    wire.close()


def is_queued(request: Request, wire: Wire) -> None:
    wire.start_stream()
    wire.sleep(1.2)
    wire.chunk(deepseek.opening() + deepseek.text("Hello") + deepseek.last() + deepseek.DONE)
    wire.end()


PLAYS: Mapping[str, tuple[Callable[[Request, Wire], None], Mapping[str, Any]]] = {
    "stream": (thinks_calls_and_answers, {"tools": [TOOL]}),
    "whole": (deepseek.answers(["Hello"], ["Hm."]), {"stream": False}),
    "broken stream": (breaks, {}),
    "heartbeats": (is_queued, {}),
    "refused request": (deepseek.answers(), {"temperature": "hot"}),
    "refused by the upstream": (deepseek.refuses(429, deepseek.TOO_MANY, {"Retry-After": "7"}), {}),
}


def answers_of(server: Server, upstream: FakeUpstream, folder: Path) -> dict[str, tuple[Any, ...]]:
    folder.mkdir()
    settings = {"heartbeat_seconds": 0.4, "upstream_attempts": 1}
    gateway = Gateway(folder, upstream.url, server=server, settings=settings)
    found = {}
    for name, (handler, fields) in PLAYS.items():
        upstream.serve(handler)
        with gateway.ask(headers={"X-Request-ID": "same"}, **fields) as call:
            reply = call.reply()
            headers = {header: reply.headers.get(header) for header in OWN_HEADERS}
            found[name] = (reply.status, headers, without_randomness(reply.body.decode()))
    upstream.serve(thinks_calls_and_answers)
    headers = {"Authorization": f"Bearer {CLIENT_KEY}", "X-Request-ID": "same"}
    with WebSocket(gateway.port, headers=headers) as socket:
        messages = [message for fields in MESSAGES for message in asked(socket, fields)]
        assert socket.response is not None
        agreed = {name.lower(): value for name, value in socket.response.headers.raw_items()}
        told = {name: agreed.get(name) for name in ("upgrade", "connection", "x-request-id")}
        found["websocket"] = (socket.response.status_code, told, without_randomness("\n".join(messages)))
    gateway.stop()
    return found


MESSAGES: Sequence[Mapping[str, Any]] = (
    {"tools": [TOOL], "input": PROMPT},
    {"temperature": "hot", "input": PROMPT},
    {"generate": False},
)


def asked(socket: WebSocket, fields: Mapping[str, Any]) -> list[str]:
    socket.create(**fields)
    found = [socket.receive()]
    while found[-1].event["type"] not in ("response.completed", "error"):
        found.append(socket.receive())
    return [message.raw.decode() for message in found]


def without_randomness(text: str) -> str:
    """Every id, time and seal becomes a number: the same for the same value, in order of appearance.

    Of heartbeats one stays: how many there are in a pause is a matter of the clock.
    """
    seen: dict[str, str] = {}
    calm = re.sub(r"(^:.*\n\n)+", r"\1", text, flags=re.MULTILINE)
    return RANDOM.sub(lambda found: seen.setdefault(found[1], f"<{len(seen)}>"), calm)


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[Server, dict[str, tuple[Any, ...]]]:
    upstream = FakeUpstream()
    folder = tmp_path_factory.mktemp("servers")
    try:
        return {server: answers_of(server, upstream, folder / server.value) for server in Server}
    finally:
        upstream.close()


@pytest.mark.parametrize("server", [Server.GTHREAD, Server.FLASK], ids=lambda server: server.value)
@pytest.mark.parametrize("play", [*PLAYS, "websocket"])
def test_threads_answer_as_greenlets_do(
    told: dict[Server, dict[str, tuple[Any, ...]]], server: Server, play: str
) -> None:
    assert told[server][play] == told[Server.GEVENT][play]


def test_the_comparison_compares_something(told: dict[Server, dict[str, tuple[Any, ...]]]) -> None:
    statuses = {play: answer[0] for play, answer in told[Server.GEVENT].items()}
    assert statuses == {
        "stream": 200,
        "whole": 200,
        "broken stream": 200,
        "heartbeats": 200,
        "refused request": 400,
        "refused by the upstream": 429,
        "websocket": 101,
    }
    assert told[Server.GEVENT]["websocket"][2].count('"type":"response.completed"') == 2
    assert "🐻" in told[Server.GEVENT]["stream"][2]
    assert "response.failed" in told[Server.GEVENT]["broken stream"][2]
    assert told[Server.GEVENT]["heartbeats"][2].count("\n\n:") == 1
