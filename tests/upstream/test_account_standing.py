"""What failures and successes make of an account's standing."""

from __future__ import annotations

import pytest

from deepseek_proxy.errors import (
    ContextOverflow,
    PermissionDenied,
    ProxyError,
    ProxyUnreachable,
    QuotaExhausted,
    RateLimited,
    Unauthenticated,
    UpstreamError,
    UpstreamMisconfigured,
    UpstreamOverloaded,
    UpstreamUnreachable,
)
from deepseek_proxy.upstream.account_standing import Standing, is_refusal

NOW = 1_000_000.0
TOO_MANY = RateLimited(
    "Your current concurrency is 26, which exceeds your concurrency limit of 25 based on it."
)


def after(*errors: ProxyError, held: int = 10, start: float = NOW) -> list[float]:
    """The pauses of failures that come as soon as an account is back."""
    standing, now, pauses = Standing(), start, []
    for error in errors:
        standing = standing.after(error, held, now)
        pauses.append(max(0.0, standing.until - now))
        now = max(now, standing.until)
    return pauses


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (Unauthenticated("x"), "refused"),
        (PermissionDenied("x"), "refused"),
        (QuotaExhausted("x"), "no_balance"),
        (UpstreamMisconfigured("x"), "misconfigured"),
    ],
)
def test_a_refusal_takes_it_out_longer_each_time(error: ProxyError, reason: str) -> None:
    assert after(*[error] * 8) == [60, 120, 240, 480, 960, 1920, 3600, 3600]
    standing = Standing().after(error, 1, NOW)
    assert (standing.reason, standing.is_refused(), is_refusal(error)) == (reason, True, True)
    assert standing.is_out(NOW + 59)
    assert not standing.is_on_probation(NOW + 59)
    assert standing.is_on_probation(NOW + 61)
    assert standing.after_success(NOW + 61) == Standing()


def test_a_rate_limit_pauses_and_teaches() -> None:
    assert after(*[TOO_MANY] * 8) == [1, 2, 4, 8, 16, 32, 60, 60]
    standing = Standing().after(TOO_MANY, 26, NOW)
    assert (standing.limited(100, NOW), standing.limited(5, NOW)) == (25, 5)
    assert standing.limited(100, NOW + 601) == 100
    assert not standing.is_on_probation(NOW + 5)
    assert standing.after_success(NOW + 5).limited(100, NOW + 5) == 25
    assert Standing().after(RateLimited("slow down"), 26, NOW).limit == 25
    assert Standing().after(RateLimited("slow down"), 1, NOW).limit == 1


def test_what_was_asked_for_is_waited() -> None:
    assert after(RateLimited("x", retry_after=30)) == [30]
    assert after(RateLimited("x", retry_after=1e9)) == [3600]


def test_those_that_were_under_way_do_not_make_the_pause_longer() -> None:
    standing = Standing()
    for _ in range(50):
        standing = standing.after(TOO_MANY, 26, NOW)
    assert standing.until == NOW + 1
    failing = Standing()
    for _ in range(50):
        failing = failing.after(UpstreamError("x"), 26, NOW)
    assert failing.until == NOW + 1


def test_one_failure_means_nothing_and_the_second_in_a_row_does() -> None:
    assert after(*[UpstreamOverloaded("x")] * 5) == [0, 1, 2, 4, 8]
    assert after(*[UpstreamUnreachable("x")] * 2) == [0, 1]
    once = Standing().after(UpstreamError("x"), 1, NOW)
    assert not once.is_on_probation(NOW)
    assert once.after_success(NOW) == Standing()
    twice = once.after(UpstreamError("x"), 1, NOW)
    assert twice.is_on_probation(NOW + 2)
    assert not twice.is_refused()


def test_an_old_success_ends_no_pause() -> None:
    standing = Standing().after(QuotaExhausted("x"), 1, NOW)
    assert standing.after_success(NOW + 1) is standing


@pytest.mark.parametrize("error", [ContextOverflow("x"), ProxyUnreachable("x")])
def test_what_others_are_to_blame_for_changes_nothing(error: ProxyError) -> None:
    standing = Standing(failures=1, reason="failing")
    assert standing.after(error, 1, NOW) is standing
    assert not is_refusal(error)


def test_it_is_written_and_read() -> None:
    standing = Standing().after(TOO_MANY, 26, NOW)
    assert Standing.read(standing.written()) == standing
    assert standing.kept_seconds(NOW) >= 600
    assert Standing().after(UpstreamError("x"), 1, NOW).kept_seconds(NOW) == 900
    assert Standing.read('{"of": "another version"}') == Standing()
    assert Standing.read("") == Standing()
