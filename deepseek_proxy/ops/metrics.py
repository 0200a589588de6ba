"""What Prometheus may ask: counters, gauges and histograms of the gateway's work.

Every series is listed in `docs/metrics.md`. Label values are bounded: none is taken from a client as it
is. With several workers, `PROMETHEUS_MULTIPROC_DIR` names an empty folder in which each keeps its
numbers; any of them then answers for all.

prometheus-client decides between memory and that folder when it is first imported. So it is imported
inside functions, after `gunicorn.conf.py` had its chance to set the variable.

Refuses to know HTTP routes, and to keep anything global.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from deepseek_proxy import models
from deepseek_proxy.errors import ProxyError
from deepseek_proxy.ops.record import RequestRecord

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

MULTIPROCESS_VARIABLE: Final = "PROMETHEUS_MULTIPROC_DIR"
PREFIX: Final = "deepseek_proxy"
OTHER: Final = "other"
NONE: Final = "none"
DIALECTS: Final = frozenset({"responses", "chat", "messages", "models"})

_FIRST_TOKEN_BUCKETS: Final = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
_STREAM_BUCKETS: Final = (0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600)
_CAPITAL = re.compile(r"(?<!^)(?=[A-Z])")


class Metrics:
    """The gateway's numbers. One for each application; `registry` is the explicit home of its series."""

    def __init__(self, registry: CollectorRegistry) -> None:
        from prometheus_client import Counter, Gauge, Histogram, disable_created_metrics

        disable_created_metrics()  # the multiprocess mode has no such series; both shall show the same

        def counter(name: str, help_text: str, *labels: str) -> Counter:
            return Counter(f"{PREFIX}_{name}", help_text, labels, registry=registry)

        self._registry = registry
        self._requests = counter("requests_total", "Requests that have ended.", "dialect", "model", "status")
        self._open_streams = Gauge(
            f"{PREFIX}_open_streams",
            "Streams being sent now.",
            registry=registry,
            multiprocess_mode="livesum",
        )
        self._first_token = Histogram(
            f"{PREFIX}_first_token_seconds",
            "Time from a request to its first token.",
            ("dialect", "model"),
            registry=registry,
            buckets=_FIRST_TOKEN_BUCKETS,
        )
        self._stream = Histogram(
            f"{PREFIX}_stream_seconds",
            "How long streamed answers took in all.",
            ("dialect", "model"),
            registry=registry,
            buckets=_STREAM_BUCKETS,
        )
        self._tokens = counter("tokens_total", "Tokens by kind; the kinds do not overlap.", "model", "kind")
        self._upstream_errors = counter("upstream_errors_total", "Failed attempts at the upstream.", "kind")
        self._retries = counter("retries_total", "Attempts at the upstream after the first of a request.")
        self._heartbeats = counter("heartbeats_total", "Keep-alive frames sent to clients.")
        self._departures = counter("client_departures_total", "Clients that left before the end.", "dialect")
        self._repairs = counter("history_repairs_total", "Repairs made to conversations.", "kind")
        self._unknown_fields = counter("unknown_fields_total", "Request fields that were ignored.", "dialect")
        self._seal_failures = counter("seal_failures_total", "Sealed items that did not open.", "reason")

    def observe_request(self, record: RequestRecord) -> None:
        """Counts a request that has ended: the same record as the log's line."""
        dialect = dialect_label(record.dialect)
        model = model_label(record.upstream_model)
        self._requests.labels(dialect, model, str(record.status)).inc()
        if record.first_token_seconds is not None:
            self._first_token.labels(dialect, model).observe(record.first_token_seconds)
        if record.stream:
            self._stream.labels(dialect, model).observe(record.duration_seconds)
        self._count_tokens(record, model)
        if record.attempts > 1:
            self._retries.inc(record.attempts - 1)
        if record.heartbeats:
            self._heartbeats.inc(record.heartbeats)
        if record.client_gone:
            self._departures.labels(dialect).inc()
        for kind, count in record.repairs.items():
            self._repairs.labels(kind).inc(count)
        if record.unknown_fields:
            self._unknown_fields.labels(dialect).inc(len(record.unknown_fields))

    def _count_tokens(self, record: RequestRecord, model: str) -> None:
        cached, reasoning = record.cached_tokens or 0, record.reasoning_tokens or 0
        for kind, count in (
            ("cache_hit", cached),
            ("cache_miss", (record.input_tokens or 0) - cached),
            ("reasoning", reasoning),
            ("output", (record.output_tokens or 0) - reasoning),
        ):
            if count > 0:
                self._tokens.labels(model, kind).inc(count)

    def upstream_failed(self, error: ProxyError) -> None:
        """Counts one failed attempt, also one that is made again; the kind is the error's class."""
        self._upstream_errors.labels(_CAPITAL.sub("_", type(error).__name__).lower()).inc()

    def seal_failed(self, reason: str) -> None:
        """Counts a sealed item that did not open; `sealing.Sealer` calls it with one of its reasons."""
        self._seal_failures.labels(reason).inc()

    @contextmanager
    def open_stream(self) -> Iterator[None]:
        """Counts a stream as open for as long as the block runs."""
        self._open_streams.inc()
        try:
            yield
        finally:
            self._open_streams.dec()

    def render(self) -> tuple[bytes, str]:
        """The exposition of all workers' numbers, and its content type."""
        from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest, multiprocess

        registry = self._registry
        if MULTIPROCESS_VARIABLE in os.environ:
            registry = CollectorRegistry()  # read from the folder, this worker's numbers included
            multiprocess.MultiProcessCollector(registry)
        return generate_latest(registry), CONTENT_TYPE_LATEST


def mark_dead(pid: int) -> None:
    """Forgets the gauges of a worker that has ended; for gunicorn's `child_exit` hook."""
    if MULTIPROCESS_VARIABLE in os.environ:
        from prometheus_client import multiprocess

        multiprocess.mark_process_dead(pid)


def model_label(name: str | None) -> str:
    """`name` where it is in the catalogue, else `other`; `none` where no model was chosen."""
    if name is None:
        return NONE
    return name if name in models.MODELS else OTHER


def dialect_label(name: str) -> str:
    """`name` where it is a dialect, or `models` for the lists of models; else `other`."""
    return name if name in DIALECTS else OTHER
