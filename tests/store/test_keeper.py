"""What becomes of what a worker has to write when the store is away, slow or full of surprises."""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import pytest
from harness.waiting import wait_for

from deepseek_proxy.errors import StoreUnavailable
from deepseek_proxy.store import keeper
from deepseek_proxy.store.base import Ending, Limits, LogPiece, NewResponse, Thought
from deepseek_proxy.store.keeper import Recording
from deepseek_proxy.store.memory import MemoryBackend
from deepseek_proxy.store.store import Store


class Unsteady(MemoryBackend):
    """A store that is away for as long as the test says."""

    def __init__(self) -> None:
        super().__init__(Limits(1 << 30, 1 << 30))
        self.error: Exception | None = None

    def _reach(self) -> None:
        if self.error is not None:
            raise self.error

    def append(self, pieces: Sequence[LogPiece]) -> None:
        self._reach()
        super().append(pieces)

    def finish(self, owner: str, id: str, ending: Ending) -> bool:
        self._reach()
        return super().finish(owner, id, ending)

    def remember(self, thoughts: Sequence[Thought]) -> None:
        self._reach()
        super().remember(thoughts)

    def delete(self, owner: str, id: str) -> bool:
        self._reach()
        return super().delete(owner, id)

    def sweep(self, most: int) -> int:
        self._reach()
        return super().sweep(most)


class Slow(MemoryBackend):
    """A store that says when it is given events, and takes them when the test lets it."""

    def __init__(self) -> None:
        super().__init__(Limits(1 << 30, 1 << 30))
        self.is_writing, self.go_on = threading.Event(), threading.Event()

    def append(self, pieces: Sequence[LogPiece]) -> None:
        self.is_writing.set()
        assert self.go_on.wait(10)
        super().append(pieces)


@dataclass
class Seen:
    """A watcher that writes down what it is told."""

    losses: list[str] = field(default_factory=list)
    most_waiting: int = 0
    waiting_now: int = 0
    sizes: list[tuple[int, int, int]] = field(default_factory=list)

    def failed(self) -> None:
        pass

    def lost(self, kind: str) -> None:
        self.losses.append(kind)

    def waiting(self, size: int) -> None:
        self.waiting_now = size
        self.most_waiting = max(self.most_waiting, size)

    def held(self, size: int, responses: int, conversations: int) -> None:
        self.sizes.append((size, responses, conversations))


@pytest.fixture
def backend() -> Unsteady:
    return Unsteady()


@pytest.fixture
def slow() -> Slow:
    return Slow()


@pytest.fixture
def seen() -> Seen:
    return Seen()


@pytest.fixture
def store(backend: Unsteady, seen: Seen) -> Iterator[Store]:
    store = Store(backend, watcher=seen)
    yield store
    store.close()


def begin(store: Store, id: str = "resp_1") -> Recording:
    return store.begin(NewResponse(id, "ann", 1, "in_progress", b"{}", background=True))


def log_of(store: Store, id: str = "resp_1") -> bytes:
    events = store.events("ann", id)
    assert events is not None
    return b"".join(piece.data for piece in events.pieces)


def status_of(store: Store, id: str = "resp_1") -> str:
    found = store.get("ann", id)
    assert found is not None
    return found.status


def test_events_wait_for_a_store_that_is_away(store: Store, backend: Unsteady, seen: Seen) -> None:
    recording = begin(store)
    backend.error = StoreUnavailable("away")
    for number in range(5):
        recording.append(number, b"%d" % number)
        time.sleep(0.1)
    wait_for(lambda: seen.most_waiting > 0)
    assert log_of(store) == b""
    backend.error = None
    wait_for(lambda: log_of(store) == b"01234")
    assert seen.losses == []


def test_a_finished_answer_waits_with_its_events(
    store: Store, backend: Unsteady, seen: Seen, caplog: pytest.LogCaptureFixture
) -> None:
    recording = begin(store)
    recording.append(0, b"first ")
    backend.error = StoreUnavailable("away")
    time.sleep(0.5)
    recording.append(1, b"last")
    with caplog.at_level(logging.WARNING):
        assert store.finish(recording, "completed", b'{"n":1}')
    assert "resp_1" in caplog.text
    assert status_of(store) == "in_progress"
    backend.error = None
    wait_for(lambda: status_of(store) == "completed")
    assert log_of(store) == b"first last"
    assert seen.losses == []


