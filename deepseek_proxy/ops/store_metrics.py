"""What Prometheus may ask about the store: how much it holds, what waits for it, what it could not do.

Every series is listed in `docs/metrics.md`. Refuses to know backends. As in `metrics`, prometheus-client is
imported late.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

_PREFIX: Final = "deepseek_proxy_store"
_LOSSES: Final = ("events", "response", "thought")


class StoreMetrics:
    """What `store.base.Watcher` asks for."""

    def __init__(self, registry: CollectorRegistry) -> None:
        from prometheus_client import Counter, Gauge

        def held(name: str, help_text: str) -> Gauge:
            # It is one store: each worker looks now and then, and they hardly differ.
            return Gauge(f"{_PREFIX}_{name}", help_text, registry=registry, multiprocess_mode="livemax")

        self._bytes = held("bytes", "Bytes that the store holds.")
        self._responses = held("responses", "Responses that the store holds.")
        self._conversations = held("conversations", "Conversations that the store holds.")
        self._waiting = Gauge(
            f"{_PREFIX}_waiting_bytes",
            "Bytes that wait for being written to the store.",
            registry=registry,
            multiprocess_mode="livesum",
        )
        self._errors = Counter(
            f"{_PREFIX}_errors_total", "Operations that the store failed.", registry=registry
        )
        self._lost = Counter(
            f"{_PREFIX}_lost_total",
            "What was given up, because it could not be stored.",
            ("kind",),
            registry=registry,
        )
        for kind in _LOSSES:  # a series that begins with its first event hides that event from `increase()`
            self._lost.labels(kind)

    def failed(self) -> None:
        self._errors.inc()

    def lost(self, kind: str) -> None:
        self._lost.labels(kind).inc()

    def waiting(self, size: int) -> None:
        self._waiting.set(size)

    def held(self, size: int, responses: int, conversations: int) -> None:
        self._bytes.set(size)
        self._responses.set(responses)
        self._conversations.set(conversations)
