"""The upstream says nothing for a while, or for ever: heartbeats, and three clocks that end the wait.

All scenes are played at once through one gateway whose clocks run out in seconds; the tests then look at
what each client was told.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
from harness import deepseek
from harness.client import Frame
from harness.fake_upstream import FakeUpstream
from harness.gateway import Gateway
from harness.halves import pausing
from harness.leaks import no_leaks
from harness.responses import Told, read_stream
from harness.scenes import outcome_of, play, prompt_of, requests_of
from harness.wire import Handler, Request, Wire

HEARTBEAT_SECONDS = 0.5
PROGRESS_SECONDS = 1.0
BYTES_IDLE_SECONDS = 2.0
DATA_IDLE_SECONDS = 2.5
TOTAL_SECONDS = 3.5
HASTY = {
    "heartbeat_seconds": HEARTBEAT_SECONDS,
    "progress_seconds": PROGRESS_SECONDS,
    "upstream_idle_seconds": BYTES_IDLE_SECONDS,
    "data_idle_seconds": DATA_IDLE_SECONDS,
    "total_seconds": TOTAL_SECONDS,
    "retry_max_seconds": 0.4,
}
# The gateway looks at its clocks in ticks.
TICKS_SECONDS = 1.0
SLACK_SECONDS = 0.3
GIVE_UP_SECONDS = 6.0


@dataclass(frozen=True)
class Heard:
    """What one client of a stream heard, for how long, and how often the upstream was asked for it."""

    told: Told
    seconds: float
    attempts: int


# -- what the upstream does


def queued(_: Request, wire: Wire) -> None:
    wire.start_stream()
    wire.sleep(1.7)
    wire.chunk(b"".join(deepseek.frames()))
    wire.end()


def slow_to_answer(_: Request, wire: Wire) -> None:
    wire.sleep(1.7)
    wire.start_stream()
    wire.chunk(b"".join(deepseek.frames()))
    wire.end()


def commenting(_: Request, wire: Wire) -> None:
    wire.start_stream()
    wire.chunk(deepseek.opening() + deepseek.thinking("hm") + deepseek.text("Hel"))
    for _number in range(11):
        wire.sleep(0.2)
        wire.chunk(deepseek.KEEP_ALIVE)
    wire.chunk(deepseek.text("lo") + deepseek.last() + deepseek.DONE)
    wire.end()


def steady(_: Request, wire: Wire) -> None:
    wire.start_stream()
    wire.chunk(deepseek.opening())
    for _number in range(12):
        wire.chunk(deepseek.text("x"))
        wire.sleep(0.2)
    wire.chunk(deepseek.last() + deepseek.DONE)
    wire.end()


def late(status: int, body: bytes, headers: dict[str, str] | None = None) -> Handler:
    def handler(_: Request, wire: Wire) -> None:
        wire.sleep(1.3)
        wire.respond(status, body, headers)

    return handler


def mute(_: Request, wire: Wire) -> None:
    wire.wait_closed(GIVE_UP_SECONDS)


def mute_after_headers(_: Request, wire: Wire) -> None:
    wire.start_stream()
    wire.wait_closed(GIVE_UP_SECONDS)


def mute_in_mid_stream(_: Request, wire: Wire) -> None:
    wire.start_stream()
    wire.chunk(deepseek.opening() + deepseek.text("Hel"))
    wire.wait_closed(GIVE_UP_SECONDS)


def repeat(wire: Wire, frame: bytes) -> None:
    """Sends the same again and again until the gateway has had enough."""
    for _ in range(int(GIVE_UP_SECONDS / 0.2)):
        wire.chunk(frame)
        if wire.wait_closed(0.2) is not None:
            return


def only_comments(_: Request, wire: Wire) -> None:
    wire.start_stream()
    wire.chunk(deepseek.opening() + deepseek.text("Hel"))
    repeat(wire, deepseek.KEEP_ALIVE)


def endless(_: Request, wire: Wire) -> None:
    wire.start_stream()
    repeat(wire, deepseek.text("more "))


def only_blank_lines(_: Request, wire: Wire) -> None:
    """How DeepSeek keeps a request that is not streamed alive while it is queued."""
    wire.head(200, {"Content-Type": "application/json", "Transfer-Encoding": "chunked"})
    repeat(wire, b"\n")


def blank_lines_first(_: Request, wire: Wire) -> None:
    wire.head(200, {"Content-Type": "application/json", "Transfer-Encoding": "chunked"})
    for _number in range(7):
        wire.chunk(b"\n")
        wire.sleep(0.2)
    wire.chunk(deepseek.completion("Hello"))
    wire.end()


STREAMED: dict[str, Handler] = {
    "queued": queued,
    "pausing": pausing(1.7),
    "slow to answer": slow_to_answer,
    "commenting": commenting,
    "steady": steady,
    "late 429": late(429, deepseek.TOO_MANY, {"Retry-After": "7"}),
    "late 402": late(402, deepseek.NO_BALANCE),
    "late 400": late(400, deepseek.TOO_LONG),
    "late 503": late(503, deepseek.BUSY),
    "no status": mute,
    "no byte": mute_after_headers,
    "no further byte": mute_in_mid_stream,
    "only comments": only_comments,
    "no end": endless,
}
WHOLE: dict[str, Handler] = {
    "no status": mute,
    "only blank lines": only_blank_lines,
    "blank lines first": blank_lines_first,
}


# -- what the clients hear


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, deepseek_server: FakeUpstream) -> Iterator[Gateway]:
    runner = Gateway(tmp_path_factory.mktemp("hasty"), deepseek_server.url, settings=HASTY)
    yield runner
    runner.stop()


Heards = Mapping[str, Heard | BaseException]
Bodies = Mapping[str, tuple[int, Any] | BaseException]


@pytest.fixture(scope="module")
def heards(gateway: Gateway, deepseek_server: FakeUpstream) -> Heards:
    def hear(scene: str) -> Heard:
        with gateway.ask(input=prompt_of(scene)) as call:
            told = read_stream(call.reply())
            seconds = told.frames[-1].at - call.at
            return Heard(told, seconds, requests_of(deepseek_server, scene))

    deepseek_server.serve(deepseek.answers())
    with gateway.ask() as warm_up:
        read_stream(warm_up.reply())
    with no_leaks(gateway, deepseek_server):
        return play(deepseek_server, STREAMED, hear)


def longest_gap(frames: list[Frame]) -> float:
    return max(after.at - before.at for before, after in itertools.pairwise(frames))


@pytest.mark.parametrize("scene", ["queued", "pausing", "slow to answer"])
def test_comments_break_the_silence(heards: Heards, scene: str) -> None:
    told = outcome_of(heards, scene).told
    assert told.text == "Hello"
    assert told.comments or told.count("response.in_progress") > 1
    assert longest_gap(told.frames) < HEARTBEAT_SECONDS + TICKS_SECONDS


def test_the_stream_begins_before_the_upstreams_status_is_known(heards: Heards) -> None:
    heard = outcome_of(heards, "slow to answer")
    began = heard.told.frames[-1].at - heard.told.frames[0].at
    assert heard.seconds - began < HEARTBEAT_SECONDS + TICKS_SECONDS


@pytest.mark.parametrize(
    ("scene", "code"),
    [
        ("late 429", "rate_limit_exceeded"),
        ("late 402", "insufficient_quota"),
        ("late 400", "context_length_exceeded"),
        ("late 503", "server_error"),
    ],
)
def test_a_refusal_after_the_stream_began_is_told_in_it(heards: Heards, scene: str, code: str) -> None:
    final = outcome_of(heards, scene).told.final
    assert (final["status"], final["error"]["code"]) == ("failed", code)


@pytest.mark.parametrize("scene", ["late 429", "late 503"])
def test_nothing_is_tried_again_once_the_client_has_a_byte(heards: Heards, scene: str) -> None:
    assert outcome_of(heards, scene).attempts == 1


def test_a_late_rate_limit_says_when_to_come_back(heards: Heards) -> None:
    # The one form that every measured Codex honours inside a stream.
    final = outcome_of(heards, "late 429").told.final
    assert "try again in 7s" in final["error"]["message"]


def test_progress_is_repeated_while_the_upstream_only_comments(heards: Heards) -> None:
    told = outcome_of(heards, "commenting").told  # whose numbers and outputs were judged
    assert told.text == "Hello"
    repeated = [e["response"] for e in told.events if e["type"] == "response.in_progress"][1:]
    assert repeated
    assert [item["type"] for item in repeated[0]["output"]] == ["reasoning", "message"]
    assert repeated[0]["output"][1]["content"][0]["text"] == "Hel"


def test_an_upstream_that_talks_gets_no_heartbeats(heards: Heards) -> None:
    told = outcome_of(heards, "steady").told
    assert told.text == "x" * 12
    assert told.comments == []
    assert told.count("response.in_progress") == 1


@pytest.mark.parametrize(
    ("scene", "seconds"),
    [
        ("no status", BYTES_IDLE_SECONDS),
        ("no byte", BYTES_IDLE_SECONDS),
        ("no further byte", BYTES_IDLE_SECONDS),
        ("only comments", DATA_IDLE_SECONDS),
        ("no end", TOTAL_SECONDS),
    ],
)
def test_each_clock_ends_a_stream_once(heards: Heards, scene: str, seconds: float) -> None:
    heard = outcome_of(heards, scene)
    assert heard.told.final["status"] == "failed"
    assert heard.told.final["error"]["code"] == "server_error"
    assert seconds - 0.05 < heard.seconds < seconds + TICKS_SECONDS + SLACK_SECONDS
    assert heard.attempts == 1


# -- answers that are not streamed


@pytest.fixture(scope="module")
def bodies(gateway: Gateway, deepseek_server: FakeUpstream) -> Bodies:
    def ask(scene: str) -> tuple[int, Any]:
        with gateway.ask(stream=False, input=prompt_of(scene)) as call:
            reply = call.reply()
            return reply.status, reply.json()

    with no_leaks(gateway, deepseek_server):
        return play(deepseek_server, WHOLE, ask)


@pytest.mark.parametrize("scene", ["no status", "only blank lines"])
def test_silence_ends_a_whole_answer_with_504(bodies: Bodies, scene: str) -> None:
    status, body = outcome_of(bodies, scene)
    assert (status, body["error"]["code"]) == (504, "server_error")


def test_blank_lines_before_a_whole_answer_are_skipped(bodies: Bodies) -> None:
    status, body = outcome_of(bodies, "blank lines first")
    assert (status, body["status"]) == (200, "completed")
    assert body["output"][-1]["content"][0]["text"] == "Hello"
