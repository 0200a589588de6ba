"""What a worker does beside its requests: writes event logs, beats, asks for cancellations, sweeps.

One thread (a greenlet under gevent), begun with the first response. Streams hand over their frames and go on;
those of all streams are written together, after a moment. What cannot be written waits, within
`MAX_WAITING_BYTES`; event logs that find no room are given up, and marked so.

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

from deepseek_proxy.errors import StoreUnavailable
from deepseek_proxy.store.base import Backend, Ending, LogPiece, StoredResponse, Thought, Watcher
from deepseek_proxy.store.packing import compress

FLUSH_SECONDS: Final = 0.25
"""How old the frames of a background response become before they are written: others may be following."""
PATIENT_FLUSH_SECONDS: Final = 2.0
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
CLOSE_SECONDS: Final = 10.0
"""How long the last of it may take when the process ends."""
MAX_WAITING_BYTES: Final = 64 * 1024 * 1024
MAX_UNWANTED: Final = 10_000
"""So many responses wait for being deleted; those that are given up go when they expire."""

logger = logging.getLogger(__name__)


class Recording:
    """A response that this worker is making, from `Store.begin` to `finish` or `discard`.

    `cancel_requested` is kept up to date while it is open; `gaps` says that events were lost.

    One thread adds frames, others take them. They work on lists, whose single operations are atomic, so that
    a token costs no lock; what is added while something is taken stays for the next time. Numbers and frames
    have a list each: a pair for each token would keep the garbage collector busy.
    """

    __slots__ = ("_firsts", "_keeper", "_parts", "_since", "_size", "cancel_requested", "gaps", "response")

    def __init__(self, keeper: Keeper, response: StoredResponse) -> None:
        self.response = response
        self.cancel_requested = False
        self.gaps = False
        self._keeper = keeper
        self._firsts: list[int] = []
        self._parts: list[bytes] = []
        self._size = 0
        self._since = 0.0

    def append(self, first: int, frames: bytes) -> None:
        """Adds whole frames to the event log; the first has the sequence number `first`. Never waits."""
        parts = self._parts
        self._firsts.append(first)
        parts.append(frames)
        self._size += len(frames)
        if len(parts) == 1:
            self._since = time.monotonic()
            self._keeper.expect(self)
        elif self._size > MAX_WAITING_BYTES:  # the keeper does not keep up at all
            self.gaps = True
            self.take()

    def is_due(self, now: float) -> bool:
        """Whether it is time to write what was added."""
        patience = FLUSH_SECONDS if self.response.background else PATIENT_FLUSH_SECONDS
        return now - self._since >= patience or self._size >= FLUSH_BYTES

    def take(self) -> LogPiece | None:
        """What was added since the last time; None where that is nothing, or has gaps."""
        count = len(self._parts)
        if not count:
            return None
        first, frames = self._firsts[0], b"".join(self._parts[:count])
        del self._parts[:count]
        del self._firsts[:count]
        self._size = 0
        if self.gaps:
            return None
        return LogPiece(self.response.owner, self.response.id, first, compress(frames))

    def has_more(self) -> bool:
        """Whether something was added while something was taken."""
        return bool(self._parts)


class Keeper:
    def __init__(self, backend: Backend, worker: str, watcher: Watcher) -> None:
        self._backend = backend
        self._watcher = watcher
        self._worker = worker
        self._changes = threading.Condition()
        """Of `_pieces` and `_being_written`, which streams that end look at, too."""
        self._news = threading.Event()
        self._closed = False
        self._thread: threading.Thread | None = None
        self._open: dict[tuple[str, str], Recording] = {}
        self._expected: list[Recording] = []
        self._pieces: dict[Recording, list[LogPiece]] = {}
        self._being_written: dict[Recording, list[LogPiece]] = {}
        self._endings: deque[tuple[StoredResponse, Ending]] = deque()
        self._unwanted: deque[tuple[str, str]] = deque(maxlen=MAX_UNWANTED)
        self._waiting_bytes = 0
        self._thoughts: list[Thought] = []
        self._beaten_at = -BEAT_SECONDS
        self._asked_at = 0.0
        self._sweeping = False
        # Workers that start together do not sweep together.
        self._swept_at = time.monotonic() - SWEEP_SECONDS * random.uniform(0, 0.75)  # noqa: S311

    # -- for the store

    def open(self, response: StoredResponse) -> Recording:
        recording = self._open[response.owner, response.id] = Recording(self, response)
        self._wake()
        return recording

    def beat(self) -> None:
        """Makes sure that this worker counts as alive. Raises `StoreUnavailable`."""
        now = time.monotonic()
        if now - self._beaten_at >= BEAT_SECONDS:
            self._backend.beat(self._worker, BEAT_LAPSES_SECONDS)
            self._beaten_at = now

    def expect(self, recording: Recording) -> None:
        """Has the keeper come for what `recording` was given. Called for each piece, not for each frame."""
        self._expected.append(recording)
        if len(self._expected) == 1:
            self._news.set()

    def remember(self, thought: Thought) -> None:
        """Writes a thought as soon as can be, without waiting for that. Given up where the store is down."""
        with self._changes:
            room = self._waiting_bytes + len(thought.blob) <= MAX_WAITING_BYTES
            if room:
                self._thoughts.append(thought)
                self._waiting_bytes += len(thought.blob)
        if room:
            self._wake()
        else:
            self._watcher.lost("thought")

    def cancel(self, owner: str, id: str) -> None:
        recording = self._open.get((owner, id))
        if recording is not None:
            recording.cancel_requested = True

    def discard(self, recording: Recording) -> None:
        """Has a response deleted that was opened."""
        self._open.pop((recording.response.owner, recording.response.id), None)
        recording.take()
        self.delete(recording.response)

    def delete(self, response: StoredResponse) -> None:
        """Has a response deleted that nobody was told of, or that may not even be there. Where the store does
        not answer, it is tried again in the background: while this worker lives, nobody else would."""
        try:
            self._backend.delete(response.owner, response.id)
        except StoreUnavailable:
            self._unwanted.append((response.owner, response.id))
            self._wake()

    def finish(self, recording: Recording, make: Callable[[list[LogPiece], bool], Ending]) -> bool:
        """Writes the end of a response with the rest of its log. False where it is gone, or has ended.

        Where the store does not answer, it is tried again in the background.
        """
        response = recording.response
        self._open.pop((response.owner, response.id), None)
        with self._changes:
            while recording in self._being_written:  # else its last events could come after its end
                self._changes.wait()
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
            self._thread.join(CLOSE_SECONDS)

    # -- the thread

    def _wake(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="store", daemon=True)
            self._thread.start()
        self._news.set()

    def _run(self) -> None:
        while not self._closed:
            self._news.wait(self._pause())
            self._news.clear()
            try:
                self._round()
            except StoreUnavailable:
                time.sleep(FLUSH_SECONDS)
            except Exception:
                logger.exception("the store's upkeep failed")
        try:
            self._gather()
            self._write()
        except StoreUnavailable:
            pass
        except Exception:
            logger.exception("the store's upkeep failed")
        for response, _ in self._endings:
            logger.error("response %s is finished, but not stored: the store is down", response.id)
            self._watcher.lost("response")

    def _pause(self) -> float:
        """How long nothing needs doing, if nothing happens."""
        if self._expected or self._pieces or self._sweeping:
            return FLUSH_SECONDS
        return CANCEL_SECONDS if self._open or self._endings or self._unwanted else BEAT_SECONDS

    def _round(self) -> None:
        self._gather()
        self._watcher.waiting(self._waiting_bytes)
        try:
            self._write()
        finally:  # a store that is full takes nothing before it is swept
            if self._open:
                self.beat()
                self._ask_for_cancels()
            self._sweep()
        self._backend.tidy()

    def _gather(self) -> None:
        """Takes over what is due."""
        now = time.monotonic()
        with self._changes:
            expected, self._expected = self._expected, []
            for recording in expected:
                if recording.is_due(now) or self._closed:
                    self._take_over(recording)
                if recording.has_more():
                    self._expected.append(recording)

    def _take_over(self, recording: Recording) -> None:
        piece = recording.take()
        if piece is None:
            return
        if self._waiting_bytes + len(piece.blob) > MAX_WAITING_BYTES:
            recording.gaps = True
            self._watcher.lost("events")
        else:
            self._pieces.setdefault(recording, []).append(piece)
            self._waiting_bytes += len(piece.blob)

    def _write(self) -> None:
        self._write_endings()
        self._write_pieces()
        self._write_thoughts()
        while self._unwanted:
            self._backend.delete(*self._unwanted[0])
            self._unwanted.popleft()

    def _write_thoughts(self) -> None:
        with self._changes:
            thoughts, self._thoughts = self._thoughts, []
            self._waiting_bytes -= sum(len(thought.blob) for thought in thoughts)
        if thoughts:
            try:
                self._backend.remember(thoughts)
            except StoreUnavailable:
                self._watcher.lost("thought")
                raise

    def _write_endings(self) -> None:
        while self._endings:
            response, ending = self._endings[0]
            try:
                self._backend.finish(response.owner, response.id, ending)
            except StoreUnavailable:
                raise
            except Exception:
                logger.exception("response %s is finished, but cannot be stored", response.id)
                self._watcher.lost("response")
            with self._changes:
                self._endings.popleft()
                self._waiting_bytes -= _size(ending)

    def _write_pieces(self) -> None:
        with self._changes:
            written = self._being_written = self._pieces
            self._pieces = {}
        if not written:
            return
        pieces = [piece for waiting in written.values() for piece in waiting]
        again = False
        try:
            self._backend.append(pieces)
        except StoreUnavailable:
            again = True
            raise
        except Exception:
            for recording in written:
                recording.gaps = True
            self._watcher.lost("events")
            raise
        finally:
            with self._changes:
                if again:
                    self._pieces = written  # only this thread adds to them
                else:
                    self._waiting_bytes -= sum(len(piece.blob) for piece in pieces)
                self._being_written = {}
                self._changes.notify_all()

    def _wait_with(self, response: StoredResponse, ending: Ending) -> None:
        """Keeps what a store that is down cannot take."""
        with self._changes:
            room = self._waiting_bytes + _size(ending) <= MAX_WAITING_BYTES
            if room:
                self._endings.append((response, ending))
                self._waiting_bytes += _size(ending)
        if room:
            logger.warning("response %s is finished, and waits for the store to come back", response.id)
        else:
            logger.error("response %s is finished, but not stored: the store is down", response.id)
            self._watcher.lost("response")

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
        """Now and then one of the workers removes what is too old or too much, a little in each round."""
        now = time.monotonic()
        if not self._sweeping and now - self._swept_at < SWEEP_SECONDS:
            return
        self._swept_at = now
        if self._sweeping or self._backend.claim("sweep", self._worker, SWEEP_SECONDS):
            self._sweeping = self._backend.sweep(SWEEP_ROWS) >= SWEEP_ROWS
        held = self._backend.usage(None)
        self._watcher.held(held.bytes, held.responses, held.conversations)


def _size(ending: Ending) -> int:
    size = len(ending.body) + (len(ending.output.blob) if ending.output is not None else 0)
    size += sum(len(entry.blob) for entry in ending.entries)
    return size + sum(len(piece.blob) for piece in ending.pieces)
