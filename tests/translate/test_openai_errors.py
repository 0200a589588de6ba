from __future__ import annotations

from typing import Any

import pytest

from deepseek_proxy import errors as failures
from deepseek_proxy.errors import ProxyError
from deepseek_proxy.translate import openai_errors as errors

KINDS = [kind for kind in vars(failures).values() if isinstance(kind, type) and issubclass(kind, ProxyError)]

# What clients of OpenAI's API get: status, type, code, and whether they are told to come again.
EXPECTED: dict[type[ProxyError], tuple[int, str, str | None, bool]] = {
    failures.ProxyError: (500, "server_error", "server_error", False),
    failures.InvalidRequest: (400, "invalid_request_error", None, False),
    failures.ContextOverflow: (400, "invalid_request_error", "context_length_exceeded", False),
    failures.ContentRejected: (400, "invalid_request_error", "invalid_prompt", False),
    failures.SearchLimitReached: (400, "invalid_request_error", "invalid_prompt", False),
    failures.Unauthenticated: (401, "authentication_error", "invalid_api_key", False),
    failures.PermissionDenied: (403, "permission_error", "permission_denied", False),
    failures.ModelNotFound: (404, "invalid_request_error", "model_not_found", False),
    failures.NotFound: (404, "invalid_request_error", "not_found", False),
    failures.MethodNotAllowed: (405, "invalid_request_error", "method_not_allowed", False),
    failures.RequestTimeout: (408, "invalid_request_error", "request_timeout", False),
    failures.BodyCutOff: (400, "invalid_request_error", None, False),
    failures.BodyTooLarge: (413, "invalid_request_error", "request_too_large", False),
    failures.UnsupportedEncoding: (415, "invalid_request_error", "unsupported_content_encoding", False),
    failures.UpgradeRequired: (426, "invalid_request_error", "websocket_unavailable", False),
    failures.QuotaExhausted: (429, "insufficient_quota", "insufficient_quota", False),
    failures.RateLimited: (429, "rate_limit_error", "rate_limit_exceeded", True),
    failures.LimitReached: (429, "rate_limit_error", "rate_limit_exceeded", True),
    failures.BudgetSpent: (429, "insufficient_quota", "insufficient_quota", False),
    failures.AccountRefused: (503, "server_error", "server_error", True),
    failures.NoAccount: (503, "server_error", "server_error", True),
    failures.Saturated: (429, "rate_limit_error", "rate_limit_exceeded", True),
    failures.UpstreamError: (502, "server_error", "server_error", True),
    failures.UpstreamOverloaded: (503, "server_error", "server_error", True),
    failures.UpstreamUnreachable: (502, "server_error", "server_error", True),
    failures.ProxyUnreachable: (502, "server_error", "server_error", True),
    failures.UpstreamTimeout: (504, "server_error", "server_error", True),
    failures.UpstreamTruncated: (502, "server_error", "server_error", True),
    failures.UpstreamMisconfigured: (502, "server_error", "server_error", False),
    failures.Draining: (503, "server_error", "server_error", True),
    failures.StoreUnavailable: (503, "server_error", "store_unavailable", True),
    failures.StoreFull: (503, "server_error", "store_full", True),
    failures.InternalError: (500, "server_error", "server_error", False),
}


def test_every_failure_is_in_the_table() -> None:
    assert {*EXPECTED} == {*KINDS}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_a_failure_in_openais_shape(kind: type[ProxyError]) -> None:
    status, error_type, code, again = EXPECTED[kind]
    error = kind("What to do.", param="input[3].content")
    assert errors.http_status(error) == status
    assert errors.http_body(error) == {
        "error": {"message": "What to do.", "type": error_type, "param": "input[3].content", "code": code}
    }
    assert errors.http_headers(error) == ({"Retry-After": "5"} if again else {"x-should-retry": "false"})


def test_param_and_code_are_there_without_a_value() -> None:
    body = errors.http_body(failures.InvalidRequest("No."))
    assert body["error"] == {"message": "No.", "type": "invalid_request_error", "param": None, "code": None}


def test_a_code_of_its_own_wins() -> None:
    error = failures.InvalidRequest("No.", code="invalid_type")
    assert errors.http_body(error)["error"]["code"] == "invalid_type"


@pytest.mark.parametrize(("retry_after", "seconds"), [(None, 5), (0, 1), (0.2, 1), (7, 7), (7.1, 8)])
@pytest.mark.parametrize("kind", [failures.RateLimited, failures.UpstreamOverloaded])
def test_a_pause_is_said_in_whole_seconds(kind: Any, retry_after: float | None, seconds: int) -> None:
    error = kind("Too many requests.", retry_after=retry_after)
    assert errors.http_headers(error) == {"Retry-After": str(seconds)}
    assert errors.http_body(error)["error"]["message"] == "Too many requests."


def test_a_budget_says_when_to_come_again_and_that_nobody_shall_try_before() -> None:
    error = failures.BudgetSpent("Spent.", retry_after=3600)
    assert errors.http_headers(error) == {"Retry-After": "3600", "x-should-retry": "false"}
