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
import tempfile
from collections.abc import Iterator
from pathlib import Path

import click

from deepseek_proxy.cli import codex_installed
from deepseek_proxy.cli.child import running_gateway
from deepseek_proxy.cli.codex_config import CATALOGUE_FILE, EFFORTS, KEY_VARIABLE, PLACEHOLDER_KEY, Wanted
from deepseek_proxy.cli.options import config_option, load_settings
from deepseek_proxy.credentials import new_key
from deepseek_proxy.models import FLASH
from deepseek_proxy.settings import CONFIG_VARIABLE, Settings
from deepseek_proxy.translate.responses.codex import asks_for_catalogue


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
    if not settings.pays and not simulate:
        raise click.ClickException(f"no DeepSeek key; run: export {KEY_VARIABLE}=sk-... (or try --simulate)")
    version = codex_installed.version()
    codex_installed.check_effort(effort, version)
    key = new_key() if settings.asks_for_keys else PLACEHOLDER_KEY
    with _gateway(settings, config_file, simulate, key) as port, _catalogue(version) as catalogue:
        wanted = Wanted(
            base_url=f"http://127.0.0.1:{port}/v1",
            model=model,
            effort=effort,
            gateway_has_key=True,
            gateway_key=key,
            web_search=settings.web_search != "off",
            catalogue=catalogue,
        )
        code = _run([program, *wanted.as_overrides(), *arguments])
    sys.exit(code)


@contextlib.contextmanager
def _gateway(settings: Settings, config_file: Path | None, simulate: bool, key: str) -> Iterator[int]:
    """Gives the port. Where clients have keys, `key` is one, too."""
    options: dict[str, object] = {"keys": key} if settings.asks_for_keys else {}
    if config_file is not None:
        os.environ[CONFIG_VARIABLE] = str(config_file.absolute())
    if not simulate:
        with running_gateway(inherit=True, **options) as port:
            yield port
        return
    from deepseek_proxy.simulator import running

    # Nothing of the configuration may lead out of this machine.
    options |= {"deepseek_api_key": "sk-simulator", "accounts": "[]", "proxy_pool_enabled": False}
    with (
        running() as upstream,
        running_gateway(inherit=True, upstream_url=upstream, **options) as port,
    ):
        yield port


@contextlib.contextmanager
def _catalogue(version: str | None) -> Iterator[Path | None]:
    """A file with the model list, where this version of Codex needs one."""
    if asks_for_catalogue(version):
        yield None
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / CATALOGUE_FILE
        path.write_text(codex_installed.catalogue(version), "utf-8")
        yield path


def _run(command_line: list[str]) -> int:
    """Runs Codex in the foreground, and returns its exit code as a shell would.

    Signals are Codex's business while it runs. Ctrl-C reaches it from the terminal; what was sent to this
    process alone is passed on, so that the gateway ends when Codex has.
    """
    running: list[subprocess.Popen[bytes]] = []

    def pass_on(number: int, _frame: object) -> None:
        for process in running:
            process.send_signal(number)

    # Handlers, not SIG_IGN: those would be Codex's, too.
    before = {number: signal.signal(number, pass_on) for number in (signal.SIGTERM, signal.SIGHUP)}
    before[signal.SIGINT] = signal.signal(signal.SIGINT, lambda _number, _frame: None)
    try:
        running.append(subprocess.Popen(command_line))  # noqa: S603
        code = running[0].wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return code if code >= 0 else 128 - code
