"""What the gateway keeps between requests: responses, their input and event logs, and conversations.

The same over every backend: chains are hashed here, blobs packed, ages and sizes decided. Refuses to know any
dialect: bodies, items and frames are bytes.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final

from deepseek_proxy.errors import BodyTooLarge, StoreUnavailable
from deepseek_proxy.store import packing
from deepseek_proxy.store.base import (
    Backend,
    Conversation,
    Ending,
    Events,
    Head,
    Item,
    LogPiece,
    NewResponse,
    Nobody,
    Page,
    Piece,
    Segment,
    StoredResponse,
    Thought,
    Usage,
    Watcher,
    too_large,
)
from deepseek_proxy.store.keeper import Keeper, Recording

EVENTS_BYTES: Final = 512 * 1024
"""About how much, compressed, `events` returns at a time."""
FOLLOW_SECONDS: Final = 0.2
MAX_ITEMS_BYTES: Final = 48 * 1024 * 1024
_DAY_SECONDS: Final = 86_400
THOUGHT_SECONDS: Final = 7 * _DAY_SECONDS
"""A conversation that has rested for longer goes on without the thinking of its calls."""


class Store:
    """One for each application. Every method but `Recording.append` may wait for the backend, cooperatively
    under gevent, and raises `StoreUnavailable` in bounded time. An owner never sees another's.

    `ttl_days` counts from a response's creation, and from the last change of a conversation. Items come back
    up to `max_items_bytes` of JSON at a time: they are small where they lie, compressed. `clock` gives the
    seconds of the epoch.
    """

    def __init__(
        self,
        backend: Backend,
        *,
        ttl_days: float = 30,
        max_items_bytes: int = MAX_ITEMS_BYTES,
        clock: Callable[[], float] = time.time,
        watcher: Watcher | None = None,
    ) -> None:
        self.backend = backend
        self.worker = secrets.token_hex(8)
        self._ttl_seconds = ttl_days * _DAY_SECONDS
        self._max_items_bytes = max_items_bytes
        self._clock = clock
        self._keeper = Keeper(backend, self.worker, watcher or Nobody())

    # -- responses

    def begin(self, new: NewResponse) -> Recording:
        """Keeps a response that is being made.

        Raises `LookupError` where `new.base` is not kept (any more), and `StoreFull`.
        """
        self._keeper.beat()
        items = [*new.said, *new.input]
        heads = packing.heads(new.base, items)
        while True:
            shared = self.backend.longest(new.owner, heads) or new.base if heads else new.base
            segment = _rest(shared, heads, items, len(new.said))
            response = StoredResponse(
                id=new.id,
                owner=new.owner,
                created_at=new.created_at,
                expires_at=self._clock() + self._ttl_seconds,
                status=new.status,
                body=packing.compress(new.body),
                input=heads[-1] if heads else new.base,
                own_input=len(new.input),
                head=None,
                conversation=new.conversation,
                background=new.background,
                worker=self.worker,
            )
            try:
                is_kept = self.backend.insert(response, segment)
            except StoreUnavailable:
                self._keeper.delete(response)  # an answer that did not come says nothing of what was done
                raise
            if is_kept:
                return self._keeper.open(response)
            if shared == new.base:  # else: what was shared is just gone; look again
                raise LookupError("the chain that this goes on from is not kept")

    def update(self, recording: Recording, status: str, body: bytes) -> bool:
        """Keeps another state of a response that goes on. False where it is gone."""
        response = recording.response
        return self.backend.update(response.owner, response.id, status, packing.compress(body))

    def finish(
        self,
        recording: Recording,
        status: str,
        body: bytes,
        output: Sequence[Item] = (),
        conversation_items: Sequence[Item] = (),
    ) -> bool:
        """Keeps how a response ended, with the last of its events, and adds `conversation_items` to its
        conversation, all at once. It is readable when this returns.

        Returns False where it is gone. Where the store does not answer, that is logged, and tried again in
        the background: nothing is raised.
        """
        base = recording.response.input
        heads = packing.heads(base, output)
        segment = packing.segment(base, heads[-1], output) if heads else None
        packed = packing.compress(body)
        entries = [packing.entry(item) for item in conversation_items]

        def make(pieces: list[LogPiece], gaps: bool) -> Ending:
            return Ending(status, packed, segment, pieces, entries, gaps)

        return self._keeper.finish(recording, make)

    def discard(self, recording: Recording) -> None:
        """Forgets a response that was begun, as if it had never been; as soon as can be where the store does
        not answer. Raises nothing."""
        self._keeper.discard(recording)

    def get(self, owner: str, id: str) -> StoredResponse | None:
        found = self.backend.response(owner, id)
        return replace(found, body=packing.decompress(found.body)) if found is not None else None

    def delete(self, owner: str, id: str) -> bool:
        """False where there is no such response. One that is being made goes on, and is not kept."""
        return self.backend.delete(owner, id)

    # -- items

    def items(self, owner: str, head: Head | None) -> list[Item]:
        """All items of a chain. Raises `LookupError` where it is not kept, and `BodyTooLarge`."""
        blobs = self.backend.chain(owner, head, self._max_items_bytes) if head is not None else ()
        return [item for items in self._unpacked(blobs) for item in items]

    def find_items(self, owner: str, ids: Sequence[str]) -> Mapping[str, Item]:
        """Those of the items that are kept anywhere: in a response's input or output, or a conversation.

        Raises `BodyTooLarge`.
        """
        found: dict[str, Item] = {}
        located = self.backend.locate(owner, ids, self._max_items_bytes)
        for each, items in zip(located, self._unpacked(each.blob for each in located), strict=True):
            wanted = frozenset(each.ids)
            found |= {item.id: item for item in items if item.id in wanted}
        return found

    def _unpacked(self, blobs: Iterable[bytes]) -> Iterator[list[Item]]:
        """The items of each blob. Raises `BodyTooLarge` where they become too many."""
        size = 0
        for blob in blobs:
            items = packing.unpack(blob)
            size += sum(len(item.json) for item in items)
            if size > self._max_items_bytes:
                raise too_large(self._max_items_bytes)
            yield items

    # -- events

    def events(self, owner: str, id: str, after: int = -1) -> Events | None:
        """Events with a sequence number above `after`; the first piece may hold some that are not. None
        without such a response. Not all of a long log at once: ask again until `ended` or `abandoned`."""
        raw = self.backend.events(owner, id, after, EVENTS_BYTES)
        if raw is None:
            return None
        pieces = [Piece(first, packing.decompress(blob)) for first, blob in raw.pieces]
        return Events(pieces, raw.ended, raw.abandoned, raw.gaps)

    def follow(self, owner: str, id: str, after: int, seconds: float) -> Events | None:
        """`events`, after waiting up to `seconds` for some piece that begins above `after`, or the end."""
        until = time.monotonic() + seconds
        while True:
            events = self.events(owner, id, after)
            if events is None or events.ended or events.abandoned:
                return events
            if any(piece.first > after for piece in events.pieces) or time.monotonic() >= until:
                return events
            time.sleep(FOLLOW_SECONDS)

    # -- cancelling

    def request_cancel(self, owner: str, id: str) -> bool:
        """Has `Recording.cancel_requested` become true, in whichever worker it is, within a second. False
        where there is no such response, or it has ended."""
        asked = self.backend.request_cancel(owner, id)
        self._keeper.cancel(owner, id)
        return asked

    # -- conversations

    def create_conversation(self, conversation: Conversation, items: Sequence[Item] = ()) -> None:
        """Raises `StoreFull`."""
        entries = [packing.entry(item) for item in items]
        self.backend.create(conversation, entries, self._expires_at())

    def conversation(self, owner: str, id: str) -> Conversation | None:
        return self.backend.conversation(owner, id)

    def update_conversation(self, owner: str, id: str, metadata: bytes) -> bool:
        """False without such a conversation."""
        return self.backend.change(owner, id, metadata, self._expires_at())

    def delete_conversation(self, owner: str, id: str) -> bool:
        return self.backend.drop(owner, id)

    def add_items(self, owner: str, id: str, items: Sequence[Item]) -> bool:
        """Adds to the end of a conversation; an id that it has already stays as it is. False without such a
        conversation. Raises `StoreFull`."""
        return self.backend.add(owner, id, [packing.entry(item) for item in items], self._expires_at())

    def conversation_items(
        self,
        owner: str,
        id: str,
        *,
        after: str | None = None,
        limit: int | None = None,
        descending: bool = False,
    ) -> Page | None:
        """Items in their order, or the reverse, behind the one with the id `after`: up to `limit`, or fewer
        where they are large; without a limit all, or `BodyTooLarge`. None without such a conversation.
        Raises `LookupError` where `after` is not in it."""
        raw = self.backend.entries(owner, id, after, limit, descending, self._max_items_bytes)
        if raw is None:
            return None
        items: list[Item] = []
        try:
            for (item,) in self._unpacked(raw.blobs):
                items.append(item)
        except BodyTooLarge:
            if limit is None or not items:
                raise
            return Page(items, True)
        if limit is None and raw.has_more:
            raise too_large(self._max_items_bytes)
        return Page(items, raw.has_more)

    def conversation_item(self, owner: str, id: str, item: str) -> Item | None:
        blob = self.backend.entry(owner, id, item)
        return packing.unpack(blob)[0] if blob is not None else None

    def delete_item(self, owner: str, id: str, item: str) -> bool:
        """False where it is not in the conversation, or there is no such conversation."""
        return self.backend.remove(owner, id, item)

    # -- thoughts

    def remember(self, owner: str, name: str, thought: bytes) -> None:
        """Keeps it for `THOUGHT_SECONDS`. Never waits, and is no promise."""
        self._keeper.remember(Thought(owner, name, thought, self._clock() + THOUGHT_SECONDS))

    def recall(self, owner: str, name: str) -> bytes | None:
        return self.backend.recall(owner, name)

    # -- upkeep

    def usage(self, owner: str | None = None) -> Usage:
        """Of one owner, or of all."""
        return self.backend.usage(owner)

    def close(self) -> None:
        """Writes what waits, and lets go of the backend."""
        self._keeper.close()
        self.backend.close()

    def _expires_at(self) -> float:
        return self._clock() + self._ttl_seconds


def _rest(shared: Head | None, heads: Sequence[Head], items: Sequence[Item], said: int) -> Segment | None:
    """The items that are not kept yet, where `shared` is the longest chain that is. The first `said` of them
    are not found by their ids here, but in their conversation, which may live longer."""
    start = heads.index(shared) + 1 if shared in heads else 0
    if start == len(items):
        return None
    return packing.segment(shared, heads[-1], items[start:], elsewhere=max(said - start, 0))
