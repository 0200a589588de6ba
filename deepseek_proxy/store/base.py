"""What is kept between requests: the values, and what a backend has to be able to do with them.

`store.Store` is what the rest of the gateway uses; it gives these values, and leaves keeping them to a
`Backend`: memory, SQLite or Redis. All of them pass the same tests.

- An **owner** is a `Caller.tenant`. What belongs to another owner does not exist.
- An **item** is one input or output item of a conversation: JSON bytes and the id by which it is found again.
- A **chain** is a list of items that only ever grows. Its **head** names all of it: a hash over every item
  from the first. It is kept in **segments**, each once, so that the turns of a conversation share what they
  have in common, and it lives for as long as a response or a later segment refers to it.
- A **response** is made by one **worker**, whose beat says that it is still at it. Without the beat, a
  response that has not ended never will: it is *abandoned*.

Refuses to know what is in the JSON, any dialect, and any wire.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal, Protocol

from deepseek_proxy.errors import BodyTooLarge, StoreFull

Head = bytes
"""The hash that names a chain; None is the empty one."""

ENDED: Final = frozenset({"completed", "incomplete", "failed", "cancelled"})
"""The states of a response in which nothing changes any more."""


# -- values for the gateway ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Item:
    """`json` holds one JSON object on one line, as orjson writes it. An item that came without an id has
    none in `json`, and is given one by whoever stores it first."""

    id: str
    json: bytes


@dataclass(frozen=True, slots=True)
class NewResponse:
    """A response to be made. Its chain is what `base` names, what was `said` in its conversation, and the
    request's own `input`; `body` is its Response object."""

    id: str
    owner: str
    created_at: int
    status: str
    body: bytes
    base: Head | None = None
    input: Sequence[Item] = ()
    conversation: str | None = None
    said: Sequence[Item] = ()
    background: bool = False


@dataclass(frozen=True, slots=True)
class StoredResponse:
    """`input` names what the model was given, of which this request brought the last `own_input` items;
    `head` the same with what it answered, from which the next turn goes on (None before the end, and for a
    chain without items)."""

    id: str
    owner: str
    created_at: int
    expires_at: float
    status: str
    body: bytes
    input: Head | None
    own_input: int
    head: Head | None
    conversation: str | None
    background: bool
    worker: str
    abandoned: bool = False
    """Not ended, and the worker that made it is gone."""
    gaps: bool = False
    """Events of it are missing: they could not be written in time."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Consecutive frames of a stream; the first has the sequence number `first`."""

    first: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Events:
    """Part of a response's event log. `ended` says that nothing comes after `pieces`."""

    pieces: Sequence[Piece]
    ended: bool
    abandoned: bool = False
    gaps: bool = False


@dataclass(frozen=True, slots=True)
class Conversation:
    """`metadata` is a JSON object. It expires the time to live after something was last added or changed."""

    id: str
    owner: str
    created_at: int
    metadata: bytes


@dataclass(frozen=True, slots=True)
class Page:
    items: Sequence[Item]
    has_more: bool


@dataclass(frozen=True, slots=True)
class Usage:
    """What is held, in bytes as stored (compressed, with the rows' overhead)."""

    bytes: int
    responses: int
    conversations: int


class Watcher(Protocol):
    """Is told how the store does (`ops.store_metrics`)."""

    def failed(self) -> None:
        """An operation has failed."""

    def lost(self, kind: Literal["events", "response", "thought"]) -> None:
        """Something was given up: part of an event log, a response that had ended, a thought."""

    def waiting(self, size: int) -> None:
        """So many bytes of this worker wait for being written."""

    def held(self, size: int, responses: int, conversations: int) -> None:
        """What all owners have together."""


class Nobody:
    """Watches nothing."""

    def failed(self) -> None:
        pass

    def lost(self, kind: str) -> None:
        pass

    def waiting(self, size: int) -> None:
        pass

    def held(self, size: int, responses: int, conversations: int) -> None:
        pass


# -- what a backend is given --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Limits:
    """Most bytes of one owner, and of all. What a running answer adds is never refused, only new ones."""

    owner_bytes: int
    total_bytes: int


@dataclass(frozen=True, slots=True)
class Segment:
    """The last items of the chain `head`, the others being `parent`; `blob` is opaque to a backend. `ids` are
    those by which items are found here."""

    head: Head
    parent: Head | None
    ids: Sequence[str]
    blob: bytes


@dataclass(frozen=True, slots=True)
class LogPiece:
    owner: str
    response: str
    first: int
    blob: bytes


@dataclass(frozen=True, slots=True)
class Entry:
    """One item of a conversation."""

    id: str
    blob: bytes


@dataclass(frozen=True, slots=True)
class Ending:
    """What a response becomes. `output` is a segment on top of its input, None where there is no output."""

    status: str
    body: bytes
    output: Segment | None
    pieces: Sequence[LogPiece]
    entries: Sequence[Entry]
    gaps: bool


@dataclass(frozen=True, slots=True)
class Thought:
    """Thinking that a client may not send back, under the id of the call that it led to."""

    owner: str
    name: str
    blob: bytes
    expires_at: float


@dataclass(frozen=True, slots=True)
class Located:
    """The blob of a segment or an entry, and those of the wanted items that are in it."""

    blob: bytes
    ids: Sequence[str]


@dataclass(frozen=True, slots=True)
class RawPage:
    blobs: Sequence[bytes]
    has_more: bool


