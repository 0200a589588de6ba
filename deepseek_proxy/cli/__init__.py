"""The `deepseek-proxy` command: what a person types, and what is said back.

Each subcommand is a module. Refuses to know how a request is answered.
"""

import click

from deepseek_proxy.cli import (
    accounts,
    check,
    codex,
    config,
    demo,
    install_service,
    keys,
    serve,
    setup,
    simulate,
)
from deepseek_proxy.version import __version__


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="deepseek-proxy")
def main() -> None:
    """A gateway that runs Codex and OpenAI-SDK apps on DeepSeek."""


for _module in (serve, setup, codex, demo, simulate, check, accounts, config, keys, install_service):
    main.add_command(_module.command)
