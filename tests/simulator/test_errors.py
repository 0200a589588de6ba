from __future__ import annotations

import json

import pytest

from deepseek_proxy.simulator import errors
from deepseek_proxy.simulator.errors import Refusal


def of(refusal: Refusal) -> tuple[int, dict[str, str | None]]:
    return refusal.status, json.loads(refusal.body)["error"]


# As recorded from api.deepseek.com, autumn 2026.
RECORDED = [
    (
        errors.bad_key("sk-123456789e78f"),
        401,
        "Authentication Fails, Your api key: ****e78f is invalid",
        "authentication_error",
        "invalid_request_error",
    ),
    (errors.no_balance(), 402, "Insufficient Balance", "unknown_error", "invalid_request_error"),
    (
        errors.context_overflow(1_048_576, 985_647, 64_000),
        400,
        "This model's maximum context length is 1048576 tokens. However, you requested 1049647 tokens "
        "(985647 in the messages, 64000 in the completion). Please reduce the length of the messages or "
        "completion.",
        "invalid_request_error",
        "invalid_request_error",
    ),
    (
        errors.too_many(26, 25),
        429,
        "Too many requests. Your current concurrency is 26, which exceeds your concurrency limit of 25 "
        "based on your remaining balance. Please top up your balance to restore your concurrency.",
        "rate_limit_error",
        "invalid_request_error",
    ),
    (
        errors.busy(),
        503,
        "Service is too busy. We advise users to temporarily switch to alternative LLM API service "
        "providers.",
        "service_unavailable_error",
        "service_unavailable_error",
    ),
]


@pytest.mark.parametrize(("refusal", "status", "message", "kind", "code"), RECORDED)
def test_recorded_errors(refusal: Refusal, status: int, message: str, kind: str, code: str) -> None:
    assert of(refusal) == (status, {"message": message, "type": kind, "param": None, "code": code})
    assert refusal.content_type == "application/json"


def test_retry_after() -> None:
    assert errors.too_many(2, 1).headers == {}
    assert errors.too_many(2, 1, retry_after=2.5).headers == {"Retry-After": "2.5"}


def test_a_server_error_is_a_page() -> None:
    assert errors.server_error().content_type == "text/html"
    assert errors.server_error().body.startswith(b"<html>")


def test_short_keys_are_masked_wholly() -> None:
    assert errors.mask("sk-secret") == "****"
    assert errors.mask("sk-123456789e78f") == "****e78f"
