"""What a worker does beside its requests: writes event logs, beats, asks for cancellations, sweeps.

One thread (a greenlet under gevent), begun with the first response. Streams hand over their frames and go on;
a batch is written every `FLUSH_SECONDS`, for all streams together. What cannot be written waits, within
`MAX_WAITING_BYTES`: first event logs are given up, and marked so, finished answers last of all.

Refuses to know what events are, and how a backend keeps them.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Final

from deepseek_proxy.errors import ProxyError, StoreUnavailable
from deepseek_proxy.store.base import Backend, Ending, LogPiece, StoredResponse
from deepseek_proxy.store.packing import compress

FLUSH_SECONDS: Final = 0.25
"""How old the frames of a background response become before they are written: others may be following."""
PATIENT_FLUSH_SECONDS: Final = 1.0
"""The same for a response whose client reads it itself: fewer, larger pieces cost less."""
FLUSH_BYTES: Final = 64 * 1024
"""So many frames are written at the next occasion, however young they are."""
BEAT_SECONDS: Final = 5.0
BEAT_LAPSES_SECONDS: Final = 30.0
"""A worker is taken for dead when it has not beaten for so long."""
CANCEL_SECONDS: Final = 0.5
SWEEP_SECONDS: Final = 60.0
SWEEP_ROWS: Final = 50
"""How much one sweep removes at a time; what more there is waits for the next round of the loop."""
MAX_WAITING_BYTES: Final = 64 * 1024 * 1024

logger = logging.getLogger(__name__)


class Recording:
    """A response that this worker is making, from `Store.begin` to `finish` or `discard`.

    `cancel_requested` is kept up to date while it is open; `gaps` says that events were lost.
    """

    __slots__ = ("_first", "_keeper", "_parts", "_since", "_size", "cancel_requested", "gaps", "response")

    def __init__(self, keeper: Keeper, response: StoredResponse) -> None:
        self.response = response
        self.cancel_requested = False
        self.gaps = False
        self._keeper = keeper
        self._parts: list[bytes] = []
        self._first = 0
        self._size = 0
        self._since = 0.0

    def append(self, first: int, frames: bytes) -> None:
        """Adds whole frames to the event log; the first has the sequence number `first`. Never waits."""
        if not self._parts:
            self._first = first
            self._since = time.monotonic()
            self._keeper.expect(self)
        self._parts.append(frames)
        self._size += len(frames)
        if self._size > MAX_WAITING_BYTES:  # the keeper does not keep up at all
            self.gaps = True
            self.take()

    def is_due(self, now: float) -> bool:
        """Whether it is time to write what was added."""
        patience = FLUSH_SECONDS if self.response.background else PATIENT_FLUSH_SECONDS
        return now - self._since >= patience or self._size >= FLUSH_BYTES

    def take(self) -> LogPiece | None:
        """What was added since the last time, for the keeper."""
        parts, self._parts, self._size = self._parts, [], 0
        if not parts or self.gaps:
            return None
        return LogPiece(self.response.owner, self.response.id, self._first, compress(b"".join(parts)))


class Keeper:
    def __init__(self, backend: Backend, worker: str, clock: Callable[[], float]) -> None:
        self._backend = backend
        self._worker = worker
        self._clock = clock
        self._lock = threading.Lock()
        """Held while something is written: a response's last events must not come after its end."""
        self._news = threading.Event()
        self._closed = False
        self._thread: threading.Thread | None = None
        self._open: dict[tuple[str, str], Recording] = {}
        self._expected: list[Recording] = []
        self._pieces: dict[Recording, list[LogPiece]] = {}
        self._endings: deque[tuple[StoredResponse, Ending]] = deque()
        self._waiting_bytes = 0
        self._beaten_at = -BEAT_SECONDS
        self._asked_at = 0.0
        # Workers that start together do not sweep together.
        self._swept_at = time.monotonic() - SWEEP_SECONDS * random.uniform(0, 0.75)  # noqa: S311

    # -- for the store

    def open(self, response: StoredResponse) -> Recording:
        recording = self._open[response.owner, response.id] = Recording(self, response)
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="store", daemon=True)
            self._thread.start()
        self._news.set()  # from now on there is something to look after
        return recording

    def beat(self) -> None:
        """Makes sure that this worker counts as alive. Raises `StoreUnavailable`."""
        now = time.monotonic()
        if now - self._beaten_at >= BEAT_SECONDS:
            self._backend.beat(self._worker, self._clock() + BEAT_LAPSES_SECONDS)
            self._beaten_at = now

    def expect(self, recording: Recording) -> None:
        self._expected.append(recording)
        if not self._news.is_set():
            self._news.set()

    def cancel(self, owner: str, id: str) -> None:
        recording = self._open.get((owner, id))
        if recording is not None:
            recording.cancel_requested = True

    def discard(self, recording: Recording) -> None:
        self._open.pop((recording.response.owner, recording.response.id), None)
        recording.take()

    def finish(self, recording: Recording, make: Callable[[list[LogPiece], bool], Ending]) -> bool:
        """Writes the end of a response with the rest of its log. False where it is gone, or has ended.

        Where the store does not answer, it is tried again in the background.
        """
        response = recording.response
        self._open.pop((response.owner, response.id), None)
        with self._lock:
            pieces = self._pieces.pop(recording, [])
            self._waiting_bytes -= sum(len(piece.blob) for piece in pieces)
            last = recording.take()
            ending = make([*pieces, last] if last is not None else pieces, recording.gaps)
            try:
                return self._backend.finish(response.owner, response.id, ending)
            except StoreUnavailable:
                self._wait_with(response, ending)
                return True

    def close(self) -> None:
        """Writes what waits, as far as that goes, and stops."""
        self._closed = True
        self._news.set()
        if self._thread is not None:
            self._thread.join()

    # -- the thread

    def _run(self) -> None:
        while not self._closed:
            self._news.wait(CANCEL_SECONDS if self._open else BEAT_SECONDS)
            if not self._closed and self._expected:
                time.sleep(FLUSH_SECONDS)  # what comes until then goes along
            self._news.clear()
            try:
                self._round()
            except StoreUnavailable:
                time.sleep(FLUSH_SECONDS)
            except Exception:
                logger.exception("the store's upkeep failed")
        with self._lock:
            try:
                self._gather()
                self._write()
            except StoreUnavailable:
                logger.error("%d finished answers were not stored", len(self._endings))

    def _round(self) -> None:
        with self._lock:
            self._gather()
            self._write()
        self._backend.tidy()
        if self._open:
            self.beat()
            self._ask_for_cancels()
        self._sweep()

    def _gather(self) -> None:
        """Takes over what is due."""
        now = time.monotonic()
        expected, self._expected = self._expected, []
        for recording in expected:
            if not (recording.is_due(now) or self._closed):
                self._expected.append(recording)
            elif (piece := recording.take()) is None:
                continue
            elif self._waiting_bytes + len(piece.blob) > MAX_WAITING_BYTES:
                recording.gaps = True
            else:
                self._pieces.setdefault(recording, []).append(piece)
                self._waiting_bytes += len(piece.blob)

    def _write(self) -> None:
        while self._endings:
            response, ending = self._endings[0]
            self._backend.finish(response.owner, response.id, ending)
            self._endings.popleft()
            self._waiting_bytes -= _size(ending)
        if self._pieces:
            pieces = [piece for waiting in self._pieces.values() for piece in waiting]
            self._backend.append(pieces)
            self._waiting_bytes -= sum(len(piece.blob) for piece in pieces)
            self._pieces.clear()

    def _wait_with(self, response: StoredResponse, ending: Ending) -> None:
        if self._waiting_bytes + _size(ending) > MAX_WAITING_BYTES:
            logger.error("response %s is finished, but not stored: the store is down", response.id)
            return
        logger.warning("response %s is finished, and waits for the store to come back", response.id)
        self._endings.append((response, ending))
        self._waiting_bytes += _size(ending)

    def _ask_for_cancels(self) -> None:
        now = time.monotonic()
        if now - self._asked_at < CANCEL_SECONDS or not any(
            recording.response.background for recording in self._open.values()
        ):
            return
        self._asked_at = now
        for key in self._backend.cancels(self._worker):
            self.cancel(*key)

    def _sweep(self) -> None:
        now = time.monotonic()
        if now - self._swept_at < SWEEP_SECONDS:
            return
        self._swept_at = now
        try:
            if self._backend.claim("sweep", self._worker, self._clock() + SWEEP_SECONDS):
                while self._backend.sweep(SWEEP_ROWS) == SWEEP_ROWS and not self._closed:
                    time.sleep(FLUSH_SECONDS)
        except StoreUnavailable:
            raise
        except ProxyError as error:
            logger.warning("the store's sweep failed: %s", error.message)


def _size(ending: Ending) -> int:
    return len(ending.body) + sum(len(piece.blob) for piece in ending.pieces)
