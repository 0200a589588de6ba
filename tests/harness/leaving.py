"""Clients that leave, each in a scene of its own, and how long the upstream is kept busy for them.

All scenes are played at once. Refuses to know any dialect.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from harness import deepseek
from harness.client import Call
from harness.fake_upstream import FakeUpstream
from harness.scenes import play, prompt_of, requests_of
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
    """What the upstream does, and whether a stream is asked for."""

    upstream: Callable[[Wire], float | None]
    stream: bool = True


SCENES = {
    "before headers": Scene(before_headers),
    "after headers": Scene(after_headers),
    "in mid stream": Scene(in_mid_stream),
    "while streaming": Scene(repeating(deepseek.text("more "), 0.03)),
    "while queued": Scene(repeating(deepseek.KEEP_ALIVE, 0.1)),
    "whole": Scene(before_headers, stream=False),
}
WAYS = {"FIN": False, "RST": True}
PLAYS = [f"{scene}, {way}" for scene, way in itertools.product(SCENES, WAYS)]


Ask = Callable[[str, bool], Call]
"""Asks with a prompt, for a stream or not."""


@dataclass(frozen=True)
class Left:
    """When the client left, when the upstream was let go, and how often it was asked."""

    left: float
    closed: float | None
    attempts: int


def scenes_with(
    ask: Ask, upstream: FakeUpstream, frames: Mapping[str, int]
) -> Mapping[str, Left | BaseException]:
    """What came of every play. `frames` of a scene is how many of them the client reads before it leaves."""
    closed: dict[str, float | None] = {}

    def handler_of(name: str) -> Handler:
        def handler(_: Request, wire: Wire) -> None:
            closed[name] = SCENES[name.partition(",")[0]].upstream(wire)

        return handler

    def leave(name: str) -> Left:
        scene, way = name.split(", ")
        with ask(prompt_of(name), SCENES[scene].stream) as call:
            upstream.wait_until(lambda: requests_of(upstream, name))
            if count := frames.get(scene):
                assert len(list(itertools.islice(call.reply().frames(), count))) == count
            left = call.leave(abruptly=WAYS[way])
        upstream.wait_until(lambda: name in closed, GIVE_UP_SECONDS + 1)
        return Left(left, closed[name], requests_of(upstream, name))

    return play(upstream, {name: handler_of(name) for name in PLAYS}, leave)
