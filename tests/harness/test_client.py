"""The client reads every kind of body, keeps arrival times, and refuses sloppy SSE."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from harness.client import Call, Frame
from harness.fake_upstream import FakeUpstream
from harness.wire import Wire

FRAME = b'event: response.created\ndata: {"type":"response.created"}\n\n'


@pytest.fixture
def server() -> Iterator[FakeUpstream]:
    running = FakeUpstream()
    yield running
    running.close()
    assert running.failures == []


def chunked(wire: Wire) -> None:
    wire.start_stream()
    wire.chunk(FRAME[:20])
    wire.sleep(0.02)
    wire.chunk(FRAME[20:] + FRAME)
    wire.end()


def sized(wire: Wire) -> None:
    wire.head(200, {"Content-Length": str(2 * len(FRAME))})
    wire.send(FRAME)
    wire.sleep(0.02)
    wire.send(FRAME)


def close_delimited(wire: Wire) -> None:
    wire.head(200)
    wire.send(FRAME + FRAME[:30])
    wire.sleep(0.02)
    wire.send(FRAME[30:])


@pytest.mark.parametrize("send", [chunked, sized, close_delimited])
def test_frames_of_every_kind_of_body(server: FakeUpstream, send: Callable[[Wire], None]) -> None:
    server.serve(lambda _, wire: send(wire))
    with Call(server.port, "GET", "/") as call:
        frames = list(call.reply().frames())
    assert [frame.event["type"] for frame in frames] == ["response.created"] * 2


def test_pieces_are_the_http_chunks(server: FakeUpstream) -> None:
    server.serve(lambda _, wire: chunked(wire))
    with Call(server.port, "GET", "/") as call:
        pieces = list(call.reply().pieces())
    assert [piece.data for piece in pieces] == [FRAME[:20], FRAME[20:] + FRAME]
    assert pieces[1].at - pieces[0].at > 0.015


def test_a_stream_that_ends_inside_a_frame_is_refused(server: FakeUpstream) -> None:
    def cut(wire: Wire) -> None:
        wire.start_stream()
        wire.chunk(FRAME[:-1])
        wire.end()

    server.serve(lambda _, wire: cut(wire))
    with Call(server.port, "GET", "/") as call, pytest.raises(AssertionError, match="inside a frame"):
        list(call.reply().frames())


@pytest.mark.parametrize(
    "raw",
    [
        'data: {"type":"response.created"}',
        'event: response.created\r\ndata: {"type":"response.created"}',
        'event: error\ndata: {"type":"response.created"}',
        'data: {"type":"response.created"}\nevent: response.created',
        'event: response.created\ndata: {"type":"response.created"}\nid: 1',
    ],
)
def test_a_sloppy_frame_is_refused(raw: str) -> None:
    with pytest.raises((AssertionError, ValueError)):
        _ = Frame(0, raw).event


def test_comments_and_done_are_told_apart() -> None:
    assert Frame(0, ": keep-alive").is_comment
    assert Frame(0, "data: [DONE]").is_done
    assert not Frame(0, FRAME.decode().strip()).is_comment
