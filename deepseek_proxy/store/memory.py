"""The store in this process's memory: for one worker, for tests, and gone at a restart.

What every backend has to do, in the fewest words (`base.Backend`). Refuses to know files and sockets.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice

from deepseek_proxy.store.base import (
    ENDED,
    ROW_BYTES,
    Conversation,
    Ending,
    Entry,
    Head,
    Limits,
    Located,
    LogPiece,
    RawEvents,
    RawPage,
    Segment,
    StoredResponse,
    Thought,
    Usage,
    full,
    page,
    too_large,
)

_Key = tuple[str, str]  # owner, id
_TakeOut = Callable[[str, str], None]


@dataclass(slots=True)
class _Kept:
    segment: Segment
    references: int = 0

    @property
    def size(self) -> int:
        return ROW_BYTES * (1 + len(self.segment.ids)) + len(self.segment.blob)


@dataclass(slots=True)
class _Made:
    response: StoredResponse
    cancel: bool = False
    log: list[tuple[int, bytes]] = field(default_factory=list)

    @property
    def size(self) -> int:
        return ROW_BYTES + len(self.response.body) + sum(ROW_BYTES + len(blob) for _, blob in self.log)


@dataclass(slots=True)
class _Talk:
    conversation: Conversation
    expires_at: float
    entries: dict[str, bytes] = field(default_factory=dict)

    @property
    def size(self) -> int:
        return (
            ROW_BYTES
            + len(self.conversation.metadata)
            + sum(ROW_BYTES + len(blob) for blob in self.entries.values())
        )


class MemoryBackend:
    """`clock` gives the seconds of the epoch."""

    name = "memory"

    def __init__(self, limits: Limits, clock: Callable[[], float] = time.time) -> None:
        self._limits = limits
        self._clock = clock
        self._lock = threading.RLock()
        self._segments: dict[tuple[str, Head], _Kept] = {}
        self._places: dict[_Key, bytes] = {}  # item id -> blob
        self._responses: dict[_Key, _Made] = {}
        self._talks: dict[_Key, _Talk] = {}
        self._thoughts: dict[_Key, Thought] = {}
        self._beats: dict[str, float] = {}
        self._duties: dict[str, tuple[str, float]] = {}
        self._bytes: defaultdict[str, int] = defaultdict(int)

    # -- chains

    def longest(self, owner: str, heads: Sequence[Head]) -> Head | None:
        with self._lock:
            return next((head for head in reversed(heads) if (owner, head) in self._segments), None)

    def chain(self, owner: str, head: Head, most_bytes: int) -> list[bytes]:
        blobs = []
        with self._lock:
            at: Head | None = head
            while at is not None:
                segment = self._segments[owner, at].segment
                blobs.append(segment.blob)
                at = segment.parent
        if sum(map(len, blobs)) > most_bytes:
            raise too_large(most_bytes)
        return blobs[::-1]

    def locate(self, owner: str, ids: Sequence[str], most_bytes: int) -> Sequence[Located]:
        found: defaultdict[bytes, list[str]] = defaultdict(list)
        with self._lock:
            for id in ids:
                if (owner, id) in self._places:
                    found[self._places[owner, id]].append(id)
        if sum(map(len, found)) > most_bytes:
            raise too_large(most_bytes)
        return [Located(blob, held) for blob, held in found.items()]

    def _keep(self, owner: str, segment: Segment) -> None:
        if (owner, segment.head) in self._segments:
            return
        if segment.parent is not None:
            self._segments[owner, segment.parent].references += 1
        kept = self._segments[owner, segment.head] = _Kept(segment)
        self._bytes[owner] += kept.size
        for id in segment.ids:
            self._places[owner, id] = segment.blob

    def _let_go(self, owner: str, head: Head | None) -> None:
        while head is not None:
            kept = self._segments[owner, head]
            kept.references -= 1
            if kept.references:
                return
            del self._segments[owner, head]
            self._bytes[owner] -= kept.size
            self._forget(owner, kept.segment.ids, kept.segment.blob)
            head = kept.segment.parent

    def _forget(self, owner: str, ids: Sequence[str], blob: bytes) -> None:
        for id in ids:
            if self._places.get((owner, id)) is blob:
                del self._places[owner, id]

    # -- responses

    def insert(self, response: StoredResponse, segment: Segment | None) -> bool:
        owner = response.owner
        with self._lock:
            base = segment.parent if segment is not None else response.input
            if base is not None and (owner, base) not in self._segments:
                return False
            self._make_room(owner, len(response.body) + (len(segment.blob) if segment else 0))
            if segment is not None:
                self._keep(owner, segment)
            if response.input is not None:
                self._segments[owner, response.input].references += 1
            made = self._responses[owner, response.id] = _Made(response)
            self._bytes[owner] += made.size
            return True

    def response(self, owner: str, id: str) -> StoredResponse | None:
        with self._lock:
            made = self._made(owner, id)
            return replace(made.response, abandoned=self._is_abandoned(made)) if made is not None else None

    def update(self, owner: str, id: str, status: str, body: bytes) -> bool:
        with self._lock:
            made = self._running(owner, id)
            if made is None:
                return False
            self._bytes[owner] += len(body) - len(made.response.body)
            made.response = replace(made.response, status=status, body=body)
            return True

    def finish(self, owner: str, id: str, ending: Ending) -> bool:
        with self._lock:
            made = self._running(owner, id)
            if made is None:
                return False
            self.append(ending.pieces)
            head = made.response.input
            if ending.output is not None:
                self._keep(owner, ending.output)
                head = ending.output.head
            if head is not None:
                self._segments[owner, head].references += 1
            self._bytes[owner] += len(ending.body) - len(made.response.body)
            made.response = replace(
                made.response, status=ending.status, body=ending.body, head=head, gaps=ending.gaps
            )
            talk = self._talk(owner, made.response.conversation or "")
            if talk is not None:
                self._extend(talk, ending.entries, made.response.expires_at)
            return True

    def delete(self, owner: str, id: str) -> bool:
        with self._lock:
            if self._made(owner, id) is None:
                return False
            self._remove(owner, id)
            return True

    def _remove(self, owner: str, id: str) -> None:
        made = self._responses.pop((owner, id))
        self._bytes[owner] -= made.size
        self._let_go(owner, made.response.head)
        self._let_go(owner, made.response.input)

    def _made(self, owner: str, id: str) -> _Made | None:
        made = self._responses.get((owner, id))
        return made if made is not None and made.response.expires_at > self._clock() else None

    def _running(self, owner: str, id: str) -> _Made | None:
        made = self._made(owner, id)
        return made if made is not None and made.response.status not in ENDED else None

    def _is_abandoned(self, made: _Made) -> bool:
        response = made.response
        return response.status not in ENDED and self._beats.get(response.worker, 0) <= self._clock()

    def _make_room(self, owner: str, size: int) -> None:
        if self._bytes[owner] + size > self._limits.owner_bytes:
            raise full(for_owner=True)
        if sum(self._bytes.values()) + size > self._limits.total_bytes:
            raise full(for_owner=False)

    # -- event logs

    def append(self, pieces: Sequence[LogPiece]) -> None:
        with self._lock:
            for piece in pieces:
                made = self._running(piece.owner, piece.response)
                if made is not None:
                    made.log.append((piece.first, piece.blob))
                    self._bytes[piece.owner] += ROW_BYTES + len(piece.blob)

    def events(self, owner: str, id: str, after: int, most_bytes: int) -> RawEvents | None:
        with self._lock:
            made = self._made(owner, id)
            if made is None:
                return None
            start = max(sum(first <= after + 1 for first, _ in made.log) - 1, 0)
            pieces: list[tuple[int, bytes]] = []
            size = 0
            for piece in made.log[start:]:
                if pieces and size + len(piece[1]) > most_bytes:
                    break
                pieces.append(piece)
                size += len(piece[1])
            rest = len(made.log) - start - len(pieces)
            ended = made.response.status in ENDED and not rest
            return RawEvents(pieces, ended, self._is_abandoned(made) and not rest, made.response.gaps)

    # -- workers

    def beat(self, worker: str, seconds: float) -> None:
        with self._lock:
            self._beats[worker] = self._clock() + seconds

    def request_cancel(self, owner: str, id: str) -> bool:
        with self._lock:
            made = self._running(owner, id)
            if made is None:
                return False
            made.cancel = True
            return True

    def cancels(self, worker: str) -> Sequence[tuple[str, str]]:
        with self._lock:
            return [
                key
                for key, made in self._responses.items()
                if made.cancel and made.response.worker == worker and made.response.status not in ENDED
            ]

    # -- conversations

    def create(self, conversation: Conversation, entries: Sequence[Entry], expires_at: float) -> None:
        with self._lock:
            self._make_room(conversation.owner, sum(len(entry.blob) for entry in entries))
            talk = self._talks[conversation.owner, conversation.id] = _Talk(conversation, expires_at)
            self._bytes[conversation.owner] += talk.size
            self._extend(talk, entries, expires_at)

    def conversation(self, owner: str, id: str) -> Conversation | None:
        with self._lock:
            talk = self._talk(owner, id)
            return talk.conversation if talk is not None else None

    def change(self, owner: str, id: str, metadata: bytes, expires_at: float) -> bool:
        with self._lock:
            talk = self._talk(owner, id)
            if talk is None:
                return False
            self._bytes[owner] += len(metadata) - len(talk.conversation.metadata)
            talk.conversation = replace(talk.conversation, metadata=metadata)
            talk.expires_at = expires_at
            return True

    def drop(self, owner: str, id: str) -> bool:
        with self._lock:
            if self._talk(owner, id) is None:
                return False
            self._end(owner, id)
            return True

    def add(self, owner: str, id: str, entries: Sequence[Entry], expires_at: float) -> bool:
        with self._lock:
            talk = self._talk(owner, id)
            if talk is None:
                return False
            self._make_room(owner, sum(len(entry.blob) for entry in entries))
            self._extend(talk, entries, expires_at)
            return True

    def entries(
        self, owner: str, id: str, after: str | None, limit: int | None, descending: bool, most_bytes: int
    ) -> RawPage | None:
        with self._lock:
            talk = self._talk(owner, id)
            if talk is None:
                return None
            ids = list(reversed(talk.entries) if descending else talk.entries)
            if after is not None and after not in talk.entries:
                raise LookupError(after)
            start = ids.index(after) + 1 if after is not None else 0
            return page((talk.entries[item] for item in ids[start:]), limit, most_bytes)

    def entry(self, owner: str, id: str, item: str) -> bytes | None:
        with self._lock:
            talk = self._talk(owner, id)
            return talk.entries.get(item) if talk is not None else None

    def remove(self, owner: str, id: str, item: str) -> bool:
        with self._lock:
            talk = self._talk(owner, id)
            if talk is None or item not in talk.entries:
                return False
            blob = talk.entries.pop(item)
            self._bytes[owner] -= ROW_BYTES + len(blob)
            self._forget(owner, [item], blob)
            return True

    def _talk(self, owner: str, id: str) -> _Talk | None:
        talk = self._talks.get((owner, id))
        return talk if talk is not None and talk.expires_at > self._clock() else None

    def _extend(self, talk: _Talk, entries: Sequence[Entry], expires_at: float) -> None:
        owner = talk.conversation.owner
        talk.expires_at = expires_at
        for entry in entries:
            if entry.id not in talk.entries:
                talk.entries[entry.id] = self._places[owner, entry.id] = entry.blob
                self._bytes[owner] += ROW_BYTES + len(entry.blob)

    def _end(self, owner: str, id: str) -> None:
        talk = self._talks.pop((owner, id))
        self._bytes[owner] -= talk.size
        for item, blob in talk.entries.items():
            self._forget(owner, [item], blob)

    # -- thoughts

    def remember(self, thoughts: Sequence[Thought]) -> None:
        with self._lock:
            for thought in thoughts:
                self._forget_thought(thought.owner, thought.name)
                self._thoughts[thought.owner, thought.name] = thought
                self._bytes[thought.owner] += ROW_BYTES + len(thought.blob)

    def recall(self, owner: str, name: str) -> bytes | None:
        with self._lock:
            thought = self._thoughts.get((owner, name))
            return thought.blob if thought is not None and thought.expires_at > self._clock() else None

    def _forget_thought(self, owner: str, name: str) -> None:
        thought = self._thoughts.pop((owner, name), None)
        if thought is not None:
            self._bytes[owner] -= ROW_BYTES + len(thought.blob)

    # -- upkeep

    def claim(self, duty: str, worker: str, seconds: float) -> bool:
        with self._lock:
            holder, lapses = self._duties.get(duty, (worker, 0))
            if holder != worker and lapses > self._clock():
                return False
            self._duties[duty] = (worker, self._clock() + seconds)
            return True

    def sweep(self, most: int) -> int:
        with self._lock:
            now = self._clock()
            self._beats = {worker: until for worker, until in self._beats.items() if until > now}
            gone = list(islice(self._expired(now), most))
            for take_out, key in gone:
                take_out(*key)
            done = len(gone)
            for take_out, key in islice(self._superfluous(), most - done):
                take_out(*key)
                done += 1
            return done

    def _expired(self, now: float) -> Iterator[tuple[_TakeOut, _Key]]:
        yield from (
            (self._remove, key) for key, made in self._responses.items() if made.response.expires_at <= now
        )
        yield from ((self._end, key) for key, talk in self._talks.items() if talk.expires_at <= now)
        yield from (
            (self._forget_thought, key)
            for key, thought in self._thoughts.items()
            if thought.expires_at <= now
        )

    def _superfluous(self) -> Iterator[tuple[_TakeOut, _Key]]:
        """The oldest thoughts, then the oldest responses that have ended, while there is too much."""
        for key in list(self._thoughts):
            if self._has_too_much(key[0]):
                yield self._forget_thought, key
        for key, made in list(self._responses.items()):
            if self._has_too_much(key[0]) and (made.response.status in ENDED or self._is_abandoned(made)):
                yield self._remove, key

    def _has_too_much(self, owner: str) -> bool:
        return (
            self._bytes[owner] > 0.9 * self._limits.owner_bytes
            or sum(self._bytes.values()) > 0.9 * self._limits.total_bytes
        )

    def tidy(self) -> None:
        pass

    def usage(self, owner: str | None) -> Usage:
        with self._lock:
            return Usage(
                sum(size for name, size in self._bytes.items() if owner in (None, name)),
                sum(owner in (None, name) for name, _ in self._responses),
                sum(owner in (None, name) for name, _ in self._talks),
            )

    def is_there(self) -> bool:
        return True

    def advice(self) -> Sequence[str]:
        return ()

    def close(self) -> None:
        pass
