"""`deepseek-proxy accounts check`: asks every account what it serves and what it has left.

Goes the way that requests go, through the same proxies, and takes no place at any account. Never shows a key.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import click

from deepseek_proxy.cli.options import config_option, load_settings
from deepseek_proxy.store.ledger.opening import Books
from deepseek_proxy.upstream import overview
from deepseek_proxy.upstream.client import Client
from deepseek_proxy.upstream.overview import Told

_AT_ONCE: Final = 8
_HEADINGS: Final = ("account", "result", "models", "balance")


@click.group("accounts", short_help="Look after the accounts.")
def command() -> None:
    """Look after the accounts that the setting `accounts` lists."""


@command.command("check", short_help="Ask every account for its models and its balance.")
@config_option
def check(config_file: Path | None) -> None:
    """Ask every account for its models and its balance. Exit code 1 if one cannot be used."""
    settings = load_settings(config_file)
    client = Client(settings, lambda _: None, Books(settings))
    try:
        if client.accounts is None:
            raise click.ClickException("the setting accounts is empty; see docs/accounts.md")
        members = client.accounts.members
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            told = list(pool.map(lambda member: overview.ask(client, member), members))
    finally:
        client.close()
    rows = [_HEADINGS, *(_row(member.name, one) for member, one in zip(members, told, strict=True))]
    for line in _table(rows):
        click.echo(line)
    sys.exit(1 if any(_fault(one) for one in told) else 0)


def _fault(told: Told) -> str | None:
    if told.problem is not None:
        return told.problem
    if told.balance is not None and not told.balance["is_available"]:
        return "not enough balance for a call: top up at https://platform.deepseek.com"
    return None


def _row(name: str, told: Told) -> tuple[str, ...]:
    amounts = told.balance["amounts"] if told.balance is not None else ()
    balance = ", ".join(f"{amount['total']} {amount['currency']}" for amount in amounts)
    return name, _fault(told) or "ok", ", ".join(told.models) or "-", balance or "-"


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
