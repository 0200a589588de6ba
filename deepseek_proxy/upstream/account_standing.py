"""How an account stands: whether it may be used now, and what of it is to be believed.

A refusal of the key, or an empty balance, takes an account out for a minute, then for two, and so on; then
one request may try it. A 429 pauses it for a second, then two, and so on, and tells how many requests at once
it takes, which depends on its balance. One failure of a server means nothing; the second in a row pauses as a
429 does. Refuses to know where this is kept, and any clock. DeepSeek "Error Codes" and "Rate Limit", docs of
November 2026.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, replace
from typing import Final

import orjson

from deepseek_proxy.errors import (
    PermissionDenied,
    ProxyError,
    ProxyUnreachable,
    QuotaExhausted,
    RateLimited,
    Unauthenticated,
    UpstreamError,
    UpstreamMisconfigured,
)

REFUSED: Final = "refused"
NO_BALANCE: Final = "no_balance"
MISCONFIGURED: Final = "misconfigured"
RATE_LIMITED: Final = "rate_limited"
FAILING: Final = "failing"

FIRST_RECHECK_SECONDS: Final = 60.0
LAST_RECHECK_SECONDS: Final = 3600.0
FIRST_PAUSE_SECONDS: Final = 1.0
LAST_PAUSE_SECONDS: Final = 60.0
LEARNT_SECONDS: Final = 600.0
"""How long a limit that a 429 has told is believed: a balance can be topped up."""
REMEMBERED_SECONDS: Final = 900.0
"""How long failures are remembered that nothing has followed."""

_LIMIT: Final = re.compile(r"concurrency limit of (\d{1,9})\b")
_REFUSALS: Final[tuple[tuple[type[ProxyError], str], ...]] = (
    (Unauthenticated, REFUSED),
    (PermissionDenied, REFUSED),
    (QuotaExhausted, NO_BALANCE),
    (UpstreamMisconfigured, MISCONFIGURED),
)


@dataclass(frozen=True, slots=True)
class Standing:
    """Moments are Unix time. `failures` came in a row; `until` it is not used, for `reason`. `limit` is what
    was told of its concurrency, to be believed `limit_until`."""

    failures: int = 0
    reason: str = ""
    until: float = 0
    limit: int | None = None
    limit_until: float = 0

    @classmethod
    def read(cls, text: str) -> Standing:
        """What was written; a good standing for what cannot be read, by another version perhaps."""
        try:
            return cls(**orjson.loads(text))
        except (orjson.JSONDecodeError, TypeError):
            return cls()

    def written(self) -> str:
        return orjson.dumps(asdict(self)).decode()

    def is_out(self, now: float) -> bool:
        return now < self.until

    def is_refused(self) -> bool:
        """Whether only its operator can help."""
        return self.reason in (REFUSED, NO_BALANCE, MISCONFIGURED)

    def is_on_probation(self, now: float) -> bool:
        """Whether one request shall try it, before others do."""
        return self.failures > 0 and self.reason not in ("", RATE_LIMITED) and now >= self.until > 0

    def limited(self, configured: int, now: float) -> int:
        """How many requests at once it takes."""
        return configured if self.limit is None or now >= self.limit_until else min(configured, self.limit)

    def kept_seconds(self, now: float) -> float:
        return max(max(self.until, now) + REMEMBERED_SECONDS, self.limit_until) - now

    def after_success(self, now: float) -> Standing:
        """Of a request that began to be answered. One that was under way during a pause ends no pause."""
        return self if self.is_out(now) else replace(self, failures=0, reason="", until=0)

    def after(self, error: ProxyError, held: int, now: float) -> Standing:
        """Of an attempt that failed while `held` requests were under way; `self` where it is not to blame."""
        failures = self.failures + 1
        for kind, reason in _REFUSALS:
            if isinstance(error, kind):
                pause = min(FIRST_RECHECK_SECONDS * 2 ** min(self.failures, 20), LAST_RECHECK_SECONDS)
                return replace(self, failures=failures, reason=reason, until=now + pause)
        if isinstance(error, RateLimited):
            if self.is_out(now) and self.reason == RATE_LIMITED:
                failures = self.failures  # sent before the pause, as many may have been
            told = _LIMIT.search(error.message)
            return replace(
                self,
                failures=failures,
                reason=RATE_LIMITED,
                until=max(self.until, now + _pause(failures, error.retry_after)),
                limit=max(1, int(told.group(1)) if told else held - 1),
                limit_until=now + LEARNT_SECONDS,
            )
        if isinstance(error, UpstreamError) and not isinstance(error, ProxyUnreachable):
            if self.is_out(now):
                return self
            pause = _pause(failures - 1, error.retry_after) if failures > 1 else 0
            return replace(self, failures=failures, reason=FAILING, until=now + pause if pause else 0)
        return self


def is_refusal(error: ProxyError) -> bool:
    """Whether an account was refused as such: another may be taken."""
    return any(isinstance(error, kind) for kind, _ in _REFUSALS)


def _pause(times: int, asked: float | None) -> float:
    grown = FIRST_PAUSE_SECONDS * 2 ** min(times - 1, 20)
    return max(min(grown, LAST_PAUSE_SECONDS), min(asked or 0, LAST_RECHECK_SECONDS))
