"""`deepseek-proxy codex -- …`: runs Codex against a gateway of its own, and writes no configuration.

The provider is given to Codex by options, so its own configuration, history and logins stay as they are and
in use. With `--simulate` the simulator answers, which needs neither key nor network.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from deepseek_proxy.cli.child import running_gateway
from deepseek_proxy.cli.codex_config import EFFORTS, KEY_VARIABLE, Wanted
from deepseek_proxy.cli.options import config_option, load_settings
from deepseek_proxy.models import FLASH
from deepseek_proxy.settings import CONFIG_VARIABLE, Settings


@click.command(
    "codex",
    short_help="Run Codex on DeepSeek, without a configuration.",
    context_settings={"ignore_unknown_options": True},
)
@config_option
@click.option("--model", default=FLASH.id, show_default=True, help="Model that Codex asks for.")
@click.option(
    "--effort", type=click.Choice(EFFORTS), default="high", show_default=True, help="How much it thinks."
)
@click.option("--simulate", is_flag=True, help="Let the simulator answer; no key, no network.")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def command(
    config_file: Path | None, model: str, effort: str, simulate: bool, arguments: tuple[str, ...]
) -> None:
    """Run Codex (with ARGUMENTS, behind a --) against a gateway that lives as long as it does.

    Example: deepseek-proxy codex -- exec "explain this project"
    """
    program = shutil.which("codex")
    if program is None:
        raise click.ClickException("codex is not installed; npm install --global @openai/codex installs it")
    settings = load_settings(config_file)
    if settings.deepseek_api_key is None and not simulate:
        raise click.ClickException(f"no DeepSeek key; run: export {KEY_VARIABLE}=sk-... (or try --simulate)")
    with _gateway(settings, config_file, simulate) as port:
        wanted = Wanted(
            base_url=f"http://127.0.0.1:{port}/v1",
            model=model,
            effort=effort,
            gateway_has_key=True,
            web_search=settings.web_search != "off",
        )
        sys.exit(_run([program, *wanted.as_overrides(), *arguments]))


@contextlib.contextmanager
def _gateway(settings: Settings, config_file: Path | None, simulate: bool) -> Iterator[int]:
    if config_file is not None:
        os.environ[CONFIG_VARIABLE] = str(config_file.absolute())
    if not simulate:
        with running_gateway(inherit=True) as port:
            yield port
        return
    from deepseek_proxy.simulator import running

    with (
        running() as upstream,
        running_gateway(inherit=True, upstream_url=upstream, deepseek_api_key="sk-simulator") as port,
    ):
        yield port


def _run(command_line: list[str]) -> int:
    """Runs Codex in the foreground. Ctrl-C is Codex's business while it runs."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        return subprocess.run(  # noqa: S603
            command_line, check=False, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)
        ).returncode
    finally:
        signal.signal(signal.SIGINT, before)
