"""Bytes are forwarded as they arrive, however they are split, and never wait for bytes that have not."""

from __future__ import annotations

import re
import statistics
import time

import pytest
from harness import deepseek
from harness.fake_upstream import FakeUpstream
from harness.gateway import Gateway
from harness.responses import Told, read_stream
from harness.splitting import STREAM, TEXT, split_at
from harness.wire import Handler, Request, Wire

# -- nothing that has arrived waits


def ticking(gap_seconds: float, ticks: int, sent: list[float], *, chunked: bool) -> Handler:
    """One token every `gap_seconds`; the body chunked, or ended by the end of the connection."""

    def handler(_: Request, wire: Wire) -> None:
        if chunked:
            wire.start_stream()
        else:
            wire.head(200, {"Content-Type": "text/event-stream", "Connection": "close"})
        write = wire.chunk if chunked else wire.send
        write(deepseek.opening())
        for number in range(ticks):
            write(deepseek.text(f"<{number}>"))
            sent.append(wire.sent[-1][0])
            wire.sleep(gap_seconds)
        write(deepseek.last() + deepseek.DONE)
        if chunked:
            wire.end()

    return handler


@pytest.mark.parametrize("chunked", [True, False], ids=["chunked", "close-delimited"])
def test_a_token_does_not_wait_for_the_next(
    any_gateway: Gateway, upstream: FakeUpstream, chunked: bool
) -> None:
    sent: list[float] = []
    upstream.serve(ticking(0.2, 4, sent, chunked=chunked))
    with any_gateway.ask() as call:
        told = read_stream(call.reply())
    deltas = (frame for frame in told.frames if "output_text.delta" in frame.raw)
    waits = [frame.at - at for frame, at in zip(deltas, sent, strict=True)]
    assert statistics.median(waits) < 0.05
    assert max(waits) < 0.2, "a token waited for the next one"


def test_a_token_that_comes_in_halves_leaves_when_it_is_whole(
    gateway: Gateway, upstream: FakeUpstream
) -> None:
    def halves(_: Request, wire: Wire) -> None:
        wire.start_stream()
        token = deepseek.text("Hello")
        wire.chunk(deepseek.opening() + token[:40])
        wire.sleep(0.15)
        wire.chunk(token[40:])
        completed.append(wire.sent[-1][0])
        wire.sleep(0.3)
        wire.chunk(deepseek.last() + deepseek.DONE)
        wire.end()

    completed: list[float] = []
    upstream.serve(halves)
    with gateway.ask() as call:
        told = read_stream(call.reply())
    (delta,) = (frame for frame in told.frames if "output_text.delta" in frame.raw)
    assert 0 <= delta.at - completed[0] < 0.1


def test_what_has_arrived_together_leaves_together(gateway: Gateway, upstream: FakeUpstream) -> None:
    def burst(_: Request, wire: Wire) -> None:
        wire.start_stream()
        wire.chunk(b"".join(deepseek.frames([f"<{number}>" for number in range(200)])))
        wire.end()

    upstream.serve(burst)
    with gateway.ask() as call:
        reply = call.reply()
        told = read_stream(reply)
    assert told.count("response.output_text.delta") == 200
    assert len(reply.seen) < 20, "frames that had all arrived went out one by one"


def test_created_is_out_before_the_first_token(gateway: Gateway, upstream: FakeUpstream) -> None:
    def thinking_long(_: Request, wire: Wire) -> None:
        wire.start_stream()
        wire.sleep(0.3)
        wire.chunk(b"".join(deepseek.frames()))
        wire.end()

    upstream.serve(thinking_long)
    with gateway.ask() as call:
        told = read_stream(call.reply())
    assert told.frames[2].at - told.frames[1].at > 0.2


# -- any split of the same bytes


def byte_by_byte(_: Request, wire: Wire) -> None:
    wire.head(200, {"Content-Type": "text/event-stream", "Connection": "close"})
    for position in range(len(STREAM)):
        wire.send(STREAM[position : position + 1])
        wire.sleep(0.0005)


def without_identity(told: Told) -> str:
    """The stream with its ids, times and seals blanked: what must not depend on the split."""
    raw = "\n\n".join(frame.raw for frame in told.frames if not frame.is_comment)
    raw = re.sub(r'"(resp|msg|rs)_[^"]*"', r'"\1"', raw)
    raw = re.sub(r'"(created_at|completed_at)":\d+', r'"\1":0', raw)
    return re.sub(r'"encrypted_content":"[^"]*"', '"encrypted_content":""', raw)


def test_utf8_and_crlf_may_be_split_at_every_byte(gateway: Gateway, upstream: FakeUpstream) -> None:
    positions = range(1, len(STREAM))
    upstream.serve(deepseek.streams([STREAM]), byte_by_byte, *(split_at(position) for position in positions))
    expected = None
    for where in ("whole", "every byte", *positions):
        with gateway.ask() as call:
            told = read_stream(call.reply())
        assert told.text == TEXT, f"split at {where}"
        expected = expected or without_identity(told)
        assert without_identity(told) == expected, f"split at {where}"


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n", b"\r"])
def test_all_three_line_ends(gateway: Gateway, upstream: FakeUpstream, line_end: bytes) -> None:
    upstream.serve(deepseek.streams([STREAM.replace(b"\r\n", line_end)]))
    with gateway.ask() as call:
        assert read_stream(call.reply()).text == TEXT


def test_a_long_answer_to_a_slow_reader_is_whole(gateway: Gateway, upstream: FakeUpstream) -> None:
    pieces = [f"{number:05} " + "x" * 4000 for number in range(500)]
    upstream.serve(deepseek.answers(pieces))
    with gateway.ask() as call:
        reply = call.reply()
        upstream.wait_until(lambda: upstream.requests)
        # The client reads nothing for a while: sockets fill up, nothing may be lost.
        time.sleep(0.3)
        assert read_stream(reply).text == "".join(pieces)
