"""`deepseek-proxy serve`: checks the settings and the port, then becomes gunicorn.

The command replaces itself (exec), so that gevent's monkey patch comes first in the process that serves, and
signals reach gunicorn directly. Options travel in the environment.
"""

from __future__ import annotations

import errno
import os
import signal
import socket
import sys
from pathlib import Path

import click

from deepseek_proxy.cli.codex_config import PLACEHOLDER_KEY
from deepseek_proxy.cli.options import config_option, load_settings, url_of
from deepseek_proxy.ops import activation
from deepseek_proxy.settings import CONFIG_VARIABLE, Settings, variables
from deepseek_proxy.version import __version__

SERVER = (sys.executable, "-m", "gunicorn", "--config", "python:deepseek_proxy.gunicorn_conf")


@click.command("serve", short_help="Run the gateway.")
@config_option
@click.option("--host", help="Address to listen on.  [default: 127.0.0.1]")
@click.option("--port", type=int, help="Port to listen on; 0 takes a free one.  [default: 8787]")
@click.option("--workers", type=int, help="Number of worker processes.  [default: 1]")
@click.option(
    "--upstream", metavar="URL", help="Base URL of the DeepSeek API.  [default: https://api.deepseek.com]"
)
def command(
    config_file: Path | None, host: str | None, port: int | None, workers: int | None, upstream: str | None
) -> None:
    """Run the gateway until Ctrl-C, which lets running answers finish; a second one ends them.

    Options win over environment variables, those over the configuration file. Where systemd has opened the
    address already, that one is served.
    """
    opened = activation.adopt()
    if opened:
        host = port = None
    settings = load_settings(config_file, host=host, port=port, workers=workers, upstream_url=upstream)
    free = settings.port if opened else free_port(settings.host, settings.port)
    chosen = {"host": host, "port": free, "workers": workers, "upstream_url": upstream}
    environment = dict(os.environ)
    environment |= {variables(name)[0]: str(value) for name, value in chosen.items() if value is not None}
    if config_file is not None:
        environment[CONFIG_VARIABLE] = str(config_file.absolute())
    # A Ctrl-C from here on waits for gunicorn, which takes a second to be there and lets it through then.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    click.echo(greeting(settings, url_of(settings.host, free)))
    sys.stdout.flush()
    os.execve(sys.executable, SERVER, environment)  # noqa: S606


def free_port(host: str, port: int) -> int:
    """`port`, or a free one for 0. Raises `ClickException` that says what to do where it cannot be had."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host.strip("[]"), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            taken: int = probe.getsockname()[1]
            return taken
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise click.ClickException(
                f"port {port} on {host} is taken; stop the program that has it, or choose another with --port"
            ) from None
        raise click.ClickException(f"cannot listen on {host}, port {port}: {error.strerror}") from None


def greeting(settings: Settings, url: str) -> str:
    """Where the gateway listens, who pays, and what to paste to use it from Codex."""
    provider = f'name = "DeepSeek", base_url = "{url}/v1", wire_api = "responses"'
    provider += f', model_catalog_url = "{url}/v1/models"'
    if settings.asks_for_keys:
        key = "its own DeepSeek key, for clients with keys"
        provider += ', env_key = "GATEWAY_KEY"'
        paste = ["export GATEWAY_KEY=...   # deepseek-proxy keys new NAME makes one"]
    elif settings.pays:
        key, paste = "its own DeepSeek key", []
        provider += f', experimental_bearer_token = "{PLACEHOLDER_KEY}"'
    else:
        key = "the key that each client sends"
        provider += ', env_key = "DEEPSEEK_API_KEY"'
        paste = ["export DEEPSEEK_API_KEY=sk-..."]
    paste.append(
        "codex -c model=deepseek-flash -c model_provider=deepseek "
        f"-c 'model_providers.deepseek = {{ {provider} }}'"
    )
    upstream = str(settings.upstream_url).rstrip("/")
    head = f"deepseek-proxy {__version__}: {url} -> {upstream} with {key}.\n"
    head += "For Codex: deepseek-proxy setup codex, or paste:"
    return "\n".join((click.style(head, bold=True), *("  " + line for line in paste)))
