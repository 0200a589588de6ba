"""Quirks of Codex CLI, each with the versions that need it (measured from 0.80 to 0.169).

Pure: headers come in as strings, decisions go out. Refuses to be asked about any other client.
"""

from __future__ import annotations

import re
from typing import Any, Final

import orjson

from deepseek_proxy.errors import (
    ContextOverflow,
    Fault,
    ProxyError,
    QuotaExhausted,
    RateLimited,
    Unauthenticated,
    UpstreamOverloaded,
)

# The first version that takes the effort `max` in a catalogue; older ones reject the whole of it.
_KNOWS_MAX_EFFORT: Final = (0, 142)
_VERSION = re.compile(r"(\d+)\.(\d+)")


def is_codex(originator: str | None, user_agent: str | None) -> bool:
    """Whether a request comes from Codex: `originator: codex_exec`, `user-agent: codex-tui/0.169.0 (…)`."""
    return any((value or "").lower().startswith("codex") for value in (originator, user_agent))


def is_errand(turn_metadata: str | None) -> bool:
    """Whether a turn is the side job of naming a thread, by the header `x-codex-turn-metadata` (0.142 on).

    The TUI sends one beside every first turn, with the same effort and with tools; a title of a few words
    needs neither.
    """
    try:
        metadata: Any = orjson.loads(turn_metadata or "null")
    except orjson.JSONDecodeError:
        return False
    return isinstance(metadata, dict) and metadata.get("thread_source") == "thread_title"


def knows_max_effort(client_version: str | None) -> bool:
    """Whether the catalogue may hold the effort `max`; asked for without a version, it may."""
    found = _VERSION.match(client_version or "")
    return found is None or (int(found[1]), int(found[2])) >= _KNOWS_MAX_EFFORT


def as_stream_failure(error: ProxyError) -> ProxyError | None:
    """The error to send as `response.failed` with status 200, or None where the HTTP status does better.

    By status alone, Codex tries a 401 six times and a 5xx thirty times, does not wait for a 429 (up to
    0.142), and hides our message. Inside a stream the code decides (0.104 to 0.169 alike):
    """
    if isinstance(error, (ContextOverflow, QuotaExhausted, RateLimited)):
        return error  # it stops, or waits as long as the message says
    if isinstance(error, Unauthenticated):
        return _with_code(error, "invalid_prompt")  # stops at once and shows the message as it is
    if isinstance(error, UpstreamOverloaded):
        return _with_code(error, "slow_down")  # waits like for a rate limit; other codes give up or hammer
    return error if error.fault in (Fault.UPSTREAM, Fault.ACCOUNT) else None


def _with_code(error: ProxyError, code: str) -> ProxyError:
    return type(error)(error.message, param=error.param, code=code, retry_after=error.retry_after)
