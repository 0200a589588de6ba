"""The thinking that led to a tool call, for clients that do not send it back.

A cache, not an archive: bounded in bytes, and what is not known any more is left out. Clients that keep
`encrypted_content` never need it. Refuses to know what a dialect is.
"""

from __future__ import annotations

import threading
from typing import Final, Protocol

from cachetools import LRUCache

from deepseek_proxy.errors import StoreUnavailable
from deepseek_proxy.store.store import Store

_PURPOSE: Final = "shared thinking "


class Reasoning(Protocol):
    """Another tenant's thinking is never known."""

    def remember(self, tenant: str, call_id: str, thinking: str) -> None: ...

    def recall(self, tenant: str, call_id: str) -> str | None:
        """The thinking, None where it is not known."""


class ReasoningCache:
    """Of one process, lost at a restart. Least recently used entries go first once `max_bytes` of text are
    held. Safe between threads."""

    def __init__(self, max_bytes: int) -> None:
        self._entries: LRUCache[tuple[str, str], str] = LRUCache(max_bytes, getsizeof=_size)
        self._lock = threading.Lock()

    def remember(self, tenant: str, call_id: str, thinking: str) -> None:
        if _size(thinking) <= self._entries.maxsize:
            with self._lock:
                self._entries[tenant, call_id] = thinking

    def recall(self, tenant: str, call_id: str) -> str | None:
        with self._lock:
            return self._entries.get((tenant, call_id))


class Seal(Protocol):
    """`sealing.Sealer`: what it seals opens for the same purpose and tenant only."""

    def seal(self, purpose: str, tenant: str, plaintext: bytes) -> str:
        """Raises `ValueError` where it is too large."""

    def open(self, purpose: str, tenant: str, token: object) -> bytes | None: ...


class SharedReasoning:
    """The same for all who share a store: what one worker knows and the next does not would change the bytes
    of the prompt from turn to turn. `own` spares the way there.

    It lies there sealed: it comes of requests, too, that are not to be stored.
    """

    def __init__(self, own: ReasoningCache, store: Store, sealer: Seal) -> None:
        self._own = own
        self._store = store
        self._sealer = sealer

    def remember(self, tenant: str, call_id: str, thinking: str) -> None:
        self._own.remember(tenant, call_id, thinking)
        try:
            sealed = self._sealer.seal(_PURPOSE + call_id, tenant, thinking.encode("utf-8", "surrogatepass"))
        except ValueError:
            return
        self._store.remember(tenant, call_id, sealed.encode())

    def recall(self, tenant: str, call_id: str) -> str | None:
        thinking = self._own.recall(tenant, call_id)
        if thinking is None and (opened := self._opened(tenant, call_id)) is not None:
            thinking = opened.decode("utf-8", "surrogatepass")
            self._own.remember(tenant, call_id, thinking)
        return thinking

    def _opened(self, tenant: str, call_id: str) -> bytes | None:
        try:
            sealed = self._store.recall(tenant, call_id)
        except StoreUnavailable:
            return None
        return self._sealer.open(_PURPOSE + call_id, tenant, sealed.decode()) if sealed is not None else None


def _size(thinking: str) -> int:
    return 200 + len(thinking.encode("utf-8", "replace"))  # with the entry's own overhead