def test_what_has_been_written_waits_no_more(store: Store, backend: Unsteady, seen: Seen) -> None:
    """Else a store that was away often would be full of nothing in the end."""
    finished, running = begin(store), begin(store, "resp_2")
    backend.error = StoreUnavailable("away")
    for recording in (finished, running):
        recording.append(0, os.urandom(1000))
    wait_for(lambda: seen.most_waiting > 2000)
    store.finish(finished, "completed", os.urandom(1000))
    backend.error = None
    store.remember("ann", "call_1", os.urandom(1000))
    wait_for(lambda: status_of(store) == "completed" and log_of(store, "resp_2"))
    wait_for(lambda: seen.waiting_now == 0)
    running.append(1, b"more")
    wait_for(lambda: log_of(store, "resp_2").endswith(b"more"))
    wait_for(lambda: seen.waiting_now == 0)


def test_an_answer_ends_behind_events_that_are_just_being_written(slow: Slow) -> None:
    store = Store(slow)
    recording = begin(store)
    recording.append(0, b"first ")
    assert slow.is_writing.wait(10)
    recording.append(1, b"last")
    ending = threading.Thread(target=lambda: store.finish(recording, "completed", b"{}"))
    ending.start()
    time.sleep(0.2)
    assert status_of(store) == "in_progress"
    slow.go_on.set()
    ending.join()
    assert (status_of(store), log_of(store)) == ("completed", b"first last")
    store.close()


def test_closing_writes_what_came_while_something_was_being_written(slow: Slow) -> None:
    store = Store(slow)
    recording = begin(store)
    recording.append(0, b"first ")
    assert slow.is_writing.wait(10)
    recording.append(1, b"last")
    closing = threading.Thread(target=store.close)
    closing.start()
    time.sleep(0.2)
    slow.go_on.set()
    closing.join()
    assert log_of(store) == b"first last"


def test_what_cannot_be_deleted_at_once_is_deleted_later(store: Store, backend: Unsteady) -> None:
    recording = begin(store)
    backend.error = StoreUnavailable("away")
    store.discard(recording)
    assert status_of(store) == "in_progress"
    backend.error = None
    wait_for(lambda: store.get("ann", "resp_1") is None)


def test_closing_writes_also_what_was_not_due_yet(backend: Unsteady) -> None:
    store = Store(backend)
    recording = begin(store)
    recording.append(0, b"young")
    store.close()
    assert log_of(store) == b"young"


def test_closing_writes_what_waits(backend: Unsteady) -> None:
    store = Store(backend)
    recording = begin(store)
    backend.error = StoreUnavailable("away")
    store.finish(recording, "completed", b"{}")
    backend.error = None
    store.close()
    assert status_of(store) == "completed"


def test_what_is_lost_in_the_end_is_said(
    backend: Unsteady, seen: Seen, caplog: pytest.LogCaptureFixture
) -> None:
    store = Store(backend, watcher=seen)
    recording = begin(store)
    backend.error = StoreUnavailable("away")
    store.finish(recording, "completed", b"{}")
    with caplog.at_level(logging.ERROR):
        store.close()
    assert "resp_1" in caplog.text
    assert seen.losses == ["response"]


def test_answers_come_before_what_is_less_dear(caplog: pytest.LogCaptureFixture) -> None:
    class Thoughtless(Unsteady):
        def remember(self, thoughts: Sequence[Thought]) -> None:
            raise ValueError("a mistake of ours")

    backend = Thoughtless()
    store = Store(backend)
    recording = begin(store)
    backend.error = StoreUnavailable("away")
    store.finish(recording, "completed", b"{}")
    store.remember("ann", "call_1", b"x")
    backend.error = None
    store.close()
    assert status_of(store) == "completed"
    assert "the store's upkeep failed" in caplog.text


