"""What is known of a request at its end: one value, read by the log and by the metrics alike.

Refuses to hold prompts, answers, bodies or keys, and knows neither Flask nor a logger.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Final

MAX_TEXT_CHARACTERS: Final = 120
MAX_UNKNOWN_FIELDS: Final = 20
_SECONDS_DIGITS: Final = 4
_USD_DIGITS: Final = 8  # a short answer costs a hundredth of a cent

# Field names come from the client: what does not look like one may be anything, a prompt included.
_FIELD_NAME = re.compile(r"[A-Za-z0-9_.\[\]-]{1,60}")


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestRecord:
    """One request that has ended. Times are in seconds, tokens as DeepSeek counts them.

    None stands for what never came to be known: a refused request has no upstream model, one that is
    not streamed has no first token.
    """

    request_id: str
    dialect: str
    method: str
    """`WS` for a message of a WebSocket."""
    path: str
    """Without the query string."""
    status: int
    """The HTTP status sent; a stream that fails later keeps its 200 and has an `error_code`. 101 stands for a
    whole WebSocket, whose messages have the statuses that requests would have."""
    duration_seconds: float
    model: str | None = None
    """As the client named it."""
    upstream_model: str | None = None
    """As DeepSeek was asked for it."""
    stream: bool = False
    first_token_seconds: float | None = None
    input_tokens: int | None = None
    """All of them, those from the cache included."""
    cached_tokens: int | None = None
    output_tokens: int | None = None
    """All of them, the thinking included."""
    reasoning_tokens: int | None = None
    searches: int | None = None
    """Web searches and pages that DeepSeek has answered."""
    cost_usd: float | None = None
    """By the catalogue's prices at the time of the request, searches included."""
    cache_saved_usd: float | None = None
    """What more it had cost without DeepSeek's cache."""
    finish: str | None = None
    """The upstream's finish reason."""
    turns: int | None = None
    """Of a WebSocket that has ended: how many requests came over it. Each has a record of its own."""
    close_code: int | None = None
    """Of a WebSocket that has ended (RFC 6455, 7.4)."""
    heartbeats: int = 0
    """Keep-alive frames sent to the client."""
    client_gone: bool = False
    """The client left before the end."""
    attempts: int = 0
    """Requests made to the upstream; 0 where none was needed or allowed."""
    account: str | None = None
    """The gateway's account that was used last, where there are several."""
    error_code: str | None = None
    error_kind: str | None = None
    """The class of the error, which many a code stands for (`ProxyError.kind`)."""
    client: str | None = None
    """The name of the client's key, where clients have keys."""
    repairs: Mapping[str, int] = field(default_factory=dict)
    """What was mended in the history: kind -> how often."""
    unknown_fields: tuple[str, ...] = ()
    """Paths of request fields that were ignored."""
    trace_id: str | None = None
    """W3C's id of the trace, where traces are made."""

    @property
    def failed(self) -> bool:
        """True where the gateway or the upstream did not deliver; a client's own mistake is no failure."""
        return self.status >= 500 or (self.status < 400 and self.error_code is not None)

    def line(self) -> dict[str, Any]:
        """The fields of the log line: what has a value, cut to a bounded size."""
        values: dict[str, Any] = {}
        for name in _NAMES:
            value = getattr(self, name)
            if value is None or value == () or value == {}:
                continue
            if isinstance(value, str):
                value = value[:MAX_TEXT_CHARACTERS]
            elif isinstance(value, float):
                value = round(value, _USD_DIGITS if name.endswith("_usd") else _SECONDS_DIGITS)
            values[name] = value
        if self.unknown_fields:
            values["unknown_fields"] = [
                name if _FIELD_NAME.fullmatch(name) else "(unreadable)"
                for name in self.unknown_fields[:MAX_UNKNOWN_FIELDS]
            ]
        return values

    def summary(self) -> str:
        """The request in one sentence, for people."""
        path = self.path[:MAX_TEXT_CHARACTERS]
        parts = [f"{self.method} {path} {self.status} in {self.duration_seconds:.2f} s"]
        if self.first_token_seconds is not None:
            parts.append(f"first token {self.first_token_seconds:.2f} s")
        if self.upstream_model:
            parts.append(self.upstream_model)
        if self.input_tokens is not None:
            parts.append(f"{self.input_tokens} tokens in ({self.cached_tokens or 0} cached)")
        if self.output_tokens is not None:
            parts.append(f"{self.output_tokens} out ({self.reasoning_tokens or 0} thinking)")
        if self.attempts > 1:
            parts.append(f"{self.attempts} attempts")
        if self.turns is not None:
            parts.append(f"{self.turns} turns, closed with {self.close_code}")
        if self.client_gone:
            parts.append("client gone")
        if outcome := self.error_code or self.finish:
            parts.append(outcome[:MAX_TEXT_CHARACTERS])
        return ", ".join(parts)


_NAMES: Final = tuple(entry.name for entry in fields(RequestRecord))
