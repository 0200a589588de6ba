"""`deepseek-proxy config`: the effective settings with secrets masked, and the reference of all settings.

Refuses to know what a setting does.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import click

from deepseek_proxy.cli.options import config_option, load_settings
from deepseek_proxy.cli.reference import reference_page
from deepseek_proxy.ops.redaction import mask
from deepseek_proxy.settings import Settings, variables


@click.command("config", short_help="Print the effective settings, secrets masked.")
@config_option
@click.option("--format", "form", type=click.Choice(["toml", "json"]), default="toml", show_default=True)
@click.option("--reference", is_flag=True, help="Print what every setting means, as Markdown.")
def command(config_file: Path | None, form: str, reference: bool) -> None:
    """Print the effective settings, secrets masked, and where each comes from.

    The TOML form can be saved as a configuration file once the secrets are filled in or removed.
    """
    if reference:
        click.echo(reference_page(), nl=False)
        return
    settings = load_settings(config_file)
    values = mask(settings)
    if form == "json":
        click.echo(json.dumps(values, indent=2, ensure_ascii=False))
        return
    for name, value in values.items():
        line = f"# {name} =" if value is None else f"{name} = {_toml(value)}"
        click.echo(f"{line}  # {origin(settings, name)}")


def origin(settings: Settings, name: str) -> str:
    """Where the value of a setting comes from: `default`, an environment variable, or `file`."""
    if name not in settings.model_fields_set:
        return "default"
    present = {variable.upper() for variable, value in os.environ.items() if value}
    return next((variable for variable in variables(name) if variable in present), "file")


def _toml(value: Any) -> str:
    """A TOML value: JSON's, except that an object is an inline table."""
    if isinstance(value, dict):
        return (
            f"{{ {', '.join(f'{json.dumps(k)} = {_toml(v)}' for k, v in value.items())} }}" if value else "{}"
        )
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    return json.dumps(value, ensure_ascii=False)
