"""What a client's key allows: asked before an answer, and charged once at its end.

Who has the end of an answer may ask again at once, and of another worker: the charge is entered, and the
place free, before the end is sent.

An `Allowance` belongs to one answer, however many upstream calls it takes. Names in the ledger begin with
`client:` and the client's name. Amounts are tokens, and billionths of a US dollar: DeepSeek's prices are
whole numbers of them for one token.

A limit of the day refuses what comes after it is reached; the answers that run at that moment are finished,
and may go beyond it. Refuses to know HTTP, and how a dialect words a refusal.
"""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from datetime import time as time_of_day
from typing import Final

from deepseek_proxy import models
from deepseek_proxy.api.exchange import Exchange
from deepseek_proxy.credentials import ClientKey
from deepseek_proxy.errors import BudgetSpent, LimitReached, PermissionDenied
from deepseek_proxy.models import Model, Resolved
from deepseek_proxy.store.ledger.base import Hold, Lease, LedgerUnavailable
from deepseek_proxy.store.ledger.opening import Books
from deepseek_proxy.translate import metering
from deepseek_proxy.translate.metering import Meter
from deepseek_proxy.upstream.call import Call

NANODOLLARS: Final = 1_000_000_000
WINDOW_SECONDS: Final = 60.0
BUSY_SECONDS: Final = 5
"""When to come again while all of a client's places are taken: nobody knows when one gets free."""
KEPT: Final = timedelta(days=2)
"""How long the sums of a day are kept after it has begun; an answer that began in it may end later."""
MAX_OWED: Final = 10_000

logger = logging.getLogger(__name__)


class Allowance:
    """What one answer may take. `settle()` has to be called in the end; only the first time counts.

    A stream calls it itself, before it sends its end.
    """

    __slots__ = ("_calls", "_exchange", "_lease", "_limiter", "_limits", "_settled")

    def __init__(
        self, limiter: Limiter, limits: ClientKey | None, exchange: Exchange, lease: Lease | None = None
    ) -> None:
        self._limiter = limiter
        self._limits = limits if limits is not None and _is_counted(limits) else None
        self._exchange = exchange
        self._lease = lease
        self._calls: list[tuple[Call, Model, Meter]] = []
        self._settled = False
        if lease is not None or self._limits is not None:
            exchange.tally.at_end = self.settle

    def metered(self, call: Call, model: Model, body: bytes) -> Meter | None:
        """What is to read along with `call`, which was opened with `body`; None where nobody counts."""
        if self._limits is None:
            return None
        meter = Meter(metering.estimate_prompt(body, model.context_window))
        self._calls.append((call, model, meter))
        return meter

    def settle(self) -> None:
        """Frees the answer's place, and charges for it. Never raises."""
        if self._settled:
            return
        self._settled = True
        self._exchange.tally.at_end = None
        if self._lease is not None:
            self._limiter.release(self._lease)
        if self._limits is not None:
            self._limiter.charge(self._limits, self._exchange.began, *self._used())

    def _used(self) -> tuple[int, int]:
        """Tokens and billionths of a dollar. What the upstream has refused, or never got, costs nothing."""
        tokens, cost = 0, self._exchange.searches * models.SEARCH_USD
        for call, model, meter in self._calls:
            if call.failed or not call.attempts:
                continue
            usage = meter.usage
            tokens += usage.prompt_tokens + usage.completion_tokens
            cost += models.cost(
                model,
                self._exchange.began,
                cache_hit=usage.cached_tokens,
                cache_miss=usage.prompt_tokens - usage.cached_tokens,
                output=usage.completion_tokens,
            ).spent
        return tokens, round(cost * NANODOLLARS)