@dataclass(frozen=True, slots=True)
class RawEvents:
    pieces: Sequence[tuple[int, bytes]]
    ended: bool
    abandoned: bool
    gaps: bool


class Backend(Protocol):
    """Keeps rows. Every method is atomic and safe between threads, and soon raises `StoreUnavailable` where
    the rows cannot be reached.

    Sizes count the blobs and `ROW_BYTES` for each row. What has expired is not there, swept or not.
    """

    name: str

    # chains
    def longest(self, owner: str, heads: Sequence[Head]) -> Head | None:
        """The last of `heads` that is kept."""

    def chain(self, owner: str, head: Head, most_bytes: int) -> list[bytes]:
        """The blobs of a chain, the oldest first. Raises `LookupError` where it is not kept, `BodyTooLarge`
        where there are more bytes."""

    def locate(self, owner: str, ids: Sequence[str], most_bytes: int) -> Sequence[Located]:
        """Where those of the items are that are kept: the latest place of each. Raises `BodyTooLarge`."""

    # responses
    def insert(self, response: StoredResponse, segment: Segment | None) -> bool:
        """Keeps a new response, whose input ends with `segment`, where there is one. False, and nothing is
        done, where its chain has gone in the meantime. Raises `StoreFull`."""

    def response(self, owner: str, id: str) -> StoredResponse | None: ...

    def update(self, owner: str, id: str, status: str, body: bytes) -> bool:
        """False where it has ended or is gone."""

    def finish(self, owner: str, id: str, ending: Ending) -> bool:
        """False, and nothing is done, where it has ended or is gone. Entries go to its conversation, if that
        still exists."""

    def delete(self, owner: str, id: str) -> bool:
        """Also its events, and what of its chain nothing else refers to."""

    # event logs
    def append(self, pieces: Sequence[LogPiece]) -> None:
        """Adds to event logs; pieces of responses that have ended or are gone are dropped."""

    def events(self, owner: str, id: str, after: int, most_bytes: int) -> RawEvents | None:
        """From the piece that holds the event `after + 1` on; at least one piece, where there is any."""

    # workers
    def beat(self, worker: str, seconds: float) -> None:
        """Says that a worker is at it, and will be for so long."""

    def request_cancel(self, owner: str, id: str) -> bool:
        """False where there is no such response, or it has ended."""

    def cancels(self, worker: str) -> Sequence[tuple[str, str]]:
        """(owner, id) of the worker's responses that shall be cancelled and have not ended."""

    # conversations
    def create(self, conversation: Conversation, entries: Sequence[Entry], expires_at: float) -> None:
        """Raises `StoreFull`."""

    def conversation(self, owner: str, id: str) -> Conversation | None: ...

    def change(self, owner: str, id: str, metadata: bytes, expires_at: float) -> bool: ...

    def drop(self, owner: str, id: str) -> bool:
        """Deletes a conversation with its entries."""

    def add(self, owner: str, id: str, entries: Sequence[Entry], expires_at: float) -> bool:
        """An entry whose id the conversation has already stays as it is. Raises `StoreFull`."""

    def entries(
        self, owner: str, id: str, after: str | None, limit: int | None, descending: bool, most_bytes: int
    ) -> RawPage | None:
        """Up to `limit` of them, and to `most_bytes`; at least one, where there is any. None without such a
        conversation; `LookupError` where `after` is not in it."""

    def entry(self, owner: str, id: str, item: str) -> bytes | None: ...

    def remove(self, owner: str, id: str, item: str) -> bool: ...

    # thoughts
    def remember(self, thoughts: Sequence[Thought]) -> None: ...

    def recall(self, owner: str, name: str) -> bytes | None: ...

    # upkeep
    def claim(self, duty: str, worker: str, seconds: float) -> bool:
        """Whether `worker` has `duty` from now on, which nobody else gets for so long."""

    def sweep(self, most: int) -> int:
        """Removes up to `most` of what has expired, or is the oldest where an owner, or all together, have
        more than nine tenths of the limit: thoughts first, then responses that have ended. Returns how many;
        fewer than `most` means that all is done."""

    def tidy(self) -> None:
        """Called now and then: a moment to do what is due and slow."""

    def usage(self, owner: str | None) -> Usage:
        """Of one owner, or of all."""

    def is_there(self) -> bool:
        """Whether there is something to look at, which is not made by looking."""

    def advice(self) -> Sequence[str]:
        """What is wrong with how it is set up, in sentences for its operator."""

    def close(self) -> None: ...


ROW_BYTES: Final = 120
"""What a row counts for besides its blob: keys and indices, about as SQLite has them."""


def page(blobs: Iterable[bytes], limit: int | None, most_bytes: int) -> RawPage:
    """The first of `blobs`: up to `limit`, and to `most_bytes`, but at least one."""
    found: list[bytes] = []
    size = 0
    for blob in blobs:
        size += len(blob)
        if len(found) == limit or (found and size > most_bytes):
            return RawPage(found, True)
        found.append(blob)
    return RawPage(found, False)


def too_large(most_bytes: int) -> BodyTooLarge:
    """The error of what would take too much memory to be read."""
    return BodyTooLarge(f"What this request goes on from, or refers to, is larger than {most_bytes} bytes.")


def full(for_owner: bool) -> StoreFull:
    """The error of an owner, or of a whole store, without room."""
    if for_owner:
        return StoreFull("You have stored as much as is allowed: delete some, or send 'store': false.")
    return StoreFull("The gateway's store is full; send 'store': false to go on without it.")
