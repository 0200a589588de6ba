"""The client leaves: the upstream's connection is closed within a second, so that nobody pays for the rest.

The heartbeats are the production ones (15 s): it is not a failing write that finds out. All scenes of one
server are played at once.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

import pytest
from harness import deepseek
from harness.client import Call
from harness.fake_upstream import FakeUpstream
from harness.gateway import Gateway, Server
from harness.leaving import (
    ALLOWED_SECONDS,
    GIVE_UP_SECONDS,
    NOISE_SECONDS,
    PLAYS,
    Left,
    in_mid_stream,
    scenes_with,
)
from harness.responses import read_stream
from harness.scenes import outcome_of
from harness.wire import Request, Wire

FRAMES = {
    "responses": {"after headers": 2, "in mid stream": 5, "while streaming": 8, "while queued": 2},
    "chat": {"in mid stream": 2, "while streaming": 8},
}
"""How many frames a client of a dialect reads before it leaves. In the other scenes, there are none yet."""
Played = dict[tuple[Server, str], Mapping[str, Left | BaseException]]


@pytest.fixture(scope="module")
def played() -> Played:
    return {}


@pytest.mark.parametrize("dialect", FRAMES)
@pytest.mark.parametrize("name", PLAYS)
def test_the_upstream_is_let_go_within_a_second(
    any_gateway: Gateway, upstream: FakeUpstream, played: Played, dialect: str, name: str
) -> None:
    def ask(prompt: str, stream: bool) -> Call:
        if dialect == "chat":
            return any_gateway.chat(stream=stream, messages=[{"role": "user", "content": prompt}])
        return any_gateway.ask(stream=stream, input=prompt)

    key = (any_gateway.server, dialect)
    if key not in played:
        played[key] = scenes_with(ask, upstream, FRAMES[dialect])
    left = outcome_of(played[key], name)
    assert left.closed is not None, "the upstream was left running"
    assert left.closed - left.left < ALLOWED_SECONDS + NOISE_SECONDS
    assert left.attempts == 1, "an answer that nobody waits for was asked for again"


def test_nobody_tries_again_for_a_client_that_left(gateway: Gateway, upstream: FakeUpstream) -> None:
    def late(_: Request, wire: Wire) -> None:
        wire.sleep(0.7)
        wire.respond(503, deepseek.BUSY)

    upstream.serve(late)
    with gateway.ask() as call:
        upstream.wait_until(lambda: upstream.requests)
        call.leave()
    time.sleep(1.5)  # the answer, and both pauses of at most 0.4 s
    assert len(upstream.requests) == 1


def test_a_neighbour_does_not_notice(any_gateway: Gateway, upstream: FakeUpstream) -> None:
    def slow(_: Request, wire: Wire) -> None:
        wire.start_stream()
        for frame in deepseek.frames(["x"] * 10):
            wire.chunk(frame)
            wire.sleep(0.03)
        wire.end()

    upstream.serve(slow)
    with any_gateway.ask() as stays, any_gateway.ask() as leaves:
        next(leaves.reply().frames())
        leaves.leave(abruptly=True)
        assert read_stream(stays.reply()).text == "x" * 10


def test_twenty_clients_that_leave_cost_nothing(any_gateway: Gateway, upstream: FakeUpstream) -> None:
    closed: list[float | None] = []

    def silent(_: Request, wire: Wire) -> None:
        closed.append(in_mid_stream(wire))

    upstream.serve(silent)
    calls = [any_gateway.ask() for _ in range(20)]
    upstream.wait_until(lambda: len(upstream.requests) == 20)
    for call in calls:
        call.leave()
    upstream.wait_until(lambda: len(closed) == 20, GIVE_UP_SECONDS + 1)
    assert None not in closed
    upstream.serve(deepseek.answers())
    with any_gateway.ask() as call:
        assert read_stream(call.reply()).text == "Hello"
