"""Which account a request goes to, and how many at once: one lease for each attempt, given back once.

A conversation stays with the account that has its beginning in its cache; another goes where least is under
way, by weight. Where all are busy, requests wait in the order in which they came. What an attempt tells of an
account (`account_standing`) is known to all workers through the ledger. Refuses to know HTTP, and bodies.
"""

from __future__ import annotations

import logging
import math
import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

from deepseek_proxy import models
from deepseek_proxy.credentials import Account
from deepseek_proxy.errors import (
    AccountRefused,
    ModelNotFound,
    NoAccount,
    PermissionDenied,
    ProxyError,
    Saturated,
    UpstreamError,
    UpstreamMisconfigured,
)
from deepseek_proxy.settings import Settings
from deepseek_proxy.store.ledger.base import Hold, Lease, LedgerUnavailable, Mark, Ticket
from deepseek_proxy.store.ledger.opening import Books
from deepseek_proxy.translate.hosts import Host
from deepseek_proxy.translate.hub import Usage
from deepseek_proxy.upstream.account_standing import Standing, is_refusal
from deepseek_proxy.upstream.call import Call
from deepseek_proxy.upstream.waiting import Waiter, WaitingRoom

STICKY_SECONDS: Final = 6 * 3600.0
"""How long a conversation is known to be with an account after its last request; DeepSeek's cache lives for
hours to days."""
BUSY_RETRY_SECONDS: Final = 5.0
"""When to come again while all accounts are busy: nobody knows when one gets free."""
OTHER_CONCURRENCY: Final = models.PRO.max_concurrency
"""Web searches at once in one account without a limit of its own; DeepSeek publishes none for them."""

NANODOLLARS: Final = 1_000_000_000
KEPT: Final = timedelta(days=2)
"""How long the sums of a day are kept."""

LATELY_SECONDS: Final = 0.1
"""So long those who wait believe what another of them has seen."""

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Wish:
    """What a request wants of an account: a model (None: none), and the one that knows its beginning.

    `chat` is False for what DeepSeek's API has beside the chat. `tried` are the accounts that have failed it
    already, `refusals` how often one was refused as such.
    """

    model: str | None
    affinity: str | None = None
    chat: bool = True
    tried: set[str] = field(default_factory=set)
    refusals: int = 0

    @property
    def sticky(self) -> str:
        return f"sticky:{self.affinity}"


class Sums(NamedTuple):
    """What the answers of an account were on one day (UTC)."""

    answers: int
    cache_hit_tokens: int
    cache_miss_tokens: int
    output_tokens: int
    nanodollars: int

    def entries(self, name: str, moment: datetime) -> dict[str, int]:
        """The counters of the account called `name`, on the day of `moment`."""
        return dict(zip(Sums.names(name, moment), self, strict=True))

    @classmethod
    def names(cls, name: str, moment: datetime) -> list[str]:
        day = moment.astimezone(UTC).date()
        return [f"account:{name}:{day}:{field}" for field in cls._fields]


class Member:
    """An account as it is used. `host` is None where requests are sent as they are."""

    def __init__(self, account: Account, default_url: str) -> None:
        self.account = account
        self.name = account.name
        self.key = account.api_key.get_secret_value()
        self.base_url = str(account.base_url or default_url).rstrip("/")
        self.proxy = account.proxy.get_secret_value() if account.proxy is not None else None
        host = Host(
            account.models,
            account.reasoning_field,
            account.thinking_on,
            account.thinking_off,
            account.omit,
        )
        self.host = None if host.is_deepseek else host
        self.standing: Final = f"account:{self.name}"
        self._group = f"account:{account.shares_with}"

    def can(self, wish: Wish) -> bool:
        serves = wish.model is None or self.account.serves(wish.model)
        return serves and (wish.chat or self.account.has_full_api)

    def hold(self, model: str | None) -> Hold:
        """What a request for `model` counts for. Without a limit of its own, each model has DeepSeek's."""
        if self.account.max_concurrency is not None:
            return Hold(self._group, self.account.max_concurrency)
        known = models.MODELS.get(model or "")
        return Hold(
            f"{self._group}:{model or 'other'}", known.max_concurrency if known else OTHER_CONCURRENCY
        )


@dataclass(frozen=True, slots=True)
class _Seen:
    """What the ledger said when a place was chosen: how accounts stand, and where the conversation is."""

    standings: Mapping[str, Standing]
    knows: Mark | None

    @property
    def knowing(self) -> str | None:
        return self.knows.text if self.knows is not None else None


