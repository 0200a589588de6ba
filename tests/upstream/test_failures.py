"""What the upstream's refusals mean: whose fault, which code, whether it is worth another attempt."""

from __future__ import annotations

import socket
import ssl
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
import requests
import urllib3
from harness import deepseek

from deepseek_proxy import errors
from deepseek_proxy.errors import Fault, ProxyError
from deepseek_proxy.upstream.failures import error_message, from_body, from_exception, from_status

JSON = "application/json"

# status, body -> class, code, retryable, a part of the message
REFUSALS = [
    (400, deepseek.INVALID, errors.InvalidRequest, "invalid_request_error", False, "Invalid temperature"),
    (400, deepseek.TOO_LONG, errors.ContextOverflow, "context_length_exceeded", False, "1048576 tokens"),
    (413, deepseek.TOO_LONG, errors.ContextOverflow, "context_length_exceeded", False, "1048576 tokens"),
    (400, deepseek.RISKY, errors.ContentRejected, "invalid_prompt", False, "content filter"),
    (400, b"", errors.InvalidRequest, "invalid_request_error", False, "HTTP 400"),
    (401, deepseek.BAD_KEY, errors.Unauthenticated, "invalid_api_key", False, "DEEPSEEK_API_KEY"),
    (402, deepseek.NO_BALANCE, errors.QuotaExhausted, "insufficient_quota", False, "Insufficient Balance"),
    (403, b"nope", errors.PermissionDenied, "permission_denied", False, "nope"),
    (404, b"", errors.UpstreamMisconfigured, "not_found", False, "upstream_url"),
    (408, b"", errors.UpstreamTimeout, "server_error", True, "HTTP 408"),
    (405, b"", errors.UpstreamMisconfigured, "server_error", False, "HTTP 405"),
    (204, b"", errors.UpstreamMisconfigured, "server_error", False, "HTTP 204"),
    (422, deepseek.UNPROCESSABLE, errors.InvalidRequest, "invalid_request_error", False, "unknown variant"),
    (429, deepseek.TOO_MANY, errors.RateLimited, "rate_limit_exceeded", True, "Too many requests"),
    (500, b"oops", errors.UpstreamError, "server_error", True, "oops"),
    (503, deepseek.BUSY, errors.UpstreamOverloaded, "server_error", True, "too busy"),
    (504, b"<html>", errors.UpstreamTimeout, "server_error", True, "HTTP 504"),
    (301, b"", errors.UpstreamMisconfigured, "server_error", False, "redirects (HTTP 301)"),
    (308, b"", errors.UpstreamMisconfigured, "server_error", False, "upstream_url"),
]


@pytest.mark.parametrize(("status", "body", "kind", "code", "retryable", "part"), REFUSALS)
def test_a_status_and_its_body(
    status: int, body: bytes, kind: type[ProxyError], code: str, retryable: bool, part: str
) -> None:
    error = from_status(status, {}, body)
    assert type(error) is kind
    assert error.code == code
    assert error.retryable is retryable
    assert part in error.message
    assert "request_id" not in error.message


@pytest.mark.parametrize("status", [401, 402, 404, 405])
@pytest.mark.parametrize("end", ["", "."])
def test_the_upstreams_words_end_before_ours_begin(status: int, end: str) -> None:
    said = from_status(status, {}, deepseek.error(f"It says so{end}", "some_error")).message
    assert "It says so. " in said


@pytest.mark.parametrize(
    "message",
    [
        "The supported API model names are deepseek-flash, deepseek-v4-pro, but you passed gpt-5.",
        "Model Not Exist",
    ],
)
def test_an_unknown_model_names_its_field(message: str) -> None:
    error = from_status(400, {}, deepseek.error(message, "invalid_request_error"))
    assert type(error) is errors.ModelNotFound
    assert error.param == "model"


@pytest.mark.parametrize("status", [400, 401, 403, 413, 422])
def test_what_the_client_did_is_never_the_upstreams_fault(status: int) -> None:
    assert from_status(status, {}, b"").fault is Fault.CLIENT


@pytest.mark.parametrize("status", [429, 500, 503, 504])
def test_retry_after_is_kept_where_another_attempt_helps(status: int) -> None:
    assert from_status(status, {"Retry-After": "7"}, b"").retry_after == 7


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("7", 7),
        ("1.5", 1.5),
        (" 7 ", 7),
        ("0", 0),
        ("-1", None),
        ("soon", None),
        ("", None),
        ("inf", None),
        ("nan", None),
        ("1e999", None),
        ("9" * 400, None),
        ("5_0", None),
        ("٥", None),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0),
        ("Mon, 01 Jan 99999999999999999999 00:00:00 GMT", None),
        ("Mon, 01 Jan 2035 00:00:00", None),  # without a zone it may mean anything
    ],
)
def test_retry_after_in_seconds(value: str, seconds: float | None) -> None:
    assert from_status(429, {"Retry-After": value}, b"").retry_after == seconds


