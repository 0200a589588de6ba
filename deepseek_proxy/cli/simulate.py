"""`deepseek-proxy simulate`: the DeepSeek stand-in alone, for testing clients without a key or a network."""

from __future__ import annotations

import contextlib
import sys
import threading

import click

from deepseek_proxy.cli.options import url_of
from deepseek_proxy.cli.serve import free_port


@click.command("simulate", short_help="Run the simulated DeepSeek API alone.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port", default=8788, show_default=True, type=click.IntRange(0, 65535), help="0 takes a free one."
)
@click.option(
    "--token-seconds",
    default=0.02,
    show_default=True,
    type=click.FloatRange(0),
    help="Pause after each chunk.",
)
@click.option(
    "--fault",
    default="",
    metavar="SPEC",
    help="A fault in every answer: `503`, `keep-alive seconds=30`, `truncate`, ...",
)
@click.option(
    "--max-concurrency", type=click.IntRange(1), help="Answers that one key may have under way; then 429."
)
def command(host: str, port: int, token_seconds: float, fault: str, max_concurrency: int | None) -> None:
    """Serve a simulated DeepSeek API until Ctrl-C; any key is good."""
    from deepseek_proxy.simulator import SimulatorConfig, running
    from deepseek_proxy.simulator.faults import FaultError

    config = SimulatorConfig(token_seconds=token_seconds, fault=fault, max_concurrency=max_concurrency)
    try:
        with (
            running(config, host, free_port(host, port)) as listening,
            contextlib.suppress(KeyboardInterrupt),
        ):
            url = url_of(host, int(listening.rpartition(":")[2]))
            click.echo(
                f"A simulated DeepSeek API is at {url}; to use it: deepseek-proxy serve --upstream {url}"
            )
            sys.stdout.flush()
            threading.Event().wait()
    except FaultError as error:
        raise click.BadParameter(str(error), param_hint="--fault") from None
