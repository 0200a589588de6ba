"""The thinking that led to a tool call, for clients that do not send it back.

A cache, not a store: bounded in bytes, of one process, lost at a restart. Clients that keep
`encrypted_content` never need it. Refuses to know what a dialect is.
"""

from __future__ import annotations

import threading

from cachetools import LRUCache


class ReasoningCache:
    """Least recently used entries go first once `max_bytes` of text are held. Safe between threads."""

    def __init__(self, max_bytes: int) -> None:
        self._entries: LRUCache[tuple[str, str], str] = LRUCache(max_bytes, getsizeof=_size)
        self._lock = threading.Lock()

    def remember(self, tenant: str, call_id: str, thinking: str) -> None:
        if _size(thinking) <= self._entries.maxsize:
            with self._lock:
                self._entries[tenant, call_id] = thinking

    def recall(self, tenant: str, call_id: str) -> str | None:
        """The thinking, None where it is not known. Another tenant's is never known."""
        with self._lock:
            return self._entries.get((tenant, call_id))


def _size(thinking: str) -> int:
    return 200 + len(thinking.encode("utf-8", "replace"))  # with the entry's own overhead
