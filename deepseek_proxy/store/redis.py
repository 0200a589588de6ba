"""The store in a Redis or Valkey that several machines share (`base.Backend`).

Every method is one Lua script (`redis_scripts`). The server must not evict keys (`maxmemory-policy
noeviction`, its default), and it keeps what its own persistence keeps. Refuses to know how it is reached
(`redis_server`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from deepseek_proxy.errors import StoreUnavailable
from deepseek_proxy.store.base import (
    ENDED,
    Conversation,
    Ending,
    Entry,
    Head,
    Limits,
    Located,
    LogPiece,
    Nobody,
    RawEvents,
    RawPage,
    Segment,
    StoredResponse,
    Thought,
    Usage,
    Watcher,
    full,
    too_large,
)
from deepseek_proxy.store.redis_scripts import COMMON, SCRIPTS
from deepseek_proxy.store.redis_server import RedisServer

_PREFIX: Final = "deepseek-proxy:store:"
_PIECES_AT_ONCE: Final = 64


class RedisBackend:
    """`url` is a `redis://`, `rediss://` or `unix://` one; `clock` takes the place of the server's own.

    Raises `ValueError` for what is none. Nothing is connected before it is used.
    """

    name = "redis"

    def __init__(
        self,
        url: str,
        limits: Limits,
        clock: Callable[[], float] | None = None,
        watcher: Watcher | None = None,
    ) -> None:
        self._limits = limits
        self._watcher = watcher or Nobody()
        scripts = {name: COMMON + body for name, body in SCRIPTS.items()}
        self._server = RedisServer(url, _PREFIX, scripts, self._failed, clock=clock)

    def close(self) -> None:
        self._server.close()

    def is_there(self) -> bool:
        return True

    def advice(self) -> Sequence[str]:
        found = self._server.info()
        advice = []
        version = str(found.get("redis_version", "0"))
        if tuple(int(part) for part in version.split(".")[:2]) < (6, 2):
            advice.append(f"Redis {version} is too old: 6.2 or later is needed")
        if (policy := found.get("maxmemory_policy", "noeviction")) != "noeviction":
            advice.append(
                f"its maxmemory-policy is {policy}: with anything but noeviction, conversations get holes"
            )
        return advice

    # -- chains

    def longest(self, owner: str, heads: Sequence[Head]) -> Head | None:
        found: bytes | None = self._run("longest", _tag(owner), *heads)
        return found

    def chain(self, owner: str, head: Head, most_bytes: int) -> list[bytes]:
        blobs: list[bytes] = self._bounded("chain", _tag(owner), most_bytes, head)
        if not blobs:
            raise LookupError("there is no such chain")
        return blobs[::-1]

    def locate(self, owner: str, ids: Sequence[str], most_bytes: int) -> Sequence[Located]:
        found = self._bounded("locate", _tag(owner), most_bytes, *ids)
        return [Located(blob, [id.decode() for id in held]) for blob, *held in found]

    # -- responses

    def insert(self, response: StoredResponse, segment: Segment | None) -> bool:
        base = segment.parent if segment is not None else response.input
        fields: dict[str, Any] = {
            "owner": response.owner,
            "created_at": response.created_at,
            "status": response.status,
            "ended": int(response.status in ENDED),
            "body": response.body,
            "own_input": response.own_input,
            "conversation": response.conversation or "",
            "background": int(response.background),
            "worker": response.worker,
        }
        return self._room(
            "insert",
            _tag(response.owner),
            response.id,
            base or b"",
            int(segment is not None),
            len(response.body) + (len(segment.blob) if segment is not None else 0),
            *_segment(segment),
            response.expires_at,
            *(part for field in fields.items() for part in field),
        )

    def response(self, owner: str, id: str) -> StoredResponse | None:
        row = self._run("response", _name(owner, id))
        if row is None:
            return None
        return StoredResponse(
            id=id,
            owner=owner,
            created_at=int(row[0]),
            expires_at=float(row[1]),
            status=row[2].decode(),
            body=row[3],
            input=row[4] or None,
            own_input=int(row[5]),
            head=row[6] or None,
            conversation=row[7].decode() or None,
            background=row[8] == b"1",
            worker=row[9].decode(),
            abandoned=row[11] == b"0" and row[12] == b"0",
            gaps=row[10] == b"1",
        )

    def update(self, owner: str, id: str, status: str, body: bytes) -> bool:
        return bool(self._run("update", _tag(owner), _name(owner, id), status, body))

    def finish(self, owner: str, id: str, ending: Ending) -> bool:
        pieces = [part for piece in ending.pieces for part in (piece.first, piece.blob)]
        return bool(
            self._run(
                "finish",
                _tag(owner),
                _name(owner, id),
                ending.status,
                ending.body,
                int(ending.gaps),
                int(ending.output is not None),
                *_segment(ending.output),
                len(ending.pieces),
                *pieces,
                *_entries(ending.entries),
            )
        )

    def delete(self, owner: str, id: str) -> bool:
        return bool(self._run("delete", _tag(owner), _name(owner, id)))

    # -- event logs

    def append(self, pieces: Sequence[LogPiece]) -> None:
        for start in range(0, len(pieces), _PIECES_AT_ONCE):
            values: list[Any] = []
            for piece in pieces[start : start + _PIECES_AT_ONCE]:
                values += _tag(piece.owner), _name(piece.owner, piece.response), piece.first, piece.blob
            self._run("append", *values)

    def events(self, owner: str, id: str, after: int, most_bytes: int) -> RawEvents | None:
        found = self._run("events", _name(owner, id), after, most_bytes)
        if found is None:
            return None
        ended, abandoned, gaps, flat = found
        firsts = (int(entry.partition(b"-")[0]) - 1 for entry in flat[::2])
        pieces = list(zip(firsts, flat[1::2], strict=True))
        return RawEvents(pieces, ended == b"1", abandoned == b"1", gaps == b"1")

    # -- workers

    def beat(self, worker: str, seconds: float) -> None:
        self._run("beat", worker, seconds)

    def request_cancel(self, owner: str, id: str) -> bool:
        return bool(self._run("request_cancel", _name(owner, id)))

    def cancels(self, worker: str) -> Sequence[tuple[str, str]]:
        flat = [part.decode() for part in self._run("cancels", worker)]
        return list(zip(flat[::2], flat[1::2], strict=True))

    # -- conversations

    def create(self, conversation: Conversation, entries: Sequence[Entry], expires_at: float) -> None:
        self._room(
            "create",
            _tag(conversation.owner),
            conversation.id,
            sum(len(entry.blob) for entry in entries),
            expires_at,
            conversation.created_at,
            conversation.metadata,
            *_entries(entries),
        )

    def conversation(self, owner: str, id: str) -> Conversation | None:
        row = self._run("conversation", _name(owner, id))
        return Conversation(id, owner, int(row[0]), row[1]) if row is not None else None

    def change(self, owner: str, id: str, metadata: bytes, expires_at: float) -> bool:
        return bool(self._run("change", _tag(owner), _name(owner, id), metadata, expires_at))

    def drop(self, owner: str, id: str) -> bool:
        return bool(self._run("drop", _tag(owner), _name(owner, id)))

    def add(self, owner: str, id: str, entries: Sequence[Entry], expires_at: float) -> bool:
        size = sum(len(entry.blob) for entry in entries)
        return self._room("add", _tag(owner), id, size, expires_at, *_entries(entries))

    def entries(
        self, owner: str, id: str, after: str | None, limit: int | None, descending: bool, most_bytes: int
    ) -> RawPage | None:
        most = -1 if limit is None else limit
        found = self._run("entries", _name(owner, id), after or "", most, int(descending), most_bytes)
        if found == b"unknown":
            raise LookupError(after)
        return RawPage(found[1:], found[0] == b"more") if found is not None else None

    def entry(self, owner: str, id: str, item: str) -> bytes | None:
        found: bytes | None = self._run("entry", _name(owner, id), item)
        return found

    def remove(self, owner: str, id: str, item: str) -> bool:
        return bool(self._run("remove", _tag(owner), id, item))

    # -- thoughts

    def remember(self, thoughts: Sequence[Thought]) -> None:
        values: list[Any] = []
        for thought in thoughts:
            name = _name(thought.owner, thought.name)
            values += _tag(thought.owner), name, thought.blob, thought.expires_at
        self._run("remember", *values)

    def recall(self, owner: str, name: str) -> bytes | None:
        found: bytes | None = self._run("recall", _name(owner, name))
        return found

    # -- upkeep

    def claim(self, duty: str, worker: str, seconds: float) -> bool:
        return bool(self._run("claim", duty, worker, seconds))

    def sweep(self, most: int) -> int:
        done: int = self._run("sweep", most)
        return done

    def tidy(self) -> None:
        pass

    def usage(self, owner: str | None) -> Usage:
        return Usage(*self._run("usage", _tag(owner) if owner is not None else ""))

    # -- inside

    def _bounded(self, script: str, tag: str, most_bytes: int, *values: Any) -> Any:
        found = self._run(script, tag, most_bytes, *values)
        if found == b"large":
            raise too_large(most_bytes)
        return found

    def _room(self, script: str, *values: Any) -> bool:
        """Runs what may find no room. False where what it goes on from is gone."""
        outcome = self._run(script, *values)
        if outcome in (b"owner", b"all"):
            raise full(outcome == b"owner")
        return bool(outcome == b"done")

    def _run(self, script: str, *values: Any) -> Any:
        return self._server.run(script, self._limits.owner_bytes, self._limits.total_bytes, *values)

    def _failed(self, reason: str) -> StoreUnavailable:
        self._watcher.failed()
        return StoreUnavailable(f"The gateway's store (Redis) cannot be used: {reason}.", retry_after=5)


def _tag(owner: str) -> str:
    return hashlib.blake2b(owner.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def _name(owner: str, id: str) -> str:
    return _tag(owner) + id


def _segment(segment: Segment | None) -> Iterator[Any]:
    if segment is not None:
        yield from (segment.head, segment.parent or b"", segment.blob, len(segment.ids), *segment.ids)


def _entries(entries: Sequence[Entry]) -> Iterator[Any]:
    yield len(entries)
    for entry in entries:
        yield entry.id
        yield entry.blob
