from __future__ import annotations

import pytest
from harness.machines import CREATED, events_of, judged

from deepseek_proxy.errors import ContextOverflow, ProxyError, QuotaExhausted, RateLimited, UpstreamError
from deepseek_proxy.translate.responses.failure import failed


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (ContextOverflow("Too long."), "context_length_exceeded", "Too long."),
        (QuotaExhausted("No balance."), "insufficient_quota", "No balance."),
        (
            RateLimited("Slow down.", retry_after=2),
            "rate_limit_exceeded",
            "Slow down. Please try again in 2s.",
        ),
        (UpstreamError("Gone.", code="slow_down"), "slow_down", "Gone."),
    ],
)
def test_a_failure_is_a_whole_stream(error: ProxyError, code: str, message: str) -> None:
    data = failed(error, "resp_9", CREATED)
    final = judged(data)
    assert [event["type"] for event in events_of(data)] == [
        *("response.created", "response.in_progress", "error", "response.failed"),
    ]
    assert (final["id"], final["created_at"], final["output"]) == ("resp_9", CREATED, [])
    assert final["error"] == {"code": code, "message": message}
