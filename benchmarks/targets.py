"""What is measured: nothing in between, nginx that passes bytes through, and the gateway.

Each is started with the fake upstream's port and listens on a loopback port of its own, in a folder that is
gone afterwards. Refuses to know what load they get.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

ROOT: Final = Path(__file__).parents[1]
_PLACES: Final = f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin"
_NGINX_CONFIG: Final = """
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log warn;
events {{ worker_connections 16384; use epoll; }}
http {{
    access_log off;
    client_max_body_size 64m;
    client_body_buffer_size 4m;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    keepalive_requests 1000000;
    upstream deepseek {{ server 127.0.0.1:{upstream}; keepalive 4096; keepalive_requests 1000000; }}
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location / {{
            proxy_pass http://deepseek;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_buffering off;
        }}
    }}
}}
"""


@dataclass(frozen=True, slots=True)
class Target:
    """Where requests go; what stands in an answer before a token's clock, and in its last event.

    `store` is what the requests ask for.
    """

    name: str
    path: str
    head: str
    last: str
    store: bool = False


CHAT: Final = {"path": "/chat/completions", "head": '"content":"~', "last": "data: [DONE]"}
DIRECT: Final = Target("direct", **CHAT)
NGINX: Final = Target("nginx", **CHAT)
RESPONSES: Final = {
    "path": "/v1/responses",
    "head": '"delta":"~',
    "last": "event: response.completed",
}
GATEWAY: Final = Target("gateway", **RESPONSES)
SQLITE: Final = Target("SQLite", **RESPONSES, store=True)
REDIS: Final = Target("Redis", **RESPONSES, store=True)


def available() -> tuple[Target, ...]:
    """The targets that can be measured here: nginx may not be installed."""
    return (DIRECT, NGINX, GATEWAY) if _nginx() else (DIRECT, GATEWAY)


def stores() -> tuple[Target, ...]:
    """The gateway without storing, and with each store that can be measured here."""
    return (GATEWAY, SQLITE, REDIS) if _redis() else (GATEWAY, SQLITE)


@dataclass(frozen=True, slots=True)
class Running:
    """`pid` is None where nothing stands in between."""

    port: int
    pid: int | None


@contextlib.contextmanager
def running(target: Target, upstream: int, cpus: set[int]) -> Iterator[Running]:
    """Starts a target on `cpus`; it may need a moment until it listens. Ends it on leaving."""
    if target is DIRECT:
        yield Running(upstream, None)
        return
    with (
        tempfile.TemporaryDirectory(prefix="benchmark-") as name,
        _held_port() as port,
        contextlib.ExitStack() as beside,
    ):
        folder = Path(name)
        folder.chmod(0o711)  # nginx's worker is another user where its master is root
        if target is NGINX:
            command, environment = _start_nginx(folder, port, upstream)
        else:
            store_url = beside.enter_context(_redis_at(folder)) if target is REDIS else "sqlite:"
            command, environment = _start_gateway(folder, port, upstream, store_url)
        with (folder / "output.log").open("wb") as output:
            process = spawn(command, cpus, env=environment, stdout=output, stderr=output)
        try:
            yield Running(port, process.pid)
        except BaseException:
            sys.stderr.write((folder / "output.log").read_text(errors="replace")[-4000:])
            raise
        finally:
            end(process)


def spawn(
    command: Sequence[str],
    cpus: set[int],
    *,
    env: Mapping[str, str] | None = None,
    stdin: int | None = subprocess.DEVNULL,
    stdout: int | IO[bytes] | None = None,
    stderr: int | IO[bytes] | None = None,
) -> subprocess.Popen[bytes]:
    """Starts a process that may use `cpus` only."""
    own = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cpus)  # inherited; nothing has to run between fork and exec
    try:
        return subprocess.Popen(command, cwd=ROOT, env=env, stdin=stdin, stdout=stdout, stderr=stderr)
    finally:
        os.sched_setaffinity(0, own)


def end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _start_nginx(folder: Path, port: int, upstream: int) -> tuple[list[str], dict[str, str]]:
    config = folder / "nginx.conf"
    config.write_text(_NGINX_CONFIG.format(folder=folder, port=port, upstream=upstream))
    log = folder / "error.log"
    return [str(_nginx()), "-e", str(log), "-p", str(folder), "-c", str(config)], dict(os.environ)


def _start_gateway(
    folder: Path, port: int, upstream: int, store_url: str
) -> tuple[list[str], dict[str, str]]:
    """As in production: one gunicorn worker that writes its log lines to a file."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("DEEPSEEK_")}
    chosen = {
        "state_dir": folder / "state",
        "log_dir": folder / "logs",
        "log_stderr": "never",
        "store_url": store_url,
        "drain_seconds": 0,
    }
    environment = {**kept, **{f"DEEPSEEK_PROXY_{name.upper()}": str(value) for name, value in chosen.items()}}
    serve = [sys.executable, "-m", "deepseek_proxy", "serve", "--host", "127.0.0.1", "--workers", "1"]
    return [*serve, "--port", str(port), "--upstream", f"http://127.0.0.1:{upstream}"], environment


@contextlib.contextmanager
def _redis_at(folder: Path) -> Iterator[str]:
    """A Redis server that keeps everything in memory, on the cores of the rig; its URL."""
    with _held_port() as port:
        options = ["--bind", "127.0.0.1", "--port", str(port), "--save", "", "--dir", str(folder)]
        process = spawn([str(_redis()), *options], os.sched_getaffinity(0), stdout=subprocess.DEVNULL)
        try:
            yield f"redis://127.0.0.1:{port}/0"
        finally:
            end(process)


def _redis() -> str | None:
    return shutil.which("redis-server", path=_PLACES)


def _nginx() -> str | None:
    return shutil.which("nginx", path=_PLACES)


@contextlib.contextmanager
def _held_port() -> Iterator[int]:
    """A free port, kept from others by a socket that is bound and does not listen."""
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", 0))
        yield holder.getsockname()[1]
