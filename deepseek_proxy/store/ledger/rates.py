"""The arithmetic of rates, for all ledgers: the generic cell rate algorithm over one stored moment.

Refuses to know where the moment is stored. ITU-T I.371, "virtual scheduling".
"""

from __future__ import annotations

from deepseek_proxy.store.ledger.base import Taken

_ROUNDING = 1e-6  # seconds; sums of fractions of a window miss its end by less


def take(full_at: float, now: float, limit: int, window_seconds: float) -> tuple[Taken, float]:
    """One event at `now`. `full_at` is when all of `limit` is free again; the second value is the new one."""
    step = window_seconds / limit
    begin = min(max(full_at, now), now + window_seconds)  # later only where the clock was set back
    next_full = begin + step
    over = next_full - now - window_seconds
    allowed = over <= _ROUNDING
    if allowed:
        begin = next_full
    remaining = int((now + window_seconds - begin + _ROUNDING) / step)
    return Taken(allowed, max(0, remaining), begin - now, 0.0 if allowed else over), begin
