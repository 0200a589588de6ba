"""What a simulator remembers between requests: script, cache, the requests seen, the faults already shown.

One object per application, safe to use from several threads. Refuses to know HTTP beyond header names.
"""

from __future__ import annotations

import hashlib
import itertools
import threading
import time
from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from deepseek_proxy.simulator import errors, faults
from deepseek_proxy.simulator.cache import PrefixCache
from deepseek_proxy.simulator.config import SimulatorConfig
from deepseek_proxy.simulator.request import ChatRequest
from deepseek_proxy.simulator.script import Script
from deepseek_proxy.simulator.turns import Fault

_SECRET_HEADERS: Final = frozenset({"authorization", "cookie", "proxy-authorization", "x-api-key"})


@dataclass(slots=True)
class Record:
    """One request as `GET /_simulator/requests` shows it.

    `key` is masked. `connection` is the client's port, by which reuse of a connection shows. `body` is the
    parsed body, or its text where it is not JSON. `started` and `ended` are Unix times in seconds. `outcome`
    is `under way`, `complete`, `refused`, `broken` (by a fault) or `client gone`.
    """

    number: int
    method: str
    path: str
    headers: Mapping[str, str]
    key: str
    connection: str
    body: Any
    started: float
    ended: float | None = None
    status: int | None = None
    outcome: str = "under way"

    def end(self, outcome: str) -> bool:
        """Notes how it ended. False where that was known before: only the first time counts."""
        if self.ended is not None:
            return False
        self.ended = time.time()
        self.outcome = outcome
        return True


class State:
    """The memory of one simulator."""

    def __init__(self, config: SimulatorConfig) -> None:
        self.config = config
        self.script = Script()
        self.cache = PrefixCache()
        self._fault = faults.parse(config.fault)
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._records: deque[Record] = deque(maxlen=config.max_recorded)
        self._active: Counter[str] = Counter()
        self._shown: Counter[object] = Counter()

    def reset(self) -> None:
        """Forgets everything, except answers that are under way."""
        self.script.clear()
        self.cache.clear()
        with self._lock:
            self._fault = faults.parse(self.config.fault)
            self._records.clear()
            self._shown.clear()

    # -- requests

    def record(
        self, method: str, path: str, headers: Iterable[tuple[str, str]], connection: str, raw: bytes
    ) -> Record:
        """Notes a request at its arrival."""
        shown, key = {}, ""
        for name, value in headers:
            if name.lower() == "authorization":
                key = errors.mask(value.partition(" ")[2].strip())
            elif name.lower() not in _SECRET_HEADERS:
                shown[name] = value
        try:
            body = orjson.loads(raw) if raw else None
        except orjson.JSONDecodeError:
            body = raw.decode(errors="replace")
        with self._lock:
            number = next(self._numbers)
            record = Record(number, method, path, shown, key, connection, body, time.time())
            self._records.append(record)
        return record

    def records(self) -> list[dict[str, Any]]:
        """The requests seen, oldest first, the newest `max_recorded` of them."""
        with self._lock:
            return [{name: getattr(record, name) for name in Record.__slots__} for record in self._records]

    def active(self) -> int:
        """Answers under way."""
        with self._lock:
            return self._active.total()

    def enter(self, key: str) -> None:
        """Counts an answer in. Raises a 429 `Refusal` where the key has too many under way."""
        limit = self.config.max_concurrency
        with self._lock:
            if limit is not None and self._active[key] >= limit:
                raise errors.too_many(self._active[key] + 1, limit)
            self._active[key] += 1

    def leave(self, key: str) -> None:
        """Counts an answer out."""
        with self._lock:
            self._active[key] -= 1

    # -- faults

    def set_fault(self, text: str) -> None:
        """Replaces the fault that applies to every answer. Raises `FaultError`."""
        parsed = faults.parse(text)
        with self._lock:
            self._fault = parsed
            self._shown.clear()

    def due(self, request: ChatRequest, wished: Sequence[Fault]) -> list[Fault]:
        """The faults to show now: server-wide and `wished` ones that were not shown `times` times yet.

        A wish counts for one conversation state, so that the same request again (a retry) gets past it.
        """
        conversation = hashlib.sha256(orjson.dumps(request.messages)).digest()
        with self._lock:
            counted = [(fault, None) for fault in self._fault] + [(fault, conversation) for fault in wished]
            due = []
            for fault, scope in counted:
                if times := fault.number("times"):
                    self._shown[fault, scope] += 1
                    if self._shown[fault, scope] > times:
                        continue
                due.append(fault)
        return due
