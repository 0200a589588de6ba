"""DeepSeek's error answers: the status, the envelope and the exact words.

Refuses to know when they apply. Source: replies recorded from api.deepseek.com, autumn 2026. The `code` is
`invalid_request_error` nearly everywhere, also where that makes no sense; clients must go by the status.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import orjson


class Refusal(Exception):
    """An answer that is not a completion. `headers` are additional to the content type."""

    def __init__(
        self,
        status: int,
        body: bytes,
        content_type: str = "application/json",
        headers: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        super().__init__(f"{status}: {body.decode()}")
        self.status = status
        self.body = body
        self.content_type = content_type
        self.headers = headers


def envelope(message: str, kind: str = "invalid_request_error", code: str = "invalid_request_error") -> bytes:
    """DeepSeek's error body."""
    return orjson.dumps({"error": {"message": message, "type": kind, "param": None, "code": code}})


def invalid(message: str) -> Refusal:
    """400: the request says something that DeepSeek does not accept."""
    return Refusal(400, envelope(message))


def undeserialisable(reason: str) -> Refusal:
    """422: the body is not JSON, or does not fit the types."""
    return Refusal(422, envelope(f"Failed to deserialize the JSON body into the target type: {reason}"))


def context_overflow(window: int, prompt_tokens: int, completion_tokens: int) -> Refusal:
    """400: prompt and asked-for completion (0 where none was asked for) exceed the window."""
    total = prompt_tokens + completion_tokens
    return invalid(
        f"This model's maximum context length is {window} tokens. However, you requested {total} tokens "
        f"({prompt_tokens} in the messages, {completion_tokens} in the completion). "
        "Please reduce the length of the messages or completion."
    )


def no_key() -> Refusal:
    """401: no `Authorization: Bearer` header."""
    words = "Authentication Fails (auth header format should be Bearer sk-...)"
    return Refusal(401, envelope(words, "authentication_error"))


def bad_key(key: str) -> Refusal:
    """401: a key that DeepSeek does not know."""
    words = f"Authentication Fails, Your api key: {mask(key)} is invalid"
    return Refusal(401, envelope(words, "authentication_error"))


def no_balance() -> Refusal:
    """402: the account is empty."""
    return Refusal(402, envelope("Insufficient Balance", "unknown_error"))


def too_many(current: int, limit: int, retry_after: float | None = None) -> Refusal:
    """429: more requests at once than the account may have."""
    words = (
        f"Too many requests. Your current concurrency is {current}, which exceeds your concurrency limit of "
        f"{limit} based on your remaining balance. Please top up your balance to restore your concurrency."
    )
    headers = {} if retry_after is None else {"Retry-After": f"{retry_after:g}"}
    return Refusal(429, envelope(words, "rate_limit_error"), headers=headers)


def busy() -> Refusal:
    """503: the service is overloaded."""
    words = (
        "Service is too busy. We advise users to temporarily switch to alternative LLM API service providers."
    )
    return Refusal(503, envelope(words, "service_unavailable_error", "service_unavailable_error"))


SERVER_ERROR_PAGE: Final = (
    b"<html>\r\n<head><title>500 Internal Server Error</title></head>\r\n<body>\r\n"
    b"<center><h1>500 Internal Server Error</h1></center>\r\n</body>\r\n</html>\r\n"
)


def server_error() -> Refusal:
    """500, as the web server in front of the service words it: HTML."""
    return Refusal(500, SERVER_ERROR_PAGE, "text/html")


def not_found() -> Refusal:
    """404: no such route."""
    return Refusal(404, envelope("Not Found"))


def method_not_allowed() -> Refusal:
    """405: the route exists, for another method."""
    return Refusal(405, envelope("Method Not Allowed"))


def mask(key: str) -> str:
    """A key as DeepSeek shows it: its last four characters, if there are enough others."""
    return f"****{key[-4:]}" if len(key) >= 12 else "****"
