"""`deepseek-proxy setup codex`: changes Codex's configuration, after a look at the change, and undoes it."""

from __future__ import annotations

import os
from pathlib import Path

import click

from deepseek_proxy.cli import codex_config, codex_installed
from deepseek_proxy.cli.codex_config import EFFORTS, ConfigError, Wanted
from deepseek_proxy.cli.options import config_option, load_settings, url_of
from deepseek_proxy.models import FLASH
from deepseek_proxy.translate.responses.codex import asks_for_catalogue


@click.group("setup", short_help="Point a client at the gateway.")
def command() -> None:
    """Point a client at the gateway."""


@command.command("codex", short_help="Change Codex's config.toml.")
@config_option
@click.option("--url", help="Where the gateway is.  [default: the address in the settings]")
@click.option("--model", default=FLASH.id, show_default=True, help="Model that Codex asks for.")
@click.option(
    "--effort", type=click.Choice(EFFORTS), default="high", show_default=True, help="How much it thinks."
)
@click.option("--no-key", is_flag=True, help="The gateway has the DeepSeek key; Codex sends none.")
@click.option(
    "--catalog/--no-catalog",
    default=None,
    help="Keep the model list in a file, too.  [default: if the Codex here is older than 0.162 and needs it]",
)
@click.option("--print", "only_print", is_flag=True, help="Show the change and stop.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--undo", is_flag=True, help="Put the configuration back as it was before.")
def codex(
    config_file: Path | None,
    url: str | None,
    model: str,
    effort: str,
    no_key: bool,
    catalog: bool | None,
    only_print: bool,
    yes: bool,
    undo: bool,
) -> None:
    """Show the change to ~/.codex/config.toml (or $CODEX_HOME) as a diff, ask, and make it.

    A backup is kept beside the file. Logins are not touched.
    """
    path = Path(os.environ.get("CODEX_HOME") or Path.home() / ".codex") / "config.toml"
    try:
        if undo:
            _undo(path, only_print=only_print, yes=yes)
            return
        settings = load_settings(config_file)
        version = codex_installed.version()
        codex_installed.check_effort(effort, version)
        in_file = not asks_for_catalogue(version) if catalog is None else catalog
        base = (url or url_of(settings.host, settings.port)).rstrip("/").removesuffix("/v1")
        wanted = Wanted(
            base_url=f"{base}/v1",
            model=model,
            effort=effort,
            gateway_has_key=no_key,
            web_search=settings.web_search != "off",
            catalogue=codex_config.catalogue_beside(path) if in_file else None,
        )
        _change(path, wanted, version, only_print=only_print, yes=yes)
    except ConfigError as error:
        raise click.ClickException(f"{path}: {error}") from None


def _change(path: Path, wanted: Wanted, version: str | None, *, only_print: bool, yes: bool) -> None:
    before = codex_config.read(path)
    after = codex_config.changed(before, wanted)
    agreed = _agreed(path, before, after, only_print=only_print, yes=yes)
    if agreed and wanted.catalogue is not None:
        codex_config.write(wanted.catalogue, codex_installed.catalogue(version))
    if before == after:
        click.echo(f"{path} says all that already.")
    elif agreed:
        backup = codex_config.keep_backup(path, before)
        codex_config.write(path, after)
        click.echo(
            f"Written. What it said before is in {backup}; deepseek-proxy setup codex --undo puts it back."
        )
        if not wanted.gateway_has_key:
            click.echo(f"Codex reads the key from the environment: export {codex_config.KEY_VARIABLE}=sk-...")


def _undo(path: Path, *, only_print: bool, yes: bool) -> None:
    backup = codex_config.backup_of(path)
    if not backup.exists():
        raise ConfigError("there is nothing to undo: no backup was kept beside it")
    before, after = codex_config.read(path), codex_config.read(backup)
    if not _agreed(path, before, after, only_print=only_print, yes=yes):
        return
    codex_config.restore(path)
    click.echo("Put back as it was.")


def _agreed(path: Path, before: str, after: str, *, only_print: bool, yes: bool) -> bool:
    """Shows the change. Where there is none, nobody has to be asked."""
    for line in codex_config.diff(path, before, after).splitlines():
        colour = {"+": "green", "-": "red"}.get(line[:1])
        click.secho(line, fg=colour)
    if only_print:
        return False
    agreed = yes or before == after or click.confirm("Make this change?")
    if not agreed:
        click.echo("Nothing was changed.")
    return agreed
