"""What becomes of one response while it is made, and when it has ended: between an answer and memory.

A `Recorder` is whoever remembers: a store, a connection, or nobody. `Recorded` is the response: the `Witness`
of an answer, which tells the recorder. In the other direction, a `translate.responses.place.Place` says what
came before the request. Refuses to know who remembers, and how a stream is sent.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from typing import Any, Literal, Protocol

from deepseek_proxy.errors import InternalError, ProxyError
from deepseek_proxy.translate import sse
from deepseek_proxy.translate.responses.response import Envelope
from deepseek_proxy.translate.responses.stream import ResponseStream


class Recorder(Protocol):
    """For one response: `begin`, then `record` for what is sent, and in the end either `end` or `drop`.

    `begin` may refuse the request with a `ProxyError`. The others do not raise.
    """

    @property
    def warning(self) -> str | None:
        """What the client has to know: that its response is not stored, although it should have been."""

    def begin(self, response: Mapping[str, Any]) -> bool:
        """The upstream is being asked; `response` is the Response object so far. Returns whether it will be
        kept in a store: the truth that `store` tells."""

    @property
    def record(self) -> Callable[[int, bytes], None] | None:
        """Takes one write of the stream before it is sent: whole frames, the first with this sequence number.
        None where nobody wants them. Asked once, after `begin`; what it gives is called for each token, so it
        may do next to nothing.
        """

    def end(self, response: Mapping[str, Any], number: int, frames: bytes) -> None:
        """The response has ended, in any of its states. `frames` is the last write, which is not sent yet."""

    def drop(self) -> None:
        """The request failed before there was an answer: its client is told by an HTTP error."""


class Forgetful:
    """Keeps nothing."""

    warning = None
    record = None

    def begin(self, response: Mapping[str, Any]) -> bool:
        return False

    def end(self, response: Mapping[str, Any], number: int, frames: bytes) -> None:
        pass

    def drop(self) -> None:
        pass


class Recorded:
    """`make_machine` makes the machine of one attempt, which speaks of the response of `envelope`.

    A response that is accepted before there is an answer is queued first: `proceed` takes its Response object
    when its turn has come. None where nothing is queued.
    """

    def __init__(
        self,
        envelope: Envelope,
        make_machine: Callable[[], ResponseStream],
        recorder: Recorder,
        *,
        proceed: Callable[[Mapping[str, Any]], None] | None = None,
    ) -> None:
        self.envelope = envelope
        self.recorder = recorder
        self._proceed = proceed
        self._make_machine = make_machine
        self._machine: ResponseStream | None = None  # of the latest attempt
        self._begun = False
        self._settled = False

    def make_machine(self) -> ResponseStream:
        self._machine = self._make_machine()
        return self._machine

    def begun(self) -> None:
        """The upstream is being asked, not always for the first time. Raises `ProxyError` to stop it."""
        if not self._begun:
            self._begun = True
            status: Literal["queued", "in_progress"] = "queued" if self._proceed else "in_progress"
            self.envelope.store = self.recorder.begin(self.envelope.snapshot(status, []))

    def proceeded(self) -> None:
        """The upstream has begun to answer what was queued."""
        if self._proceed is not None:
            self._proceed(self.envelope.snapshot("in_progress", []))

    def frames(self, source: Generator[bytes]) -> Generator[bytes]:
        """The frames of a stream, on their way to its reader."""
        machine, record = self._machine, self.recorder.record
        return source if machine is None or record is None else self._recorded(source, machine, record)

    def closed(self) -> None:
        """A stream has been closed. One that has not ended by then was cancelled."""
        if self._machine is not None:
            number = self._machine.next_number
            self._settle(number, self._machine.cancel())

    def completed(self, frames: bytes) -> None:
        """A whole answer is there; `frames` is the stream that it would have been."""
        self._settle(0, frames)

    def failed(self, error: BaseException) -> None:
        """There was no answer, and nobody has been told of a response, but of one that was queued."""
        if not self._begun:
            return
        if self._proceed is None:
            self.recorder.drop()
            return
        machine = self._machine or self.make_machine()
        if not isinstance(error, ProxyError):
            error = InternalError("The gateway failed; its log has the reason.")
        self._settle(0, machine.start() + machine.fail(error))

    def _recorded(
        self, source: Generator[bytes], machine: ResponseStream, record: Callable[[int, bytes], None]
    ) -> Generator[bytes]:
        number = machine.next_number
        try:
            for frames in source:
                # The end is kept before it is sent: who has seen it may ask for the response at once.
                if machine.response is not None:
                    self._settle(number, frames)
                elif frames is not sse.HEARTBEAT_FRAME:
                    record(number, frames)
                number = machine.next_number
                yield frames
        finally:
            source.close()

    def _settle(self, number: int, frames: bytes) -> None:
        machine = self._machine
        if not self._settled and machine is not None and machine.response is not None:
            self._settled = True
            self.recorder.end(machine.response, number, frames)
