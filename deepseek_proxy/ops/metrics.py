"""What Prometheus may ask: counters, gauges and histograms of the gateway's work.

Every series is listed in `docs/metrics.md`. Label values are bounded: none is taken from a client as it
is. Under gunicorn, `PROMETHEUS_MULTIPROC_DIR` names a folder in which each worker keeps its numbers; any of
them then answers for all, and for those that have ended.

prometheus-client decides between memory and that folder when it is first imported. So it is imported
inside functions, after `gunicorn.conf.py` had its chance to set the variable.

Refuses to know HTTP routes, and to keep anything global.
"""

from __future__ import annotations

import fcntl
import logging
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

from deepseek_proxy import models
from deepseek_proxy.errors import Fault, ProxyError
from deepseek_proxy.ops.record import RequestRecord
from deepseek_proxy.ops.store_metrics import StoreMetrics

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry, Metric

MULTIPROCESS_VARIABLE: Final = "PROMETHEUS_MULTIPROC_DIR"
PREFIX: Final = "deepseek_proxy"
OTHER: Final = "other"
NONE: Final = "none"
DIALECTS: Final = frozenset({"responses", "chat", "messages", "models"})

_FIRST_TOKEN_BUCKETS: Final = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
_STREAM_BUCKETS: Final = (0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600)
_FOLDER_PREFIX: Final = "deepseek-proxy-metrics-"

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Level:
    """A gauge that is read when it is asked for; it means the same whichever worker says it."""

    name: str
    help_text: str
    labels: Mapping[str, str]
    value: float


