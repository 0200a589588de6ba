"""What several subcommands share: the `--config` option, reading the settings, writing an address."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from deepseek_proxy import settings as settings_module
from deepseek_proxy.settings import Settings, SettingsError

config_option: Callable[[Callable[..., Any]], Callable[..., Any]] = click.option(
    "--config",
    "config_file",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help=f"Configuration file, TOML or JSON.  [env: {settings_module.CONFIG_VARIABLE}]",
)


class BadSettings(click.ClickException):
    """Every mistake in the settings, a line each. Exit code 2."""

    exit_code = 2


def load_settings(config_file: Path | None, **overrides: Any) -> Settings:
    """The effective settings; ends the command where they cannot be used."""
    try:
        return settings_module.load(config_file, **overrides)
    except SettingsError as error:
        raise BadSettings(f"these settings cannot be used:\n{textwrap.indent(str(error), '  ')}") from None


def url_of(host: str, port: int) -> str:
    """`http://host:port` of a listening address; a wildcard address is shown as the loopback one."""
    shown = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104
    return f"http://[{shown}]:{port}" if ":" in shown else f"http://{shown}:{port}"
