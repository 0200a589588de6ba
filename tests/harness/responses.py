"""What one Responses call told its client: a stream read to its end and judged, or an error envelope.

Joins `harness.client` and `harness.responses_grammar`, so that every test that reads a stream also checks its
form, whatever else the test is about.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from harness.client import Frame, Piece, Reply
from harness.responses_grammar import assert_responses_grammar


@dataclass(frozen=True)
class Told:
    """One whole stream. `final` is the Response of its terminal event."""

    frames: list[Frame]
    events: list[dict[str, Any]]
    final: Mapping[str, Any]

    @property
    def text(self) -> str:
        """The answer as a client saw it grow."""
        deltas = (event["delta"] for event in self.events if event["type"] == "response.output_text.delta")
        return "".join(deltas)

    @property
    def comments(self) -> list[Frame]:
        return [frame for frame in self.frames if frame.is_comment]

    def count(self, kind: str) -> int:
        return sum(event["type"] == kind for event in self.events)


def read_stream(reply: Reply) -> Told:
    """Reads a stream to its end: right headers, whole frames in each write, good grammar, `[DONE]` last."""
    frames = read_frames(reply)
    assert frames[-1].is_done, f"the last frame is {frames[-1].raw!r}"
    events = [frame.event for frame in frames[:-1] if not frame.is_comment]
    return Told(frames, events, assert_responses_grammar(events))


def read_frames(reply: Reply) -> list[Frame]:
    """The frames of a stream of any dialect: right headers, and whole frames in each write."""
    assert reply.status == 200, reply.body[:1000]
    assert_stream_headers(reply)
    frames = list(reply.frames())
    if "chunked" in reply.headers.get("transfer-encoding", ""):
        assert_whole_frames(reply.seen)
    return frames


def assert_stream_headers(reply: Reply) -> None:
    """What keeps proxies between us and the client from holding frames back."""
    assert reply.headers["content-type"].startswith("text/event-stream")
    assert reply.headers["cache-control"] == "no-cache"
    assert reply.headers["x-accel-buffering"] == "no"


def assert_whole_frames(pieces: list[Piece]) -> None:
    """Some clients lose an event whose blank line comes in another write than its data."""
    torn = [piece.data[-60:] for piece in pieces if not piece.data.endswith(b"\n\n")]
    assert not torn, f"a write ended inside a frame: {torn[0]!r}"


def read_error(reply: Reply, status: int, code: str | None, param: str | None = None) -> dict[str, Any]:
    """Checks an HTTP error in OpenAI's envelope, and returns its inside."""
    assert reply.status == status, reply.body[:1000]
    assert reply.headers["content-type"].startswith("application/json")
    body = reply.json()
    assert body.keys() == {"error"}
    error: dict[str, Any] = body["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert error["message"]
    assert error["type"]
    assert (error["code"], error["param"]) == (code, param), error
    return error