def test_retry_after_as_a_date() -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=90), usegmt=True)
    asked = from_status(503, {"Retry-After": date}, b"").retry_after
    assert asked is not None
    assert 85 < asked <= 90


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"error": {"message": "no", "type": "x"}}', "no"),
        (b'{"error": "no"}', "no"),
        (b'{"message": "no"}', "no"),
        (b'"no"', "no"),
        (b" no \n", "no"),
        (b'{"error": {"message": "no (request_id: 7d3c-4c)"}}', "no"),
        ("nein, größer".encode("latin-1"), "nein, gr\ufffd\ufffder"),
        (b"x" * 5000, "x" * 1000),
        (b"<html><body>Bad Gateway</body></html>", None),
        (b"  <!DOCTYPE html>", None),
        (b"", None),
        (b"[]", None),
        (b"{}", None),
        (b"null", None),
        (b'{"error": null}', None),
        (b'{"error": {}}', None),
        (b'{"error": {"message": ""}}', None),
        (b'{"error": {"message": ["no"]}}', None),
        (b'{"choices": []}', None),
    ],
)
def test_the_message_of_an_error_body(body: bytes, message: str | None) -> None:
    assert error_message(body) == message


def test_a_200_with_an_error_in_it_may_pass() -> None:
    error = from_body(b'{"error": {"message": "backend gone"}}', JSON)
    assert type(error) is errors.UpstreamError
    assert error.retryable
    assert error.message == "The upstream reported an error: backend gone"


@pytest.mark.parametrize(
    ("content_type", "named"),
    [("text/html; charset=utf-8", "text/html"), (JSON, JSON), ("", "nothing")],
)
def test_a_200_that_is_no_answer_is_a_wrong_address(content_type: str, named: str) -> None:
    error = from_body(b"<html>", content_type)
    assert type(error) is errors.UpstreamMisconfigured
    assert not error.retryable
    assert f"answered with {named} in place" in error.message


def wrapped(outer: Exception, cause: Exception) -> Exception:
    """As urllib3 and requests hand it out."""
    outer.__cause__ = cause
    pool = urllib3.HTTPConnectionPool("127.0.0.1")
    return requests.exceptions.ConnectionError(urllib3.exceptions.MaxRetryError(pool, "/", outer))


CONNECTION = urllib3.connection.HTTPConnection("127.0.0.1")
REFUSED = ConnectionRefusedError(111, "Connection refused")
RESET = ConnectionResetError(104, "Connection reset by peer")


@pytest.mark.parametrize(
    ("raised", "kind", "message"),
    [
        (
            wrapped(urllib3.exceptions.NewConnectionError(CONNECTION, f"No connection: {REFUSED}"), REFUSED),
            errors.UpstreamUnreachable,
            "The upstream could not be reached: Connection refused",
        ),
        (
            wrapped(urllib3.exceptions.ProtocolError("Connection aborted.", RESET), RESET),
            errors.UpstreamUnreachable,
            "The upstream could not be reached: Connection reset by peer",
        ),
        (OSError(28, "No space"), errors.UpstreamUnreachable, "The upstream could not be reached: No space"),
        (socket.gaierror(), errors.UpstreamUnreachable, "The upstream could not be reached: gaierror"),
        (
            requests.exceptions.SSLError(ssl.SSLCertVerificationError(1, "self-signed certificate")),
            errors.UpstreamUnreachable,
            "The TLS connection to the upstream failed: self-signed certificate",
        ),
        (
            requests.exceptions.ProxyError("http://user:secret@proxy refused"),
            errors.UpstreamUnreachable,
            "The connection through the configured upstream proxy failed.",
        ),
        (
            requests.exceptions.ConnectTimeout(),
            errors.UpstreamUnreachable,
            "The upstream did not accept a connection in time.",
        ),
        (
            requests.exceptions.ReadTimeout(),
            errors.UpstreamTimeout,
            "The upstream did not begin to answer in time.",
        ),
    ],
)
def test_an_exception_in_words(raised: Exception, kind: type[ProxyError], message: str) -> None:
    error = from_exception(raised)
    assert type(error) is kind
    assert error.message == message
    assert error.retryable
