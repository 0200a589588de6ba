"""Failures in the words of OpenAI's API: the HTTP body, and the code inside a stream.

Clients act on these: Codex stops at once on some codes, waits on others, and sends the request up to
thirty times for a status it takes for a passing fault.
"""

from __future__ import annotations

import math
from typing import Any

from deepseek_proxy.errors import (
    Fault,
    PermissionDenied,
    ProxyError,
    QuotaExhausted,
    RateLimited,
    Unauthenticated,
    UpstreamOverloaded,
)

DEFAULT_RETRY_AFTER_SECONDS = 5


def http_status(error: ProxyError) -> int:
    """OpenAI reports an empty account as 429; a bare 402 makes Codex try six times."""
    return 429 if isinstance(error, QuotaExhausted) else error.status


def http_headers(error: ProxyError) -> dict[str, str]:
    """Headers by which SDKs decide whether to try again, and when."""
    if error.retryable:
        seconds = error.retry_after if error.retry_after is not None else DEFAULT_RETRY_AFTER_SECONDS
        return {"Retry-After": str(max(1, math.ceil(seconds)))}
    return {"x-should-retry": "false"}


def http_body(error: ProxyError) -> dict[str, Any]:
    """`{"error": {message, type, param, code}}`, all four keys always."""
    return {"error": _fields(error, error.message)}


def stream_fields(error: ProxyError) -> dict[str, Any]:
    """The same four fields for an error after the first byte.

    "Please try again in Ns." is the only form of a pause that every measured Codex version honours.
    """
    message = error.message
    waits = isinstance(error, (RateLimited, UpstreamOverloaded))
    if waits and "try again in" not in message:
        seconds = error.retry_after if error.retry_after is not None else DEFAULT_RETRY_AFTER_SECONDS
        message = f"{message} Please try again in {max(1, math.ceil(seconds))}s."
    fields = _fields(error, message)
    fields["code"] = fields["code"] or "server_error"
    return fields


def _fields(error: ProxyError, message: str) -> dict[str, Any]:
    return {"message": message, "type": _type(error), "param": error.param, "code": error.code}


def _type(error: ProxyError) -> str:
    if isinstance(error, QuotaExhausted):
        return "insufficient_quota"
    if isinstance(error, RateLimited):
        return "rate_limit_error"
    if isinstance(error, Unauthenticated):
        return "authentication_error"
    if isinstance(error, PermissionDenied):
        return "permission_error"
    return "invalid_request_error" if error.fault is Fault.CLIENT else "server_error"
