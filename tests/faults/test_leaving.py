"""The client leaves: the upstream's connection is closed within a second, so that nobody pays for the rest.

The heartbeats are the production ones (15 s): it is not a failing write that finds out. All scenes of one
server are played at once.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import pytest
from harness import deepseek
from harness.fake_upstream import FakeUpstream
from harness.gateway import Gateway, Server
from harness.responses import read_stream
from harness.scenes import outcome_of, play, prompt_of, requests_of
from harness.wire import Handler, Request, Wire

ALLOWED_SECONDS = 1.0
NOISE_SECONDS = 0.2  # of a machine whose cores are all busy
GIVE_UP_SECONDS = 4.0


# -- what the upstream does until it is let go; each returns when that was


def before_headers(wire: Wire) -> float | None:
    return wire.wait_closed(GIVE_UP_SECONDS)


def after_headers(wire: Wire) -> float | None:
    wire.start_stream()
    return wire.wait_closed(GIVE_UP_SECONDS)


def in_mid_stream(wire: Wire) -> float | None:
    wire.start_stream()
    wire.chunk(deepseek.opening() + deepseek.text("Hel"))
    return wire.wait_closed(GIVE_UP_SECONDS)


def repeating(frame: bytes, gap_seconds: float) -> Callable[[Wire], float | None]:
    def act(wire: Wire) -> float | None:
        wire.start_stream()
        for _ in range(int(GIVE_UP_SECONDS / gap_seconds)):
            try:
                wire.chunk(frame)
            except OSError:
                return time.monotonic()
            if (closed := wire.wait_closed(gap_seconds)) is not None:
                return closed
        return None

    return act


@dataclass(frozen=True)
class Scene:
    """`frames` is how many of them the client reads before it leaves."""

    upstream: Callable[[Wire], float | None]
    frames: int
    stream: bool = True


SCENES = {
    "before headers": Scene(before_headers, 0),
    "after headers": Scene(after_headers, 2),
    "in mid stream": Scene(in_mid_stream, 5),
    "while streaming": Scene(repeating(deepseek.text("more "), 0.03), 8),
    "while queued": Scene(repeating(deepseek.KEEP_ALIVE, 0.1), 2),
    "whole": Scene(before_headers, 0, stream=False),
}
WAYS = {"FIN": False, "RST": True}
PLAYS = [f"{scene}, {way}" for scene, way in itertools.product(SCENES, WAYS)]


@dataclass(frozen=True)
class Left:
    """When the client left, when the upstream was let go, and how often it was asked."""

    left: float
    closed: float | None
    attempts: int


def scenes_with(gateway: Gateway, upstream: FakeUpstream) -> Mapping[str, Left | BaseException]:
    closed: dict[str, float | None] = {}

    def handler_of(name: str) -> Handler:
        def handler(_: Request, wire: Wire) -> None:
            closed[name] = SCENES[name.partition(",")[0]].upstream(wire)

        return handler

    def leave(name: str) -> Left:
        scene, way = name.split(", ")
        with gateway.ask(stream=SCENES[scene].stream, input=prompt_of(name)) as call:
            upstream.wait_until(lambda: requests_of(upstream, name))
            if count := SCENES[scene].frames:
                frames = call.reply().frames()
                assert len(list(itertools.islice(frames, count))) == count
            left = call.leave(abruptly=WAYS[way])
        upstream.wait_until(lambda: name in closed, GIVE_UP_SECONDS + 1)
        return Left(left, closed[name], requests_of(upstream, name))

    return play(upstream, {name: handler_of(name) for name in PLAYS}, leave)


@pytest.fixture(scope="module")
def played() -> dict[Server, Mapping[str, Left | BaseException]]:
    return {}


@pytest.mark.parametrize("name", PLAYS)
def test_the_upstream_is_let_go_within_a_second(
    any_gateway: Gateway,
    upstream: FakeUpstream,
    played: dict[Server, Mapping[str, Left | BaseException]],
    name: str,
) -> None:
    if any_gateway.server not in played:
        played[any_gateway.server] = scenes_with(any_gateway, upstream)
    left = outcome_of(played[any_gateway.server], name)
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
