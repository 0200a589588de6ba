"""One request from its arrival to its last byte: its id, and what the log and the metrics say of it."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

from flask import Request, g

from deepseek_proxy import models
from deepseek_proxy.credentials import ClientKey
from deepseek_proxy.errors import Fault, ProxyError
from deepseek_proxy.ops import logs
from deepseek_proxy.ops.metrics import Metrics
from deepseek_proxy.ops.record import RequestRecord
from deepseek_proxy.ops.tracing import CONTEXT_HEADERS, Trace, Tracing
from deepseek_proxy.pipeline import Tally
from deepseek_proxy.translate.hub import Usage

REQUEST_ID_HEADER: Final = "X-Request-ID"
WEBSOCKET: Final = "WS"
"""The method of a request that came as a message."""
_USABLE_ID = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")


class Exchange:
    """Collects what becomes known of a request. `finish()` reports it, once.

    The turns of a WebSocket are requests as well: `turn` counts them, and `id` is that of the connection.
    """

    def __init__(
        self,
        request: Request,
        tracing: Tracing | None = None,
        *,
        id: str | None = None,
        turn: int | None = None,
    ) -> None:
        sent = request.headers.get(REQUEST_ID_HEADER, "")
        self.id = id or (sent if _USABLE_ID.fullmatch(sent) else f"req_{secrets.token_hex(16)}")
        self.method = request.method
        if turn is not None:
            self.id += f".{turn}"
            self.method = WEBSOCKET
        self.path = request.path
        self.started = time.monotonic()
        self.began = datetime.now(UTC)
        self.dialect: str | None = None  # set by the routes that are worth a line
        self.model: str | None = None
        self.upstream_model: str | None = None
        self.stream = False
        self.tally = Tally()
        self.usage: Usage | None = None
        self.finish_reason: str | None = None
        self.attempts = 0
        self.account: str | None = None  # of the last upstream call, where there are several
        self.searches = 0
        self.turns: int | None = None  # of a WebSocket, as is the next
        self.close_code: int | None = None
        self.answered = False  # whether the last upstream call had begun to answer
        self.error: ProxyError | None = None
        self.client: ClientKey | None = None  # who asks, where clients have keys
        self.headers: dict[str, str] = {}  # of the answer, be it a good one or a refusal
        self.repairs: Mapping[str, int] = {}
        self.unknown_fields: tuple[str, ...] = ()
        self.outlives_its_request = False
        """Whether the answer goes on when the request is over, and ends the exchange later."""
        self._finished = False
        self._trace: Trace | None = None
        if tracing is not None:
            route = request.url_rule.rule if request.url_rule is not None else None
            context = {name: value for name in CONTEXT_HEADERS if (value := request.headers.get(name))}
            self._trace = tracing.begin(request.method, route, context)

    def add_usage(self, usage: Usage | None) -> None:
        """Adds the tokens of one upstream answer: a request may take several."""
        if usage is not None:
            self.usage = Usage(*map(sum, zip(usage, self.usage))) if self.usage else usage

    def add_search(self) -> None:
        """Counts a web search, or a page, that DeepSeek has answered."""
        self.searches += 1

    def begin_call(self) -> Mapping[str, str]:
        """A call to DeepSeek begins: the headers by which it can be found in the request's trace."""
        if self._trace is None:
            return {}
        return self._trace.call(self.upstream_model or "", self.stream)

    def finish(self, status: int, metrics: Metrics) -> None:
        if self._finished or self.dialect is None or self.outlives_its_request:
            return
        self._finished = True
        first, usage, cost = self.tally.first_output, self.usage, self._cost()
        searches = self.searches * models.SEARCH_USD
        record = RequestRecord(
            request_id=self.id,
            dialect=self.dialect,
            method=self.method,
            path=self.path,
            status=status,
            duration_seconds=time.monotonic() - self.started,
            model=self.model,
            upstream_model=self.upstream_model,
            stream=self.stream,
            first_token_seconds=first - self.started if first is not None else None,
            input_tokens=usage.prompt_tokens if usage else None,
            cached_tokens=usage.cached_tokens if usage else None,
            output_tokens=usage.completion_tokens if usage else None,
            reasoning_tokens=usage.reasoning_tokens if usage else None,
            searches=self.searches or None,
            turns=self.turns,
            close_code=self.close_code,
            cost_usd=(cost.spent if cost else 0) + searches if cost or searches else None,
            cache_saved_usd=cost.saved if cost else None,
            finish=self.finish_reason,
            heartbeats=self.tally.heartbeats,
            client_gone=self.tally.client_gone,
            attempts=self.attempts,
            account=self.account,
            error_code=(self.error.code or "invalid_request") if self.error else None,
            error_kind=self.error.kind() if self.error else None,
            client=self.client.name if self.client is not None else None,
            repairs=self.repairs,
            unknown_fields=self.unknown_fields,
            trace_id=self._trace.id if self._trace is not None else None,
        )
        logs.log_request(record)
        metrics.observe_request(record)
        if self._trace is not None:
            self._trace.end(record)
        # Attempts that got no answer have been counted, each one, where they were made.
        if self.answered and self.error is not None and self.error.fault is Fault.UPSTREAM:
            metrics.upstream_failed(self.error)

    def _cost(self) -> models.Cost | None:
        """None without a usage: DeepSeek tells it at the end of an answer only."""
        model, usage = models.MODELS.get(self.upstream_model or ""), self.usage
        if model is None or usage is None:
            return None
        return models.cost(
            model,
            self.began,
            cache_hit=usage.cached_tokens,
            cache_miss=usage.prompt_tokens - usage.cached_tokens,
            output=usage.completion_tokens,
        )


def current_exchange() -> Exchange:
    exchange: Exchange = g.exchange
    return exchange
