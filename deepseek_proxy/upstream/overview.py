"""What an operator wants to know of accounts and proxies, without their secrets: for a page and for metrics.

Reads the ledger, which has the numbers of all workers, and asks the accounts themselves for their balance.
Refuses to know HTTP routes.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import orjson

from deepseek_proxy import models
from deepseek_proxy.errors import ProxyError, Unauthenticated
from deepseek_proxy.ops.metrics import Level
from deepseek_proxy.store.ledger.base import Ledger, Mark
from deepseek_proxy.upstream.account_standing import Standing
from deepseek_proxy.upstream.accounts import NANODOLLARS, Accounts, Member, Sums
from deepseek_proxy.upstream.call import Clocks
from deepseek_proxy.upstream.client import BALANCE, MODELS, Client
from deepseek_proxy.upstream.proxies import Proxy

FRESH_SECONDS: Final = 300.0
"""For so long a balance is not asked for again."""
KNOWN_SECONDS: Final = 3600.0
"""For so long one that was asked for is shown."""
PATIENCE_SECONDS: Final = 10.0
MAX_ANSWER_BYTES: Final = 1 << 20

LEVELS: Final[Mapping[str, tuple[str, tuple[str, str]]]] = {
    "account_requests_in_use": ("Requests under way at a group of accounts.", ("group", "model")),
    "account_requests_limit": ("Most requests that it takes at once.", ("group", "model")),
    "account_requests_waiting": ("Requests that wait for it.", ("group", "model")),
    "account_out": ("1 while an account is not used.", ("account", "reason")),
    "account_balance": ("What an account has left, as it was last asked.", ("account", "currency")),
}
"""Gauges: what they mean, and their labels."""

READY: Final = "ready"
PAUSED: Final = "paused"
OUT: Final = "out"
PROBATION: Final = "probation"


@dataclass(frozen=True, slots=True)
class Limit:
    """Places of a group, for one model or (None) for all of them."""

    group: str
    model: str | None
    in_use: int
    limit: int
    waiting: int


@dataclass(frozen=True, slots=True)
class Told:
    """What an account says of itself. A problem is a sentence; a host may have no balance to tell."""

    models: Sequence[str] = ()
    balance: Mapping[str, Any] | None = None
    problem: str | None = None


def accounts_page(client: Client, accounts: Accounts) -> dict[str, Any]:
    """The JSON of `GET /admin/accounts`. Raises `LedgerUnavailable`."""
    now = time.time()
    members, ledger = accounts.members, accounts.books.ledger
    standings = accounts.standings(members)
    balances = _balances(client, members, ledger)
    groups: dict[str, list[Limit]] = {}
    for limit in limits(accounts):
        groups.setdefault(limit.group, []).append(limit)
    return {
        "accounts": [
            {
                **_described(member),
                **_state(standings[member.name], now),
                "limits": [
                    {"model": x.model, "in_use": x.in_use, "limit": x.limit, "waiting": x.waiting}
                    for x in groups[member.account.shares_with]
                ],
                "today": _today(ledger, member),
                "balance": balances.get(member.name),
            }
            for member in members
        ],
        "proxies": [*_proxies(client)],
    }


def limits(accounts: Accounts) -> list[Limit]:
    """Every limit once, whichever accounts share it. Raises `LedgerUnavailable`."""
    now, ledger, standings = time.time(), accounts.books.ledger, accounts.standings(accounts.members)
    found: dict[str, tuple[str, str | None, int]] = {}
    for member in accounts.members:
        own = member.account.max_concurrency is not None
        for model in (None,) if own else (*models.MODELS, None):
            hold = member.hold(model)
            told = standings[member.name].limited(hold.limit, now)
            known = found.get(hold.name, (member.account.shares_with, model, told))
            found[hold.name] = (*known[:2], min(known[2], told))
    held, waiting = ledger.held([*found]), ledger.waiting([*found])
    return [
        Limit(group, model, held[name], limit, waiting[name]) for name, (group, model, limit) in found.items()
    ]


def state_of(standing: Standing, now: float) -> str:
    if standing.is_out(now):
        return OUT if standing.is_refused() else PAUSED
    return PROBATION if standing.is_on_probation(now) else READY


def ask(client: Client, member: Member) -> Told:
    """Asks an account for its models and, where its host has that, its balance. Takes no place there."""
    try:
        listed = _get(client, member, MODELS).get("data")
        balance = _get(client, member, BALANCE) if member.account.has_full_api else None
    except Unauthenticated:
        return Told(problem="its host refused the API key: set another one in the configuration")
    except ProxyError as error:
        return Told(problem=error.message)
    named = listed if isinstance(listed, list) else ()
    return Told(
        [str(model.get("id")) for model in named if isinstance(model, dict)],
        _readable_balance(balance) if balance is not None else None,
    )


def levels(accounts: Accounts) -> Iterator[Level]:
    """What metrics say of accounts at this moment, of all workers together. Raises `LedgerUnavailable`."""
    now = time.time()
    for limit in limits(accounts):
        place = (limit.group, limit.model or "any")
        yield _level("account_requests_in_use", place, limit.in_use)
        yield _level("account_requests_limit", place, limit.limit)
        yield _level("account_requests_waiting", place, limit.waiting)
    for name, standing in accounts.standings(accounts.members).items():
        yield _level("account_out", (name, standing.reason or "none"), int(standing.is_out(now)))
    for name, balance in known_balances(accounts).items():
        for amount in balance["amounts"]:
            with suppress(ValueError):
                yield _level("account_balance", (name, amount["currency"]), float(amount["total"]))


def _level(name: str, labels: tuple[str, str], value: float) -> Level:
    help_text, names = LEVELS[name]
    return Level(name, help_text, dict(zip(names, labels, strict=True)), value)


def known_balances(accounts: Accounts) -> dict[str, Mapping[str, Any]]:
    """The balances that were asked for lately, by account. Raises `LedgerUnavailable`."""
    marks = accounts.books.ledger.marks([_balance_mark(member) for member in accounts.members])
    return {
        member.name: orjson.loads(marks[_balance_mark(member)].text)
        for member in accounts.members
        if _balance_mark(member) in marks
    }


# -- inside ---------------------------------------------------------------------------------------


def _described(member: Member) -> dict[str, Any]:
    account = member.account
    own = Proxy.of(member.proxy) if member.proxy is not None else None
    return {
        "name": member.name,
        "group": account.group,
        "base_url": member.base_url,
        "models": dict(account.models) or None,
        "weight": account.weight,
        "proxy": own.label if own is not None else None,
    }


def _state(standing: Standing, now: float) -> dict[str, Any]:
    return {
        "state": state_of(standing, now),
        "reason": standing.reason or None,
        "failures": standing.failures,
        "seconds_left": round(max(0.0, standing.until - now), 1),
    }


def _today(ledger: Ledger, member: Member) -> dict[str, Any]:
    sums = Sums(*ledger.read(Sums.names(member.name, datetime.now(UTC))).values())
    read = sums.cache_hit_tokens + sums.cache_miss_tokens
    return {
        "answers": sums.answers,
        "cache_hit_tokens": sums.cache_hit_tokens,
        "cache_miss_tokens": sums.cache_miss_tokens,
        "output_tokens": sums.output_tokens,
        "cache_hit_rate": round(sums.cache_hit_tokens / read, 4) if read else None,
        "spent_usd": round(sums.nanodollars / NANODOLLARS, 6),
    }


def _balances(client: Client, members: Sequence[Member], ledger: Ledger) -> dict[str, Mapping[str, Any]]:
    """By account, asked for where nobody has for a while: of all at once, and not for long."""
    marks = ledger.marks([_balance_mark(member) for member in members])
    found = {m.name: orjson.loads(marks[_balance_mark(m)].text) for m in members if _balance_mark(m) in marks}
    stale = {
        member.name: client.inquire(member, BALANCE, _CLOCKS)
        for member in members
        if member.account.has_full_api and _age(marks.get(_balance_mark(member))) > FRESH_SECONDS
    }
    for member in members:
        call = stale.get(member.name)
        if call is None:
            continue
        try:
            balance = _readable_balance(_parsed(call.read_all(MAX_ANSWER_BYTES, lambda: None)))
        except ProxyError:
            continue  # its standing says more
        finally:
            call.close()
        found[member.name] = balance
        ledger.mark(_balance_mark(member), orjson.dumps(balance).decode(), KNOWN_SECONDS)
    return found


def _proxies(client: Client) -> Iterator[dict[str, Any]]:
    if client.proxies is None:
        return
    uses, resting = client.proxies.uses(), client.proxies.resting()
    for proxy in client.proxies.proxies:
        yield {
            "proxy": proxy.label,
            "id": proxy.id,
            "uses_today": uses[proxy],
            "resting_seconds": round(resting.get(proxy, 0.0), 1),
        }


_CLOCKS: Final = Clocks(
    bytes_idle=PATIENCE_SECONDS,
    data_idle=PATIENCE_SECONDS,
    total=PATIENCE_SECONDS,
    after_finish=PATIENCE_SECONDS,
)


def _get(client: Client, member: Member, path: str) -> dict[str, Any]:
    call = client.inquire(member, path, _CLOCKS)
    try:
        return _parsed(call.read_all(MAX_ANSWER_BYTES, lambda: None))
    finally:
        call.close()


def _parsed(body: bytes) -> dict[str, Any]:
    try:
        parsed = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    return parsed if isinstance(parsed, dict) else {}


def _readable_balance(answer: Mapping[str, Any]) -> dict[str, Any]:
    """DeepSeek's answer, as far as it is of use here."""
    infos = answer.get("balance_infos")
    amounts = [
        {"currency": str(info.get("currency")), "total": str(info.get("total_balance"))}
        for info in (infos if isinstance(infos, list) else ())
        if isinstance(info, dict)
    ]
    return {"is_available": answer.get("is_available") is True, "amounts": amounts}


def _balance_mark(member: Member) -> str:
    return f"balance:{member.name}"


def _age(mark: Mark | None) -> float:
    return KNOWN_SECONDS - mark.seconds_left if mark is not None else KNOWN_SECONDS
