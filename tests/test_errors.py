"""The failures as one table: whose fault, which status, which code, and whether to try again."""

from __future__ import annotations

import inspect

import pytest

from deepseek_proxy import errors
from deepseek_proxy.errors import Fault, ProxyError

# Clients act on these. A new failure is a new line here.
TABLE = {
    "InvalidRequest": (Fault.CLIENT, 400, None, False),
    "ContextOverflow": (Fault.CLIENT, 400, "context_length_exceeded", False),
    "ContentRejected": (Fault.CLIENT, 400, "invalid_prompt", False),
    "SearchLimitReached": (Fault.CLIENT, 400, "invalid_prompt", False),
    "Unauthenticated": (Fault.CLIENT, 401, "invalid_api_key", False),
    "PermissionDenied": (Fault.CLIENT, 403, "permission_denied", False),
    "ModelNotFound": (Fault.CLIENT, 404, "model_not_found", False),
    "NotFound": (Fault.CLIENT, 404, "not_found", False),
    "MethodNotAllowed": (Fault.CLIENT, 405, "method_not_allowed", False),
    "RequestTimeout": (Fault.CLIENT, 408, "request_timeout", False),
    "BodyCutOff": (Fault.CLIENT, 400, None, False),
    "BodyTooLarge": (Fault.CLIENT, 413, "request_too_large", False),
    "UnsupportedEncoding": (Fault.CLIENT, 415, "unsupported_content_encoding", False),
    "UpgradeRequired": (Fault.CLIENT, 426, "websocket_unavailable", False),
    "QuotaExhausted": (Fault.ACCOUNT, 402, "insufficient_quota", False),
    "RateLimited": (Fault.ACCOUNT, 429, "rate_limit_exceeded", True),
    "LimitReached": (Fault.CLIENT, 429, "rate_limit_exceeded", True),
    "BudgetSpent": (Fault.CLIENT, 429, "insufficient_quota", False),
    "AccountRefused": (Fault.ACCOUNT, 503, "server_error", True),
    "NoAccount": (Fault.ACCOUNT, 503, "server_error", True),
    "Saturated": (Fault.ACCOUNT, 429, "rate_limit_exceeded", True),
    "UpstreamError": (Fault.UPSTREAM, 502, "server_error", True),
    "UpstreamOverloaded": (Fault.UPSTREAM, 503, "server_error", True),
    "UpstreamUnreachable": (Fault.UPSTREAM, 502, "server_error", True),
    "ProxyUnreachable": (Fault.UPSTREAM, 502, "server_error", True),
    "UpstreamTimeout": (Fault.UPSTREAM, 504, "server_error", True),
    "UpstreamTruncated": (Fault.UPSTREAM, 502, "server_error", True),
    "UpstreamMisconfigured": (Fault.UPSTREAM, 502, "server_error", False),
    "Draining": (Fault.GATEWAY, 503, "server_error", True),
    "StoreUnavailable": (Fault.GATEWAY, 503, "store_unavailable", True),
    "StoreFull": (Fault.GATEWAY, 503, "store_full", True),
    "InternalError": (Fault.GATEWAY, 500, "server_error", False),
}


def leaves() -> dict[str, type[ProxyError]]:
    return {
        name: found
        for name, found in vars(errors).items()
        if inspect.isclass(found) and issubclass(found, ProxyError) and found is not ProxyError
    }


def test_the_table_is_what_they_are() -> None:
    assert {
        name: (leaf.fault, leaf.status, leaf.code, leaf.retryable) for name, leaf in leaves().items()
    } == TABLE


@pytest.mark.parametrize("leaf", leaves().values())
def test_each_says_why_it_exists(leaf: type[ProxyError]) -> None:
    assert leaf.__doc__ or leaf.code not in (None, "server_error"), "neither a docstring nor a telling code"


def test_an_error_carries_what_a_front_needs() -> None:
    error = errors.RateLimited("slow down", param="model", retry_after=2.5)
    assert (error.message, str(error)) == ("slow down", "slow down")
    assert (error.param, error.retry_after, error.code) == ("model", 2.5, "rate_limit_exceeded")
    assert isinstance(error, ProxyError)


def test_what_is_not_said_is_not_there() -> None:
    error = errors.InvalidRequest("no")
    assert (error.param, error.retry_after, error.code) == (None, None, None)


def test_a_code_of_its_own_is_that_errors_alone() -> None:
    assert errors.UpstreamError("no", code="not_found").code == "not_found"
    assert errors.UpstreamError("no").code == "server_error"
