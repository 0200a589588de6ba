"""One response of the Responses dialect and what remembers it: an answer's `Witness` for a `Recorder`.

Refuses to know who remembers, and how the stream is sent.
"""

from __future__ import annotations

from collections.abc import Callable, Generator

from deepseek_proxy.api.recorder import Recorder
from deepseek_proxy.translate import sse
from deepseek_proxy.translate.responses.response import Envelope
from deepseek_proxy.translate.responses.stream import ResponseStream


class Recorded:
    """`make_machine` makes the machine of one attempt, which speaks of the response of `envelope`."""

    def __init__(
        self, envelope: Envelope, make_machine: Callable[[], ResponseStream], recorder: Recorder
    ) -> None:
        self.envelope = envelope
        self.recorder = recorder
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
            self.envelope.store = self.recorder.begin(self.envelope.snapshot("in_progress", []))

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

    def failed(self) -> None:
        """There was no answer."""
        if self._begun:
            self.recorder.drop()

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