class Metrics:
    """The gateway's numbers. One for each application; `registry` is the explicit home of its series."""

    def __init__(self, registry: CollectorRegistry) -> None:
        from prometheus_client import Counter, Gauge, Histogram, disable_created_metrics

        disable_created_metrics()  # the multiprocess mode has no such series; both shall show the same

        def counter(name: str, help_text: str, *labels: str) -> Counter:
            return Counter(f"{PREFIX}_{name}", help_text, labels, registry=registry)

        # A family finds the series of its labels behind a lock, each time: what it has found is kept.
        def counters(name: str, help_text: str, *labels: str) -> Callable[..., Counter]:
            return cache(counter(name, help_text, *labels).labels)

        def histograms(name: str, help_text: str, buckets: Sequence[float]) -> Callable[..., Histogram]:
            labels = ("dialect", "model")
            family = Histogram(f"{PREFIX}_{name}", help_text, labels, registry=registry, buckets=buckets)
            return cache(family.labels)

        self._registry = registry
        self._requests = counters("requests_total", "Requests that have ended.", "dialect", "model", "status")
        self._open_streams = Gauge(
            f"{PREFIX}_open_streams",
            "Streams being sent now.",
            registry=registry,
            multiprocess_mode="livesum",
        )
        self._open_websockets = Gauge(
            f"{PREFIX}_open_websockets",
            "WebSockets that are open now, idle ones included.",
            registry=registry,
            multiprocess_mode="livesum",
        )
        self._first_token = histograms(
            "first_token_seconds", "Time from a request to its first token.", _FIRST_TOKEN_BUCKETS
        )
        self._stream = histograms("stream_seconds", "How long streamed answers took in all.", _STREAM_BUCKETS)
        self._tokens = counters("tokens_total", "Tokens by kind; the kinds do not overlap.", "model", "kind")
        self._searches = counter("searches_total", "Web searches and pages that DeepSeek has answered.")
        self._cost = counters(
            "cost_usd_total", "US dollars that DeepSeek charges for tokens and searches.", "model"
        )
        self._saved = counters(
            "cache_saved_usd_total", "US dollars that DeepSeek's cache has saved.", "model"
        )
        self._upstream_errors = counters("upstream_errors_total", "Failures of the upstream.", "kind")
        self._retries = counter("retries_total", "Attempts at the upstream after the first of a request.")
        self._heartbeats = counter("heartbeats_total", "Keep-alive frames sent to clients.")
        self._departures = counters("client_departures_total", "Clients that left before the end.", "dialect")
        self._repairs = counters("history_repairs_total", "Repairs made to conversations.", "kind")
        self._unknown_fields = counters(
            "unknown_fields_total", "Request fields that were ignored.", "dialect"
        )
        self._seal_failures = counters("seal_failures_total", "Sealed items that did not open.", "reason")
        self.store = StoreMetrics(registry)
        self._account_answers = counters(
            "account_answers_total", "Requests that an account was used for last.", "account", "status"
        )
        self._account_tokens = counters("account_tokens_total", "Tokens of an account.", "account", "kind")
        self._account_cost = counters(
            "account_cost_usd_total", "US dollars that an account is charged for.", "account"
        )
        # A series that begins with its first event hides that event from `increase()`, and so from alerts.
        for kind in _upstream_kinds(ProxyError):
            self._upstream_errors(kind)
        for model in models.MODELS:
            self._cost(model)
            self._saved(model)

    def observe_request(self, record: RequestRecord) -> None:
        """Counts a request that has ended: the same record as the log's line."""
        dialect = dialect_label(record.dialect)
        model = model_label(record.upstream_model)
        self._requests(dialect, model, str(record.status)).inc()
        if record.first_token_seconds is not None:
            self._first_token(dialect, model).observe(record.first_token_seconds)
        if record.stream:
            self._stream(dialect, model).observe(record.duration_seconds)
        self._count_tokens(record, model)
        if record.searches is not None:
            self._searches.inc(record.searches)
        if record.cost_usd is not None:
            self._cost(model).inc(record.cost_usd)
        if record.cache_saved_usd is not None:
            self._saved(model).inc(record.cache_saved_usd)
        if record.attempts > 1:
            self._retries.inc(record.attempts - 1)
        if record.heartbeats:
            self._heartbeats.inc(record.heartbeats)
        if record.client_gone:
            self._departures(dialect).inc()
        if record.account is not None:
            self._account_answers(record.account, str(record.status)).inc()
            self._account_cost(record.account).inc(record.cost_usd or 0)
        for kind, count in record.repairs.items():
            self._repairs(kind).inc(count)
        if record.unknown_fields:
            self._unknown_fields(dialect).inc(len(record.unknown_fields))

    def _count_tokens(self, record: RequestRecord, model: str) -> None:
        cached, reasoning = record.cached_tokens or 0, record.reasoning_tokens or 0
        for kind, count in (
            ("cache_hit", cached),
            ("cache_miss", (record.input_tokens or 0) - cached),
            ("reasoning", reasoning),
            ("output", (record.output_tokens or 0) - reasoning),
        ):
            if count > 0:
                self._tokens(model, kind).inc(count)
                if record.account is not None:
                    self._account_tokens(record.account, kind).inc(count)

    def upstream_failed(self, error: ProxyError) -> None:
        """Counts one failed attempt, also one that is made again, or an answer that failed on its way.

        The kind is the error's class.
        """
        self._upstream_errors(error.kind()).inc()

    def seal_failed(self, reason: str) -> None:
        """Counts a sealed item that did not open; `sealing.Sealer` calls it with one of its reasons."""
        self._seal_failures(reason).inc()

    @contextmanager
    def open_stream(self) -> Iterator[None]:
        """Counts a stream as open for as long as the block runs."""
        self._open_streams.inc()
        try:
            yield
        finally:
            self._open_streams.dec()

    @contextmanager
    def open_websocket(self) -> Iterator[None]:
        """Counts a WebSocket as open for as long as the block runs."""
        self._open_websockets.inc()
        try:
            yield
        finally:
            self._open_websockets.dec()

    def render(self, levels: Iterable[Level] = ()) -> tuple[bytes, str]:
        """The exposition of all workers' numbers and of `levels`, and its content type."""
        from prometheus_client import CONTENT_TYPE_LATEST

        return self._counted() + _exposition(levels), CONTENT_TYPE_LATEST

    def _counted(self) -> bytes:
        from prometheus_client import CollectorRegistry, generate_latest, multiprocess

        folder = os.environ.get(MULTIPROCESS_VARIABLE)
        if folder is None:
            return generate_latest(self._registry)
        registry = CollectorRegistry()  # read from the folder, this worker's numbers included
        multiprocess.MultiProcessCollector(registry)
        with _locked(folder, fcntl.LOCK_SH):
            return generate_latest(registry)


