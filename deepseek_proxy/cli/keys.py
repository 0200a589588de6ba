"""`deepseek-proxy keys new|list|revoke`: the clients of a gateway, in a file of its own.

A key is shown once, when it is made; the file holds its digest. A running server knows of a change within a
second. Refuses to know what a limit means.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from pydantic import ValidationError

from deepseek_proxy import keyfile, models
from deepseek_proxy.cli.options import config_option, load_settings
from deepseek_proxy.credentials import ClientKey, digest_of, new_key
from deepseek_proxy.settings import Settings
from deepseek_proxy.sources import complaints, place_of

_file_option: Callable[[Callable[..., Any]], Callable[..., Any]] = click.option(
    "--file",
    "file",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File of the keys.  [default: keys_file in the settings]",
)


@click.group("keys", short_help="Make, list and revoke the keys of clients.")
def command() -> None:
    """Make, list and revoke the keys of clients, in the file that the setting `keys_file` names."""


@command.command("new", short_help="Make a key, and show it once.")
@click.argument("name")
@config_option
@_file_option
@click.option("--model", "models", multiple=True, help="A model it may ask for, and another; all by default.")
@click.option("--max-concurrency", type=int, help="Answers at the same time.")
@click.option("--requests-per-minute", type=int, help="Answers begun within a minute.")
@click.option("--tokens-per-day", type=int, help="Tokens of a day (UTC), read and written.")
@click.option("--budget-per-day", type=float, help="US dollars of a day (UTC).")
@click.option("--expires", help="Its last day, or the moment of its end: 2026-12-31, 2026-12-31T18:00+08:00.")
@click.option("--no-store", is_flag=True, help="Its responses may not be stored.")
def new(name: str, config_file: Path | None, file: Path | None, no_store: bool, **limits: Any) -> None:
    """Make a key for the client NAME, and write it to standard output: nobody can show it again."""
    settings = load_settings(config_file)
    path = _path(settings, file)
    key = new_key()
    said = {limit: value for limit, value in limits.items() if value not in (None, ())}
    client = _client(
        {"name": name, "key_sha256": digest_of(key), "created": _now(), "store": not no_store, **said}
    )
    for model in client.models:
        if models.resolve(model, settings.model_aliases, None) is None:
            raise click.ClickException(f"models: {model} is not a model")

    def with_it(known: keyfile.Keys) -> Sequence[ClientKey]:
        if any(other.name == name for other in (*settings.keys, *known)):
            raise click.ClickException(f"{name} has a key already; revoke it first, or choose another name")
        return [*known, client]

    _change(path, with_it)
    click.echo(key)
    click.echo(f"This is the key of {name}; it is not shown again. {path} has its digest.", err=True)
    if client.has_expired(datetime.now(UTC)):
        click.echo("It has expired already: nobody is let in with it.", err=True)
    if settings.keys_file is None or settings.keys_file.absolute() != path:
        click.echo(f'For the server to know it, its configuration needs keys_file = "{path}".', err=True)


@command.command("list", short_help="Show who has a key, and its limits.")
@config_option
@_file_option
def list_keys(config_file: Path | None, file: Path | None) -> None:
    """Show who has a key, and its limits; of the keys themselves nothing."""
    settings = load_settings(config_file)
    known = [(client, "configuration") for client in settings.keys]
    if file is not None or settings.keys_file is not None:
        path = _path(settings, file)
        known += [(client, str(path)) for client in _read(path)]
    if not known:
        click.echo("Nobody has a key.", err=True)
    for client, source in known:
        click.echo(f"{client.name}  {_described(client)}  ({source})")


@command.command("revoke", short_help="Let a client in no more.")
@click.argument("name")
@config_option
@_file_option
def revoke(name: str, config_file: Path | None, file: Path | None) -> None:
    """Remove the key of the client NAME. Answers that are under way are finished."""
    settings = load_settings(config_file)
    path = _path(settings, file)

    def without(known: keyfile.Keys) -> Sequence[ClientKey]:
        left = [client for client in known if client.name != name]
        if len(left) == len(known):
            elsewhere = any(client.name == name for client in settings.keys)
            where = "; it is in the configuration, remove it there" if elsewhere else ""
            raise click.ClickException(f"{path} has no key of the name {name}{where}")
        return left

    _change(path, without)
    click.echo(f"{name} is let in no more.", err=True)


def _path(settings: Settings, file: Path | None) -> Path:
    path = file or settings.keys_file
    if path is None:
        raise click.ClickException(
            f'no file for keys is set: put keys_file = "{settings.state_dir / "keys.json"}" into the '
            "configuration, or name one with --file"
        )
    return path.absolute()


def _client(values: dict[str, Any]) -> ClientKey:
    try:
        return ClientKey.model_validate(values)
    except ValidationError as error:
        wrong = complaints(error, lambda _: ClientKey.model_fields, place_of)
        raise click.ClickException("\n".join(wrong)) from None


def _read(path: Path) -> keyfile.Keys:
    try:
        return keyfile.read(path)
    except keyfile.KeyFileError as error:
        raise click.ClickException(str(error)) from None


def _change(path: Path, changed: Callable[[keyfile.Keys], Sequence[ClientKey]]) -> None:
    try:
        keyfile.change(path, changed)
    except ValueError as error:
        raise click.ClickException(str(error)) from None
    except OSError as error:
        raise click.ClickException(f"{path} cannot be written: {error.strerror}") from None


def _described(client: ClientKey) -> str:
    said = client.model_dump(exclude_defaults=True, exclude={"name", "key", "key_file", "key_sha256"})
    parts = [f"{limit}={_shown(value)}" for limit, value in said.items()]
    if client.has_expired(datetime.now(UTC)):
        parts.append("EXPIRED")
    return " ".join(parts) or "no limits"


def _shown(value: Any) -> str:
    if isinstance(value, tuple):
        return ",".join(value)
    return value.isoformat(timespec="minutes") if isinstance(value, datetime) else str(value)


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)
