"""The ledger: who holds what now, what was spent, how often, and what is out of use for a while.

Five primitives, each atomic by itself, alike over threads, worker processes and machines:

1. A *lease* holds one or more names, each of which only so many leases may hold at once. It ends when it is
   released, or when its holder (a worker) has not been heard of for its time to live.
2. A *ticket* is a place in the queue for names: nobody takes what those need who came first.
3. A *counter* adds up integers until it expires.
4. A *rate* lets so many events pass in a window.
5. A *mark* is a short text that stands on a name until it expires.

Refuses to know what the names stand for, how to wait, and what an account or a client is. Amounts are
integers (money: in a unit small enough), durations are seconds, moments are Unix time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from deepseek_proxy.errors import ProxyError

QUEUE_SECONDS: Final = 3.0
"""So long after the last word of its holder (`acquire`, `enter` or `renew`) a ticket stands in nobody's way
any more: who waits asks often, and those behind a dead one shall not wait until it is buried."""


class LedgerUnavailable(ProxyError):
    """The ledger cannot be reached: nobody knows whether a limit is kept."""

    status = 503
    retryable = True


@dataclass(frozen=True, slots=True)
class Hold:
    """A wish for one of the `limit` places that `name` has. The limit counts at this moment only."""

    name: str
    limit: int


@dataclass(frozen=True, slots=True)
class Lease:
    """What `holder` holds until it releases it. `choice` says which of the choices it was granted for.

    The holder chooses the id before it asks: so it can give back what it may have got, if no answer comes.
    """

    id: str
    holder: str
    names: tuple[str, ...]
    choice: int = 0


@dataclass(frozen=True, slots=True)
class Ticket:
    """A place in the queue for `names`; a lower number came earlier. The holder chooses the id."""

    id: str
    holder: str
    names: tuple[str, ...]
    number: int = 0


@dataclass(frozen=True, slots=True)
class Taken:
    """The answer of a rate. `remaining` events may follow at once; in `reset_seconds` all may again; one that
    was refused may be tried in `retry_seconds` (0 where it was allowed)."""

    allowed: bool
    remaining: int
    reset_seconds: float
    retry_seconds: float


@dataclass(frozen=True, slots=True)
class Mark:
    text: str
    seconds_left: float


class Ledger(Protocol):
    """Every method may raise `LedgerUnavailable`. Safe between threads, and between greenlets."""

    # -- leases -----------------------------------------------------------------------------------

    def acquire(
        self,
        lease_id: str,
        choices: Sequence[Sequence[Hold]],
        holder: str,
        ttl_seconds: float,
        ticket: Ticket | None = None,
    ) -> Lease | None:
        """A lease on all holds of the first choice that can be had, or None where none can.

        A choice can be had if each of its names has a free place beside those that are kept for who waits for
        it and came before `ticket` (`turns`; without a ticket: for all who wait). The ticket is used up by a
        lease, else it is kept.
        The holder is alive for `ttl_seconds` from now on.
        """

    def renew(self, holder: str, leases: Sequence[Lease], ttl_seconds: float) -> None:
        """The holder is alive for another `ttl_seconds`. `leases` are all that it has: those that had lapsed
        meanwhile, or were lost, are entered again, whatever the limits: their work goes on in any case."""

    def release(self, lease: Lease) -> bool:
        """Gives the places back. Returns whether they were still held: the second time they are not.

        Looks at id and holder only.
        """

    def held(self, names: Sequence[str]) -> dict[str, int]:
        """How many leases hold each name."""

    # -- queues -----------------------------------------------------------------------------------

    def enter(
        self, ticket_id: str, names: Sequence[str], holder: str, ttl_seconds: float, max_waiting: int
    ) -> Ticket | None:
        """A place at the end of the queues for `names`; None where `max_waiting` wait for each of them.

        Lapses when its holder has not said a word for `QUEUE_SECONDS`.
        """

    def leave(self, ticket: Ticket) -> None:
        """Gives a place up; nothing happens if it is gone already. Looks at id and holder only."""

    def waiting(self, names: Sequence[str]) -> dict[str, int]:
        """How many wait for each name."""

    # -- counters ---------------------------------------------------------------------------------

    def add(self, amounts: Mapping[str, int], expires_at: float) -> dict[str, int]:
        """Adds each amount to its counter, all or none, and returns the new totals.

        A counter that does not exist, or has expired, begins with 0 and expires at `expires_at`.
        """

    def read(self, names: Sequence[str]) -> dict[str, int]:
        """The totals; 0 for counters that do not exist."""

    # -- rates ------------------------------------------------------------------------------------

    def take(self, name: str, limit: int, window_seconds: float) -> Taken:
        """Lets one event pass, of no more than `limit` at once and, on average, in a window.

        The generic cell rate algorithm: what was used comes back evenly, one event each `window / limit`.
        A refused event takes nothing.
        """

    # -- marks ------------------------------------------------------------------------------------

    def mark(self, name: str, text: str, seconds: float) -> None:
        """Sets a mark, in place of one that stands there."""

    def unmark(self, name: str) -> None:
        """Takes a mark away."""

    def marks(self, names: Sequence[str]) -> dict[str, Mark]:
        """The marks that stand on any of `names`."""

    def close(self) -> None:
        """Lets go of files and connections. What is held stays held until it lapses."""
