"""Joins an upstream call to a dialect's stream machine: bytes that arrived -> bytes to send.

Adds what neither side knows: comments while there is silence, progress events, deadlines, and the one
terminal event however the upstream ends. Refuses to know any dialect, Flask and sockets.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Protocol

from deepseek_proxy.errors import ProxyError, UpstreamError, UpstreamTimeout, UpstreamTruncated
from deepseek_proxy.ops.lifecycle import Drain
from deepseek_proxy.translate import hub, jsontext, sse
from deepseek_proxy.translate.fences import Filter
from deepseek_proxy.translate.metering import Meter
from deepseek_proxy.upstream.call import Clocks


class Machine(Protocol):
    """A dialect's stream machine (DESIGN, "the stream machine")."""

    finish_reason: str | None
    error: ProxyError | None

    def start(self) -> bytes: ...
    def feed(self, delta: hub.Delta) -> bytes: ...
    def heartbeat(self) -> bytes: ...
    def finish(self) -> bytes: ...
    def fail(self, error: ProxyError) -> bytes: ...


class Source(Protocol):
    """Where bytes come from (`upstream.call.Call`)."""

    clocks: Clocks

    @property
    def arrived(self) -> bool: ...
    def read(self) -> bytes | None: ...


class Answer(Protocol):
    """What `stream` sends: a `Relay`, or several of them one after another.

    `poll()` returns what can be sent now, b"" after a silent tick. It does not raise `ProxyError`: a failure
    is frames, too, and ends the answer.
    """

    @property
    def machine(self) -> Machine: ...
    @property
    def clocks(self) -> Clocks: ...
    @property
    def ended(self) -> bool: ...
    @property
    def arrived(self) -> bool:
        """Whether the next `poll()` need not wait."""

    def poll(self) -> bytes: ...
    def fail(self, error: ProxyError) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Pace:
    """How long, in seconds, a client may hear nothing (then: a comment) and nothing but comments."""

    heartbeat: float
    progress: float


@dataclass(slots=True)
class Tally:
    """What one stream did, for the log. Times are of the monotonic clock.

    `at_end` is called before the end goes out: who has seen it may count on what that does.
    """

    first_output: float | None = None
    heartbeats: int = 0
    client_gone: bool = False
    at_end: Callable[[], None] | None = None


class Turn:
    """One answer on its way: upstream bytes through decoder, parser and healer into the machine.

    `meter` reads along, for callers whose tokens are counted.
    """

    def __init__(
        self, machine: Machine, healer: Filter, max_event_bytes: int, meter: Meter | None = None
    ) -> None:
        self.machine = machine
        self._healer = healer
        self._decoder = sse.Decoder(max_event_bytes)
        parse = hub.ChunkParser().parse
        self._parse = parse if meter is None else meter.reading(parse)
        self.ended = False

    def feed(self, received: bytes) -> bytes:
        """The frames for everything in `received`, the terminal ones included if it holds the end."""
        frames: list[bytes] = []
        feed, parse, heal = self.machine.feed, self._parse, self._healer.feed
        try:
            for payload in self._decoder.feed(received):
                if payload == hub.DONE:
                    self.ended = True
                    frames += map(feed, self._healer.finish())
                    frames.append(self.machine.finish())
                    break
                for delta in heal(parse(payload)):
                    frames.append(feed(delta))
        except ProxyError as error:
            frames.append(self.fail(error))
        return b"".join(frames)

    def eof(self) -> bytes:
        """The upstream's answer ended without saying so."""
        return self.fail(UpstreamTruncated("The upstream's answer was cut off before its end."))

    def fail(self, error: ProxyError) -> bytes:
        """The frames of a failure, after the text that the healer still kept back."""
        self.ended = True
        return b"".join(map(self.machine.feed, self._healer.finish())) + self.machine.fail(error)


