"""The arithmetic of rates, against a count of what was let through."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from deepseek_proxy.store.ledger import rates


@given(st.integers(1, 50), st.lists(st.floats(0, 30), min_size=1, max_size=200))
def test_a_window_never_sees_more_than_twice_the_limit_nor_a_burst_more_than_it(
    limit: int, gaps: list[float]
) -> None:
    window = 60.0
    now, full_at = 1_800_000_000.0, 0.0
    passed: list[float] = []
    for gap in gaps:
        now += gap
        before = rates.take(full_at, now, limit, window)[0].remaining
        taken, full_at = rates.take(full_at, now, limit, window)
        if taken.allowed:
            passed.append(now)
            assert taken.remaining == before
        else:
            assert taken.remaining == 0
            later, _ = rates.take(full_at, now + taken.retry_seconds, limit, window)
            assert later.allowed
        assert 0 <= taken.reset_seconds <= window + 1e-3
    for begin in passed:
        in_window = sum(begin <= moment < begin + window for moment in passed)
        # A full burst, and what came back during the window.
        assert in_window <= 2 * limit
        assert sum(moment == begin for moment in passed) <= limit
