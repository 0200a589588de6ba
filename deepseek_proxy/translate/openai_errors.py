"""Failures in the words of OpenAI's API, for every dialect of OpenAI's: the HTTP status, headers and body.

Clients act on these: SDKs send a request again for some statuses, and stop at others.
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
    Saturated,
    Unauthenticated,
)

DEFAULT_RETRY_AFTER_SECONDS = 5


def http_status(error: ProxyError) -> int:
    """OpenAI reports an empty account as 429; a bare 402 makes Codex try six times."""
    return 429 if isinstance(error, QuotaExhausted) else error.status


def http_headers(error: ProxyError) -> dict[str, str]:
    """Headers by which SDKs decide whether to try again, and when."""
    headers = {}
    if error.retryable or error.retry_after is not None:
        headers["Retry-After"] = str(retry_after_seconds(error))
    if not error.retryable:  # by themselves, SDKs try a 429 again
        headers["x-should-retry"] = "false"
    return headers


def retry_after_seconds(error: ProxyError) -> int:
    """How long a client is to wait before it sends the same request again."""
    seconds = error.retry_after if error.retry_after is not None else DEFAULT_RETRY_AFTER_SECONDS
    return max(1, math.ceil(seconds))


def http_body(error: ProxyError) -> dict[str, Any]:
    """`{"error": {message, type, param, code}}`, all four keys always."""
    return {"error": fields_of(error, error.message)}


def fields_of(error: ProxyError, message: str) -> dict[str, Any]:
    """The inside of the object: message, type, param, code."""
    return {"message": message, "type": _type(error), "param": error.param, "code": error.code}


def _type(error: ProxyError) -> str:
    if isinstance(error, QuotaExhausted):
        return "insufficient_quota"
    if isinstance(error, (RateLimited, Saturated)):
        return "rate_limit_error"
    if isinstance(error, Unauthenticated):
        return "authentication_error"
    if isinstance(error, PermissionDenied):
        return "permission_error"
    return "invalid_request_error" if error.fault is Fault.CLIENT else "server_error"