class Relay:
    """One upstream call, and the turn that its bytes make."""

    __slots__ = ("_source", "_turn", "clocks", "machine")

    def __init__(self, source: Source, turn: Turn) -> None:
        self.machine = turn.machine
        self.clocks = source.clocks
        self._source = source
        self._turn = turn

    @property
    def ended(self) -> bool:
        return self._turn.ended

    @property
    def arrived(self) -> bool:
        return self._source.arrived

    def poll(self) -> bytes:
        try:
            received = self._source.read()
        except ProxyError as error:
            return self._turn.fail(error)
        if received:
            return self._turn.feed(received)
        return b"" if received is None else self._turn.eof()

    def fail(self, error: ProxyError) -> bytes:
        return self._turn.fail(error)


def stream(
    answer: Answer, pace: Pace, tally: Tally, client_gone: Callable[[], bool], drain: Drain
) -> Iterator[bytes]:
    """The bytes for the client, from the first event to the terminal one.

    `client_gone()` is asked while the upstream is silent; if it has left, the iterator just ends. A stream
    that outlives `drain` ends with a failure, be it silent or busy.
    """
    machine, clocks, poll = answer.machine, answer.clocks, answer.poll
    early = machine.start()
    if not answer.arrived:  # else they go along with the answer's own first events
        yield early
        early = b""
    last_data = last_event = last_sent = time.monotonic()
    while not answer.ended:
        fresh = poll()
        frames, early = early + fresh, b""
        now = time.monotonic()
        if now >= drain.ends_at and not answer.ended:
            yield _last(tally, frames + answer.fail(drain.error()))
            return
        if frames:
            if fresh and tally.first_output is None and machine.error is None:
                tally.first_output = now
            last_data = last_event = last_sent = now
            yield _last(tally, frames) if tally.at_end is not None and answer.ended else frames
            continue
        # Nothing to pass on: silence, a comment, or the framing of a chunk.
        if client_gone():
            tally.client_gone = True
            return
        limit = clocks.data_idle if machine.finish_reason is None else clocks.after_finish
        if now - last_data > limit:
            yield _last(tally, answer.fail(_data_timeout(machine, limit)))
        elif now - last_event >= pace.progress and (frames := machine.heartbeat()):
            tally.heartbeats += 1
            last_event = last_sent = now
            yield frames
        elif now - last_sent >= pace.heartbeat:
            tally.heartbeats += 1
            last_sent = now
            yield sse.HEARTBEAT_FRAME


def _last(tally: Tally, frames: bytes) -> bytes:
    """The end of a stream, of which it is time to tell."""
    if tally.at_end is not None:
        tally.at_end()
    return frames


def complete(
    body: bytes,
    machine: Machine,
    healer: Filter,
    tidy: Callable[[str], str] | None = None,
    meter: Meter | None = None,
) -> bytes:
    """Feeds a whole `chat.completion` to a machine, whose `response` is the answer then.

    `tidy` may change the text first, which a stream cannot do. `meter` as in `Turn`. Returns the
    frames that a stream would send.

    Raises `ProxyError` where a stream would end with a failure.
    """
    answer = jsontext.loads_received(body, "an answer")
    if not isinstance(answer, dict):
        raise UpstreamError("The upstream's answer is not a completion.")
    chunk = hub.parse_completion(answer)
    if meter is not None:
        meter.count(chunk)
    if tidy is not None and chunk.content:
        chunk = replace(chunk, content=tidy(chunk.content))
    frames = [machine.feed(delta) for delta in (*healer.feed(chunk), *healer.finish())]
    frames.append(machine.finish())
    if machine.error is not None:
        raise machine.error
    return b"".join(frames)


def _data_timeout(machine: Machine, limit: float) -> UpstreamTimeout:
    if machine.finish_reason is None:
        return UpstreamTimeout(f"The upstream sent nothing but comments for {limit:g} seconds.")
    return UpstreamTimeout(
        f"The upstream did not end its stream within {limit:g} seconds of its finish reason."
    )