class Limiter:
    """Takes allowances. One for each process; it opens the ledger when the first client has a limit."""

    def __init__(self, books: Books) -> None:
        self._books = books
        self._owed: deque[tuple[Mapping[str, int], float]] = deque(maxlen=MAX_OWED)

    def take(self, client: ClientKey | None, resolved: Resolved | None, exchange: Exchange) -> Allowance:
        """Leave for one answer of `resolved` (None: of no model), and a place for it until it is settled.

        What is left goes into `exchange.headers`. Raises `PermissionDenied`, `LimitReached` or
        `BudgetSpent`, and `LedgerUnavailable` where nobody knows.
        """
        if client is None:
            return Allowance(self, None, exchange)
        if resolved is not None and not may_use(client, resolved):
            raise PermissionDenied(
                f"This key may not use the model '{resolved.requested[:200]}'.",
                param="model",
                code="model_not_found",
            )
        if _is_counted(client):
            self._check_day(client, exchange)
        if client.requests_per_minute is not None:
            self._check_rate(client, client.requests_per_minute, exchange)
        lease = None
        if client.max_concurrency is not None:
            lease = self._hold(client, client.max_concurrency)
        return Allowance(self, client, exchange, lease)

    def release(self, lease: Lease) -> None:
        self._books.holdings.release(lease)

    def charge(self, client: ClientKey, began: datetime, tokens: int, nanodollars: int) -> None:
        """Adds to the sums of the day in which the answer began. Never raises: what the ledger cannot take
        now is added with the next answer."""
        names = _Names(client, began)
        used = {names.tokens: tokens, names.spent: nanodollars}
        if any(used.values()):
            self._owed.append((used, (names.midnight + KEPT).timestamp()))
        while self._owed:
            amounts, expires_at = self._owed.popleft()
            try:
                self._books.ledger.add(amounts, expires_at)
            except LedgerUnavailable as error:
                self._owed.appendleft((amounts, expires_at))
                logger.error("What clients have used cannot be entered yet: %s", error.message)
                return

    # -- inside -----------------------------------------------------------------------------------

    def _check_day(self, client: ClientKey, exchange: Exchange) -> None:
        names = _Names(client, exchange.began)
        totals = self._books.ledger.read((names.tokens, names.spent))
        left_seconds = (names.midnight - exchange.began).total_seconds()
        most = client.tokens_per_day
        if most is not None:
            remaining = max(0, most - totals[names.tokens])
            exchange.headers |= _rate_headers("tokens", most, remaining, left_seconds)
            if not remaining:
                raise BudgetSpent(
                    f"This key's {most} tokens for today are used up. The next day begins at 00:00 UTC.",
                    retry_after=left_seconds,
                )
        budget = client.budget_per_day
        if budget is not None and totals[names.spent] >= round(budget * NANODOLLARS):
            raise BudgetSpent(
                f"This key's budget for today, ${budget:.2f}, is spent. The next day begins at 00:00 UTC.",
                retry_after=left_seconds,
            )

    def _check_rate(self, client: ClientKey, limit: int, exchange: Exchange) -> None:
        taken = self._books.ledger.take(f"client:{client.name}:requests", limit, WINDOW_SECONDS)
        exchange.headers |= _rate_headers("requests", limit, taken.remaining, taken.reset_seconds)
        if not taken.allowed:
            raise LimitReached(
                f"This key may send {limit} requests per minute.", retry_after=taken.retry_seconds
            )

    def _hold(self, client: ClientKey, limit: int) -> Lease:
        lease = self._books.holdings.acquire([[Hold(f"client:{client.name}:answers", limit)]])
        if lease is None:
            raise LimitReached(
                f"This key may have {limit} answers at the same time, and has them.",
                retry_after=BUSY_SECONDS,
            )
        return lease


class _Names:
    """Of a client's sums, on the day of `moment`."""

    def __init__(self, client: ClientKey, moment: datetime) -> None:
        day = moment.astimezone(UTC).date()
        self.tokens = f"client:{client.name}:tokens:{day}"
        self.spent = f"client:{client.name}:spent:{day}"
        self.midnight = datetime.combine(day + timedelta(days=1), time_of_day(), UTC)


def may_use(client: ClientKey | None, resolved: Resolved) -> bool:
    """Whether a key is for this model, by the name that was asked for or by the one that it stands for."""
    if client is None or not client.models:
        return True
    return resolved.requested in client.models or resolved.model.id in client.models


def _is_counted(client: ClientKey) -> bool:
    return client.tokens_per_day is not None or client.budget_per_day is not None


def _rate_headers(kind: str, limit: int, remaining: int, reset_seconds: float) -> dict[str, str]:
    """As OpenAI's API sends them ("Rate limits", November 2026)."""
    return {
        f"x-ratelimit-limit-{kind}": str(limit),
        f"x-ratelimit-remaining-{kind}": str(remaining),
        f"x-ratelimit-reset-{kind}": _duration(reset_seconds),
    }


def _duration(seconds: float) -> str:
    """`6m0s`, as OpenAI writes durations."""
    minutes, rest = divmod(math.ceil(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return (f"{hours}h" if hours else "") + (f"{minutes}m" if hours or minutes else "") + f"{rest}s"
