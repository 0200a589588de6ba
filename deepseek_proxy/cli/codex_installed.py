"""The Codex on this machine: its version, and what an old one needs or does not know.

A Codex before 0.162 does not ask the gateway for the model list. Without one, it knows neither the context
window nor the effort levels, offers no patches, and says so in a warning; but it reads a file that takes the
place of all that it knows of models (`model_catalog_json`, 0.118 to 0.169). Refuses to know where that file
and the configuration are.
"""

from __future__ import annotations

import re
import shutil
import subprocess

import click

from deepseek_proxy import models
from deepseek_proxy.translate import jsontext
from deepseek_proxy.translate.responses import catalogue as model_catalogue
from deepseek_proxy.translate.responses import codex

_VERSION_SECONDS = 20


def version() -> str | None:
    """The version of the `codex` on the path, such as `0.169.0`. None: there is none, or it does not say."""
    program = shutil.which("codex")
    if program is None:
        return None
    try:
        said = subprocess.run(  # noqa: S603
            [program, "--version"], capture_output=True, text=True, timeout=_VERSION_SECONDS, check=False
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = re.search(r"\d+\.\d+\.\S+", said)
    return found[0] if found else None


def check_effort(effort: str, version: str | None) -> None:
    """Raises `UsageError` for an effort that would make this version refuse its whole configuration."""
    if effort == "max" and not codex.knows_max_effort(version):
        raise click.UsageError(f"Codex {version} does not know the effort 'max': take 'high', or update it.")


def catalogue(version: str | None) -> str:
    """The model list for a file. For a version that is not known, without what an old one would reject."""
    max_effort = version is not None and codex.knows_max_effort(version)
    body = model_catalogue.model_list(models.MODELS.values(), (), max_effort=max_effort)
    return jsontext.dumps(body).decode()
