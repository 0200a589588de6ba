"""What went wrong at the upstream, as one of our errors.

Classified by HTTP status first and by message second: DeepSeek's `code` says `invalid_request_error` for
almost everything. Messages are matched as substrings, as a request id may follow them. Source: DeepSeek
"Error Codes" (docs of Nov 2026) and recorded bodies.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import orjson
import requests
import urllib3

from deepseek_proxy.errors import (
    ContentRejected,
    ContextOverflow,
    InvalidRequest,
    ModelNotFound,
    PermissionDenied,
    ProxyError,
    QuotaExhausted,
    RateLimited,
    Unauthenticated,
    UpstreamError,
    UpstreamMisconfigured,
    UpstreamOverloaded,
    UpstreamTimeout,
    UpstreamUnreachable,
)

MAX_ERROR_BYTES = 64 * 1024
_MAX_MESSAGE_CHARACTERS = 1000
# float() would take "inf" and digits without end, of which no pause and no header can be made.
_SECONDS = re.compile(r"\s*[0-9]{1,9}(\.[0-9]{1,9})?\s*")
_REQUEST_ID = re.compile(r"\s*\(request_id: [^)]*\)\s*$")


def from_status(status: int, headers: Mapping[str, str], body: bytes) -> ProxyError:
    """The error of an answer whose status is not 200."""
    message = error_message(body)
    said = message or f"HTTP {status}"
    clause = said.rstrip(".")  # where a sentence of ours follows
    retry_after = _retry_after(headers.get("Retry-After"))
    if status in (400, 413, 422):
        return _bad_request(message or f"DeepSeek refused the request (HTTP {status}).")
    if status == 401:
        return Unauthenticated(
            f"DeepSeek refused the API key: {clause}. Check the key of the client, or DEEPSEEK_API_KEY."
        )
    if status == 402:
        return QuotaExhausted(f"The DeepSeek account has no balance left: {clause}. Top it up to go on.")
    if status == 403:
        return PermissionDenied(f"DeepSeek refused access: {said}")
    if status == 404:
        return UpstreamMisconfigured(
            f"The upstream has no such address: {clause}. Check upstream_url.", code="not_found"
        )
    if status == 429:
        return RateLimited(said, retry_after=retry_after)
    if status == 503:
        return UpstreamOverloaded(f"DeepSeek is overloaded: {said}", retry_after=retry_after)
    if status in (408, 504):
        return UpstreamTimeout(f"DeepSeek took too long: {said}", retry_after=retry_after)
    if 300 <= status < 400:
        return UpstreamMisconfigured(
            f"The upstream redirects (HTTP {status}), which is not followed. Check upstream_url."
        )
    if status < 500:
        return UpstreamMisconfigured(f"The upstream did not take the request: {clause}. Check upstream_url.")
    return UpstreamError(f"DeepSeek failed: {said}", retry_after=retry_after)


def from_body(body: bytes, content_type: str) -> ProxyError:
    """The error of an answer with status 200 that is no answer."""
    if (message := error_message(body)) is not None:
        return UpstreamError(f"The upstream reported an error: {message}")
    kind = content_type.split(";")[0].strip() or "nothing"
    return UpstreamMisconfigured(
        f"The upstream answered with {kind} in place of an answer. Check upstream_url."
    )


def from_exception(error: Exception) -> ProxyError:
    """The error of a connection that could not be made, or broke before an answer began."""
    cause = _root(error)
    if isinstance(error, requests.exceptions.SSLError):
        return UpstreamUnreachable(f"The TLS connection to the upstream failed: {cause}")
    if isinstance(error, requests.exceptions.ProxyError):
        return UpstreamUnreachable("The connection through the configured upstream proxy failed.")
    if isinstance(error, requests.exceptions.ConnectTimeout):
        return UpstreamUnreachable("The upstream did not accept a connection in time.")
    if isinstance(error, requests.exceptions.ReadTimeout):
        return UpstreamTimeout("The upstream did not begin to answer in time.")
    return UpstreamUnreachable(f"The upstream could not be reached: {cause}")


def never_connected(error: BaseException | None) -> bool:
    """Whether no connection came about: the upstream has seen nothing, and a proxy may be to blame."""
    kinds = (
        requests.exceptions.ProxyError,
        requests.exceptions.ConnectTimeout,
        requests.exceptions.SSLError,
    )
    if isinstance(error, kinds):
        return True
    reason = error.args[0] if isinstance(error, requests.ConnectionError) and error.args else None
    if isinstance(reason, urllib3.exceptions.MaxRetryError):
        reason = reason.reason
    return isinstance(reason, urllib3.exceptions.NewConnectionError)


def error_message(body: bytes) -> str | None:
    """The message of an error body, or None where there is none; plain text counts, HTML does not."""
    text = body.decode("utf-8", "replace").strip()
    try:
        parsed = orjson.loads(text)
    except orjson.JSONDecodeError:
        parsed = text if text and not text.startswith("<") else None
    if isinstance(parsed, dict):
        error = parsed.get("error", parsed.get("message"))
        parsed = error.get("message") if isinstance(error, dict) else error
    if not isinstance(parsed, str) or not parsed:
        return None
    return _REQUEST_ID.sub("", parsed)[:_MAX_MESSAGE_CHARACTERS]


def _bad_request(message: str) -> ProxyError:
    if "maximum context length" in message:
        return ContextOverflow(message)
    if "Content Exists Risk" in message:
        return ContentRejected(f"DeepSeek's content filter refused the prompt: {message}")
    if "supported API model names" in message or "Model Not Exist" in message:
        return ModelNotFound(message, param="model")
    return InvalidRequest(message, code="invalid_request_error")


def _retry_after(value: str | None) -> float | None:
    """Seconds from a Retry-After header: a number, or an HTTP date."""
    if not value:
        return None
    if _SECONDS.fullmatch(value):
        return float(value)
    try:
        return max(0.0, (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError, OverflowError):
        return None


def _root(error: BaseException) -> str:
    """The innermost reason, without the addresses of objects that urllib3 writes into its messages."""
    reason: object = error
    while True:
        if isinstance(reason, urllib3.exceptions.MaxRetryError) and reason.reason is not None:
            reason = reason.reason
        elif isinstance(reason, BaseException) and reason.args and isinstance(reason.args[-1], BaseException):
            reason = reason.args[-1]
        elif isinstance(reason, BaseException) and reason.__cause__ is not None:
            reason = reason.__cause__
        else:
            break
    text = getattr(reason, "strerror", None) or str(reason)
    return re.sub(r"<[^>]*>:?\s*", "", str(text)) or type(reason).__name__
