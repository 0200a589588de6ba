"""Quirks of Codex CLI, each with the versions that need it (measured from 0.80 to 0.169).

Pure: headers come in as strings, decisions go out. Refuses to be asked about any other client.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

import orjson

from deepseek_proxy.errors import (
    ContextOverflow,
    InternalError,
    ProxyError,
    QuotaExhausted,
    RateLimited,
    Saturated,
    UpstreamOverloaded,
)
from deepseek_proxy.translate.responses.options import StreamOptions

# The first version that takes the effort `max` in a catalogue; older ones reject the whole of it.
_KNOWS_MAX_EFFORT: Final = (0, 142)
# The first version that reads `model_catalog_url`; from 0.157 on it does with a feature of which it warns.
_ASKS_FOR_CATALOGUE: Final = (0, 162)
_VERSION = re.compile(r"(\d+)\.(\d+)")

# What Codex itself says in the user's name: how each such part of a message begins and ends (0.80 to 0.169).
_CONTEXT_BLOCKS: Final = (
    ("# AGENTS.md instructions for ", "</INSTRUCTIONS>"),
    ("<user_instructions>", "</user_instructions>"),
    ("<environment_context>", "</environment_context>"),
    ("<subagent_notification>", "</subagent_notification>"),
    ("<turn_aborted>", "</turn_aborted>"),
)


def is_codex(originator: str | None, user_agent: str | None) -> bool:
    """Whether a request comes from Codex: `originator: codex_exec`, `user-agent: codex-tui/0.169.0 (…)`."""
    return any((value or "").lower().startswith("codex") for value in (originator, user_agent))


def turn_metadata(body: Mapping[str, Any], header: str | None) -> str | None:
    """What Codex says of a turn: in the body (0.130 on), else in the header `x-codex-turn-metadata`.

    That of a WebSocket is of its first turn, and speaks of a warm-up (0.169).
    """
    sent = body.get("client_metadata")
    said = sent.get("x-codex-turn-metadata") if isinstance(sent, dict) else None
    return said if isinstance(said, str) else header


def is_errand(turn_metadata: str | None) -> bool:
    """Whether a turn is the side job of naming a thread, by its metadata (0.142 on).

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
    return _is_since(_KNOWS_MAX_EFFORT, client_version)


def asks_for_catalogue(client_version: str | None) -> bool:
    """Whether Codex gets its catalogue from `model_catalog_url`; an unknown version does."""
    return _is_since(_ASKS_FOR_CATALOGUE, client_version)


def _is_since(first: tuple[int, int], client_version: str | None) -> bool:
    found = _VERSION.match(client_version or "")
    return found is None or (int(found[1]), int(found[2])) >= first


def is_context_block(text: str) -> bool:
    """Whether a part of a user message is Codex's own: what still holds, it says anew after a compaction."""
    text = text.strip()
    return any(text.startswith(begin) and text.endswith(end) for begin, end in _CONTEXT_BLOCKS)


def as_stream_failure(error: ProxyError) -> ProxyError:
    """The error to send as `response.failed`, with status 200 also where nothing has been sent yet.

    By status alone, Codex tries a 401 six times and a 5xx thirty times, does not wait for a 429 (up to
    0.142), and hides our message. Inside a stream the code decides (0.104 to 0.169 alike):
    """
    if isinstance(error, (ContextOverflow, QuotaExhausted, RateLimited)):
        return error  # codes of OpenAI's own: Codex stops, or waits as long as the message says
    if isinstance(error, (Saturated, UpstreamOverloaded)):
        return _with_code(error, "rate_limit_exceeded")  # waits; `slow_down` ends it at once up to 0.142
    if error.retryable or isinstance(error, InternalError):
        return _with_code(error, "server_error")  # asks five times more within six seconds
    return _with_code(error, "invalid_prompt")  # stops at once and shows the message as it is


def understands_envelope(error: ProxyError) -> bool:
    """Whether Codex makes the best of an error message over WebSocket, as it is, by what it says (0.169).

    Told that a response is unknown, it connects again and sends the whole conversation.
    """
    return error.code == "previous_response_not_found"


def adapted(options: StreamOptions) -> StreamOptions:
    """Options of a response that Codex reads (0.118 to 0.169).

    It takes `total_tokens` for what fills the context window, and compacts a conversation that seems too
    long. It acts on the codes of failures, and asks six times for an answer that the content filter cut off,
    if that is called incomplete.
    """
    return replace(options, totals_last_turn=True, filtered_is_failed=True, told=as_stream_failure)


def _with_code(error: ProxyError, code: str) -> ProxyError:
    return type(error)(error.message, param=error.param, code=code, retry_after=error.retry_after)
