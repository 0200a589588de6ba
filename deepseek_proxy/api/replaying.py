"""A stored response's stream, sent again: from its log, and live for as long as it is still being made.

The log may be written in another process: it is looked at again and again. To what is made in this process
one can listen as well, so that nobody waits for the log to be written. Refuses to know what the events say.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Final

import orjson

from deepseek_proxy.errors import ProxyError
from deepseek_proxy.ops.lifecycle import Drain
from deepseek_proxy.pipeline import Pace
from deepseek_proxy.store.base import Events, StoredResponse
from deepseek_proxy.store.store import Store
from deepseek_proxy.translate import sse
from deepseek_proxy.translate.responses import replay

WAIT_SECONDS: Final = 0.5
"""How long one wait for events takes at most: then the reader is looked after."""
MAX_PIECES: Final = 4096
"""How many writes a listener may be behind; who is slower reads them from the log."""


class Listener:
    """The writes of a running response as they are made, for one reader. `fresh`: from its first one on."""

    def __init__(self, *, fresh: bool) -> None:
        self._pieces: deque[tuple[int, bytes]] = deque()
        self._news = threading.Event()
        self._joined = fresh  # whether the reader has had all that came before the pieces
        self._over = False

    def put(self, number: int, frames: bytes) -> None:
        """Takes a write, whose first event has this number. Never waits."""
        if len(self._pieces) < MAX_PIECES:
            self._pieces.append((number, frames))
        else:
            self._over = True  # what is missing from here on is in the log
        self._news.set()

    def end(self) -> None:
        """No write comes any more."""
        self._over = True
        self._news.set()

    def take(self, after: int) -> tuple[int, bytes] | None:
        """The next write with events behind number `after`, waited for; b"" after a silent while. None where
        the log has to be asked: for what came earlier, or at the end."""
        while True:
            if self._pieces:
                number, frames = self._pieces[0]
                if number > after + 1:
                    return None
                self._joined = True
                self._pieces.popleft()
                if frames := replay.behind(after, number, frames):
                    return max(number, after + 1), frames
            elif self._over or not self._joined:
                return None
            else:
                self._news.clear()
                if not self._pieces and not self._over and not self._news.wait(WAIT_SECONDS):
                    return after + 1, b""


class Replay:
    """The events of a stored response behind the number `after`, each write for itself."""

    def __init__(
        self, store: Store, owner: str, id: str, after: int = -1, listener: Listener | None = None
    ) -> None:
        self._store = store
        self._owner = owner
        self._id = id
        self._after = after
        self._listener = listener
        self.ended = False

    def poll(self) -> bytes:
        """What can be sent now; b"" after a silent while. Raises `StoreUnavailable`."""
        if self._listener is not None:
            taken = self._listener.take(self._after)
            if taken is not None:
                return self._passed(*taken)
        events = self._store.follow(self._owner, self._id, self._after, WAIT_SECONDS)
        return self._from_log(events) if events is not None else self._end()

    def _from_log(self, events: Events) -> bytes:
        frames = b"".join(
            self._passed(max(piece.first, self._after + 1), rest)
            for piece in events.pieces
            if (rest := replay.behind(self._after, piece.first, piece.data))
        )
        if events.ended:
            return self._end(frames)
        if events.abandoned:
            response = self._store.get(self._owner, self._id)
            if response is not None:
                frames += replay.last_words(self._after + 1, abandoned(self._store, response))
            return self._end(frames)
        return frames

    def _passed(self, first: int, frames: bytes) -> bytes:
        if frames:
            self._after = replay.last_number(first, frames)
        return frames

    def _end(self, frames: bytes = b"") -> bytes:
        self.ended = True
        return frames


def abandoned(store: Store, response: StoredResponse) -> dict[str, Any]:
    """The Response object of one that nobody makes any more."""
    log, after = b"", -1
    while (events := store.events(response.owner, response.id, after)) is not None and events.pieces:
        for piece in events.pieces:
            log += replay.behind(after, piece.first, piece.data)
            after = max(after, replay.last_number(piece.first, piece.data))
        if events.ended or events.abandoned:
            break
    return replay.abandoned(orjson.loads(response.body), log)


def stream(source: Replay, pace: Pace, client_gone: Callable[[], bool], drain: Drain) -> Iterator[bytes]:
    """The bytes for a reader, until the end of the response or of this process: one can read on elsewhere."""
    last_sent = time.monotonic()
    while not source.ended and time.monotonic() < drain.ends_at:
        try:
            frames = source.poll()
        except ProxyError:
            return  # the store fails; the reader asks again for what is missing
        now = time.monotonic()
        if frames:
            last_sent = now
            yield frames
        elif client_gone():
            return
        elif now - last_sent >= pace.heartbeat:
            last_sent = now
            yield sse.HEARTBEAT_FRAME