class Seat:
    """One attempt's place at an account. `close()` has to be called in the end; the first time counts."""

    def __init__(self, accounts: Accounts, member: Member, lease: Lease, wish: Wish, seen: _Seen) -> None:
        self.member = member
        self._accounts = accounts
        self._lease = lease
        self._wish = wish
        self._seen = seen

    def answered(self) -> None:
        """The upstream has begun to answer."""
        self._accounts.succeeded(self.member, self._wish, self._seen)

    def failed(self, error: ProxyError) -> ProxyError:
        """The attempt has failed. Returns the error as the client may see it."""
        self._wish.tried.add(self.member.name)
        if not self._wish.chat and isinstance(error, UpstreamError | PermissionDenied):
            return error  # of a search, say: chats may be welcome
        self._wish.refusals += is_refusal(error)
        return self._accounts.failed(self.member, self._lease.names[0], error)

    def close(self) -> None:
        self._accounts.free(self._lease)


class Accounts:
    """One for each process. Only `place` waits, and only it and `standings` raise `LedgerUnavailable`."""

    def __init__(self, settings: Settings, books: Books, clock: Callable[[], float] = time.time) -> None:
        """`clock` returns Unix time."""
        self.members: Final = tuple(Member(a, str(settings.upstream_url)) for a in settings.accounts)
        self.books: Final = books
        self._clock = clock
        self._max_waiting = settings.account_queue
        self._wait_seconds = settings.account_queue_seconds
        self._room = WaitingRoom()
        self._lately: dict[tuple[str, ...], tuple[float, dict[str, Standing]]] = {}

    def limits(self) -> int:
        """How many limits there are: so many accounts can be tried before all are known."""
        return len({member.account.shares_with for member in self.members})

    def place(self, wish: Wish, call: Call) -> Seat:
        """A place for one attempt; waits for one if need be.

        Raises `ModelNotFound` where no account serves the model, `NoAccount` where none can be used,
        `Saturated` where too many wait or this took too long, `LedgerUnavailable`, and `Aborted`.
        """
        able = [member for member in self.members if member.can(wish)]
        if not able:
            raise _nobody(wish)
        seen = self._see(able, wish)
        seat = self._try(able, wish, seen, self._loads(able, wish))
        return seat if seat is not None else self._wait(able, wish, call, seen.knows)

    # -- what seats tell --------------------------------------------------------------------------

    def succeeded(self, member: Member, wish: Wish, seen: _Seen) -> None:
        before, knows = seen.standings[member.name], seen.knows
        with _not_needed():
            if before.failures:
                self._note(member, before, before.after_success(self._clock()))
            if wish.affinity is not None and (
                knows is None or knows.text != member.name or knows.seconds_left < STICKY_SECONDS / 2
            ):
                self.books.ledger.mark(wish.sticky, member.name, STICKY_SECONDS)

    def failed(self, member: Member, hold: str, error: ProxyError) -> ProxyError:
        with _not_needed():
            before = self.standings([member])[member.name]
            after = before.after(error, self.books.ledger.held([hold])[hold], self._clock())
            self._note(member, before, after)
            if after.is_refused() and after != before:
                logger.error("Account %s is not used for now: %s", member.name, error.message)
        return AccountRefused("One of the gateway's accounts was refused.") if is_refusal(error) else error

    def charge(self, name: str, model: models.Model, began: datetime, usage: Usage) -> None:
        """Adds an answer's tokens to the sums of its account, for the day in which it began."""
        cost = models.cost(
            model,
            began,
            cache_hit=usage.cached_tokens,
            cache_miss=usage.prompt_tokens - usage.cached_tokens,
            output=usage.completion_tokens,
        )
        sums = Sums(
            answers=1,
            cache_hit_tokens=usage.cached_tokens,
            cache_miss_tokens=usage.prompt_tokens - usage.cached_tokens,
            output_tokens=usage.completion_tokens,
            nanodollars=round(cost.spent * NANODOLLARS),
        )
        with _not_needed():
            self.books.ledger.add(sums.entries(name, began), (began + KEPT).timestamp())

    def free(self, lease: Lease) -> None:
        self.books.holdings.release(lease)
        self._room.wake(lease.names)

    def standings(self, members: Sequence[Member]) -> dict[str, Standing]:
        """By name. Raises `LedgerUnavailable`."""
        marks = self.books.ledger.marks([member.standing for member in members])
        return {member.name: _standing(marks.get(member.standing)) for member in members}

    # -- inside -----------------------------------------------------------------------------------

    def _note(self, member: Member, before: Standing, after: Standing) -> None:
        if after != before:
            self._lately.clear()
            seconds = after.kept_seconds(self._clock())
            self.books.ledger.mark(member.standing, after.written(), seconds)

    def _see(self, able: Sequence[Member], wish: Wish) -> _Seen:
        names = [member.standing for member in able]
        marks = self.books.ledger.marks([*names, wish.sticky] if wish.affinity is not None else names)
        standings = {member.name: _standing(marks.get(member.standing)) for member in able}
        return _Seen(standings, marks.get(wish.sticky))

    def _see_lately(self, able: Sequence[Member], knows: Mark | None) -> _Seen:
        """As others who wait have seen it a moment ago: they all ask the same."""
        names, now = tuple(member.name for member in able), time.monotonic()
        when, standings = self._lately.get(names, (-math.inf, {}))
        if now - when > LATELY_SECONDS:
            standings = self.standings(able)
            self._lately[names] = now, standings
        return _Seen(standings, knows)

    def _loads(self, able: Sequence[Member], wish: Wish) -> dict[str, float]:
        """How busy each is, by name."""
        names = {member.name: member.hold(wish.model).name for member in able}
        held = self.books.ledger.held(sorted(set(names.values())))
        return {member.name: (held[names[member.name]] + 1) / member.account.weight for member in able}

    def _try(
        self,
        able: Sequence[Member],
        wish: Wish,
        seen: _Seen,
        loads: Mapping[str, float],
        ticket: Ticket | None = None,
    ) -> Seat | None:
        """A seat at the best account that has one. Raises `NoAccount` where waiting is of no use."""
        now = self._clock()
        usable = [member for member in able if not seen.standings[member.name].is_out(now)]
        if not usable:
            self._check_hope(seen.standings.values(), now)
            return None
        fresh = [member for member in usable if member.name not in wish.tried]

        def rank(member: Member) -> tuple[bool, float, float]:
            """The one that knows the conversation, then the others, the one with least to do first."""
            return member.name != seen.knowing, loads.get(member.name, 0), random.random()  # noqa: S311

        choices = sorted(fresh or usable, key=rank)
        holds = []
        for member in choices:
            hold, standing = member.hold(wish.model), seen.standings[member.name]
            wanted = [Hold(hold.name, standing.limited(hold.limit, now))]
            if standing.is_on_probation(now):
                wanted.append(Hold(f"probe:{member.name}", 1))
            holds.append(wanted)
        lease = self.books.holdings.acquire(holds, ticket)
        return None if lease is None else Seat(self, choices[lease.choice], lease, wish, seen)

    def _check_hope(self, standings: Iterable[Standing], now: float) -> None:
        """Raises `NoAccount` where none comes back before a request has waited too long."""
        back = [(standing.until - now, standing.is_refused()) for standing in standings]
        if not any(seconds <= self._wait_seconds and not refused for seconds, refused in back):
            raise NoAccount(
                "None of the gateway's accounts can be used now; its operator can see why.",
                retry_after=min(seconds for seconds, _ in back),
            )

    def _wait(self, able: Sequence[Member], wish: Wish, call: Call, knows: Mark | None) -> Seat:
        names = sorted({member.hold(wish.model).name for member in able})
        ticket = self.books.holdings.enter(names, self._max_waiting)
        if ticket is None:
            raise Saturated("All accounts of the gateway are busy.", retry_after=BUSY_RETRY_SECONDS)
        seat = None
        try:
            with self._room.joined(ticket) as waiter:
                seat = self._wait_for_turn(able, wish, call, waiter, knows)
                waiter.is_served = True
        finally:
            call.abort_with(None)
            if seat is None:
                self.books.holdings.leave(ticket)
        return seat

    def _wait_for_turn(
        self, able: Sequence[Member], wish: Wish, call: Call, waiter: Waiter, knows: Mark | None
    ) -> Seat:
        give_up = time.monotonic() + self._wait_seconds
        while True:
            call.abort_with(waiter.wake)  # raises where the call was given up
            left = give_up - time.monotonic()
            if left <= 0:
                raise Saturated("All accounts of the gateway are busy.", retry_after=BUSY_RETRY_SECONDS)
            if not waiter.wait(left):
                continue
            # Whoever waits takes what comes: loads are of no interest where all are full.
            seat = self._try(able, wish, self._see_lately(able, knows), {}, waiter.ticket)
            if seat is not None:
                return seat


def _standing(mark: Mark | None) -> Standing:
    return Standing.read(mark.text) if mark is not None else Standing()


def _nobody(wish: Wish) -> ProxyError:
    if not wish.chat:
        return UpstreamMisconfigured("None of the gateway's accounts has DeepSeek's whole API.")
    return ModelNotFound(f"None of the gateway's accounts serves the model '{wish.model}'.", param="model")


@contextmanager
def _not_needed() -> Iterator[None]:
    """For what makes the next choice better, and this answer no worse."""
    try:
        yield
    except LedgerUnavailable as error:
        logger.warning("How an account stands cannot be noted: %s", error.message)