def _exposition(levels: Iterable[Level]) -> bytes:
    from prometheus_client import CollectorRegistry, Metric, generate_latest

    registry = CollectorRegistry()
    gauges: dict[str, Metric] = {}
    for level in levels:
        if level.name not in gauges:
            gauges[level.name] = Metric(f"{PREFIX}_{level.name}", level.help_text, "gauge")
        gauges[level.name].add_sample(f"{PREFIX}_{level.name}", dict(level.labels), level.value)
    registry.register(_Levels(list(gauges.values())))
    return generate_latest(registry)


class _Levels:
    """What a registry asks for its metrics."""

    def __init__(self, metrics: list[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> list[Metric]:
        return self._metrics


def prepare_folder(parent: str | None) -> str | None:
    """Makes the folder in which workers keep their numbers; for gunicorn's `on_starting` hook.

    An operator's own folder is emptied of an earlier run's numbers. Else one is made in `parent`, or where
    temporary files go, and its path returned: the caller removes it in the end.
    """
    own = os.environ.get(MULTIPROCESS_VARIABLE)
    if own and not Path(own).name.startswith(
        _FOLDER_PREFIX
    ):  # else: of a server that started this one (USR2)
        Path(own).mkdir(mode=0o700, parents=True, exist_ok=True)
        for file in Path(own).glob("*.db"):
            file.unlink()
        return None
    folder = tempfile.mkdtemp(prefix=_FOLDER_PREFIX, dir=parent)
    os.environ[MULTIPROCESS_VARIABLE] = folder
    return folder


def mark_dead(pid: int) -> None:
    """Forgets the open streams of a worker that has ended, and adds what it has counted to what other such
    workers have: one file for all of them, however often workers are replaced.

    For gunicorn's `child_exit` hook, so it never raises.
    """
    folder = os.environ.get(MULTIPROCESS_VARIABLE)
    if folder is None:
        return
    from prometheus_client import multiprocess

    try:
        with _locked(folder, fcntl.LOCK_EX):
            multiprocess.mark_process_dead(pid)
            for kind in ("counter", "histogram"):
                _inherit(Path(folder), kind, pid)
    except OSError as error:
        logger.warning("The numbers of worker %d could not be put away: %s", pid, error)


def _inherit(folder: Path, kind: str, pid: int) -> None:
    from prometheus_client.mmap_dict import MmapedDict

    left = folder / f"{kind}_{pid}.db"
    if not left.exists():  # it ended before it counted anything
        return
    heir = MmapedDict(str(folder / f"{kind}_ended.db"))
    for key, value, timestamp, _ in MmapedDict.read_all_values_from_file(str(left)):
        heir.write_value(key, heir.read_value(key)[0] + value, timestamp)
    heir.close()
    left.unlink()


@contextmanager
def _locked(folder: str, mode: int) -> Iterator[None]:
    """Whoever reads the folder sees a worker's numbers once: either as its own, or as put away."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, mode)
        yield
    finally:
        fcntl.flock(descriptor, fcntl.LOCK_UN)  # gevent's `os.close` may close it later
        os.close(descriptor)


def _upstream_kinds(family: type[ProxyError]) -> Iterator[str]:
    for member in family.__subclasses__():
        if member.fault in (Fault.ACCOUNT, Fault.UPSTREAM):
            yield member.kind()
        yield from _upstream_kinds(member)


def model_label(name: str | None) -> str:
    """`name` where it is in the catalogue, else `other`; `none` where no model was chosen."""
    if name is None:
        return NONE
    return name if name in models.MODELS else OTHER


def dialect_label(name: str) -> str:
    """`name` where it is a dialect, or `models` for the lists of models; else `other`."""
    return name if name in DIALECTS else OTHER
