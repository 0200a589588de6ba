"""A gateway in a process of its own, for the length of a `with` block: for `demo` and `codex`."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from types import FrameType
from typing import NoReturn

import click

from deepseek_proxy.cli.serve import SERVER, free_port
from deepseek_proxy.settings import ENV_PREFIX, variables

_START_SECONDS = 30
_STOP_SECONDS = 15


class GatewayFailed(click.ClickException):
    """The gateway did not start; the message holds what it said."""


@contextlib.contextmanager
def running_gateway(*, inherit: bool, **options: object) -> Iterator[int]:
    """Gives the port. `options` are settings; `inherit` keeps those of the caller's environment besides.

    The gateway has a group of its own: a Ctrl-C meant for the program beside it does not stop it. It stops
    with this process however that ends, but for SIGKILL.
    """
    port = free_port("127.0.0.1", 0)
    ours = (ENV_PREFIX, *variables("deepseek_api_key"))
    environment = {k: v for k, v in os.environ.items() if inherit or not k.startswith(ours)}
    options = {"host": "127.0.0.1", "port": port, "log_level": "warning", **options}
    environment |= {variables(name)[0]: str(value) for name, value in options.items()}
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(  # noqa: S603
            SERVER,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            start_new_session=True,
        )
        before = {number: signal.signal(number, _end) for number in (signal.SIGTERM, signal.SIGHUP)}
        try:
            if not _ready(process, port):
                said.seek(0)
                raise GatewayFailed(f"the gateway did not start:\n{said.read().decode(errors='replace')}")
            yield port
        finally:
            process.terminate()
            try:
                process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            for number, handler in before.items():
                signal.signal(number, handler)


def _end(number: int, _frame: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)


def _ready(process: subprocess.Popen[bytes], port: int) -> bool:
    deadline = time.monotonic() + _START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=1)
        try:
            connection.request("GET", "/healthz")
            if connection.getresponse().status == 200:
                return True
        except OSError:
            time.sleep(0.1)
        finally:
            connection.close()
    return False