def test_only_so_much_waits(
    store: Store, backend: Unsteady, seen: Seen, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeper, "MAX_WAITING_BYTES", 50_000)
    recording, finished = begin(store), begin(store, "resp_2")
    backend.error = StoreUnavailable("away")
    for number in range(10):
        recording.append(number, os.urandom(10_000))
        time.sleep(0.3)
    assert recording.gaps
    assert seen.losses[:1] == ["events"]
    assert seen.most_waiting <= 50_000
    store.finish(finished, "completed", os.urandom(20_000))
    store.remember("ann", "call_1", os.urandom(50_000))
    assert sorted(set(seen.losses)) == ["events", "response", "thought"]
    backend.error = None
    assert store.finish(recording, "completed", b"{}")
    found = store.get("ann", "resp_1")
    assert found is not None
    assert (found.status, found.gaps) == ("completed", True)


def test_one_stream_alone_cannot_fill_the_memory(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeper, "MAX_WAITING_BYTES", 50_000)
    recording = begin(store)
    said = [os.urandom(1000) for _ in range(100)]
    for number, frames in enumerate(said):
        recording.append(number, frames)
    assert recording.gaps
    assert store.finish(recording, "completed", b"{}")
    assert b"".join(said).startswith(log_of(store)), "nothing comes behind a gap"


def test_an_answer_that_cannot_be_stored_at_all_is_no_obstacle(
    store: Store, backend: Unsteady, seen: Seen, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = begin(store), begin(store, "resp_2")
    backend.error = StoreUnavailable("away")
    store.finish(first, "completed", b"{}")
    backend.error = ValueError("a mistake of ours")
    with caplog.at_level(logging.ERROR):
        wait_for(lambda: seen.losses == ["response"])
    assert "resp_1 is finished, but cannot be stored" in caplog.text
    assert "ValueError" in caplog.text  # its message is left out, once an application has set up the logs
    backend.error = None
    assert store.finish(second, "completed", b"{}")
    assert status_of(store, "resp_2") == "completed"


def test_events_that_cannot_be_stored_at_all_are_a_gap(store: Store, backend: Unsteady, seen: Seen) -> None:
    recording = begin(store)
    backend.error = ValueError("a mistake of ours")
    recording.append(0, b"lost ")
    wait_for(lambda: seen.losses == ["events"])
    backend.error = None
    recording.append(1, b"last")
    assert store.finish(recording, "completed", b"{}")
    found = store.get("ann", "resp_1")
    assert found is not None
    assert (found.gaps, log_of(store)) == (True, b"")


def test_a_sweep_begins_by_itself_and_says_what_is_held(
    backend: Unsteady, seen: Seen, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeper, "SWEEP_SECONDS", 0.1)
    monkeypatch.setattr(keeper, "SWEEP_ROWS", 3)
    now = [1000.0]
    backend._clock = lambda: now[0]
    store = Store(backend, ttl_days=1, clock=lambda: now[0], watcher=seen)
    for number in range(10):
        store.finish(begin(store, f"resp_{number}"), "completed", b"{}")
    begin(store, "resp_running")
    wait_for(lambda: bool(seen.sizes))
    now[0] += 100_000
    wait_for(lambda: seen.sizes[-1] == (0, 0, 0))
    store.close()


def test_a_store_that_takes_nothing_is_swept(monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(Unsteady):
        swept = False

        def sweep(self, most: int) -> int:
            self.swept = True
            return 0

    monkeypatch.setattr(keeper, "SWEEP_SECONDS", 0.1)
    backend = Full()
    store = Store(backend)
    recording = begin(store)
    backend.error = StoreUnavailable("full")
    recording.append(0, b"waits")
    store.finish(recording, "completed", b"{}")
    backend.swept = False
    wait_for(lambda: backend.swept)
    store.close()


def test_no_frame_is_lost_between_threads(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeper, "FLUSH_SECONDS", 0.001)
    switching = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        recording = begin(store)
        for number in range(50_000):
            recording.append(number, b"%d " % number)
        assert store.finish(recording, "completed", b"{}")
    finally:
        sys.setswitchinterval(switching)
    assert log_of(store).split() == [b"%d" % number for number in range(50_000)]
    events = store.events("ann", "resp_1")
    assert events is not None
    assert len(events.pieces) > 3
    for piece in events.pieces:
        assert piece.data.startswith(b"%d " % piece.first)
