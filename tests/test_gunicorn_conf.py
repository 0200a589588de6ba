"""gunicorn with the project's configuration, as processes: how it starts, drains and ends."""

from __future__ import annotations

import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
APP = """
import os, resource, ssl, sys, time

def app(environ, start_response):
    if environ["PATH_INFO"] == "/facts":
        body = facts().encode()
        start_response("200 OK", [("Content-Length", str(len(body)))])
        return [body]
    start_response("200 OK", [("Content-Type", "text/plain")])
    return stream(float(environ["QUERY_STRING"]))

def facts():
    patched = all(part.__module__.startswith("gevent") for part in (time.sleep, ssl.SSLContext))
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return f"patched={patched} limit={limit} {os.environ.get('PROMETHEUS_MULTIPROC_DIR', '')}"

def stream(seconds):
    yield b"begin "
    try:
        time.sleep(seconds)
    except BaseException as ending:
        print("ended by", type(ending).__name__, file=sys.stderr, flush=True)
        raise
    yield b"end"
"""


class Server:
    """gunicorn in a process group of its own, like a job in a terminal."""

    def __init__(self, folder: Path, config: str, variables: dict[str, str]) -> None:
        (folder / "probe.py").write_text(APP)
        self._log = folder / "log"
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": f"{ROOT}{os.pathsep}{folder}",
            "HOME": str(folder),
            "DEEPSEEK_PROXY_PORT": str(self.port),
            **{f"DEEPSEEK_PROXY_{name.upper()}": value for name, value in variables.items()},
        }
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "gunicorn", "-c", config, "probe:app"],
                env=environment,
                cwd=folder,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    @property
    def log(self) -> str:
        return self._log.read_text()

    def get(self, path: str) -> socket.socket:
        """A connection with a request on it; waits for the server to come up."""
        deadline = time.monotonic() + 20
        while True:
            assert self.process.poll() is None, self.log
            try:
                connection = socket.create_connection(("127.0.0.1", self.port), timeout=20)
                break
            except ConnectionRefusedError:
                assert time.monotonic() < deadline, self.log
                time.sleep(0.05)
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        return connection

    def ctrl_c(self) -> None:
        os.killpg(self.process.pid, signal.SIGINT)

    def kill(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def read(connection: socket.socket, until: bytes | None = None) -> bytes:
    """What comes before the end, or up to `until`."""
    received = b""
    while until is None or until not in received:
        piece = connection.recv(65536)
        if not piece:
            break
        received += piece
    return received


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Any]:
    servers: list[Server] = []

    def begin(config: str = "python:deepseek_proxy.gunicorn_conf", **variables: str) -> Server:
        servers.append(Server(tmp_path, config, variables))
        return servers[-1]

    yield begin
    for server in servers:
        server.kill()


@pytest.mark.parametrize("config", ["python:deepseek_proxy.gunicorn_conf", str(ROOT / "gunicorn.conf.py")])
def test_workers_are_patched_and_may_open_many_files(start: Any, config: str) -> None:
    server = start(config)
    with server.get("/facts") as connection:
        body = read(connection).decode()
    assert "patched=True" in body, body
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 80_000 if hard == resource.RLIM_INFINITY else min(80_000, hard)
    assert f"limit={wanted} " in body, body
    assert "Monkey" not in server.log


def test_ctrl_c_lets_running_answers_finish_and_takes_no_new_ones(start: Any) -> None:
    server = start()
    with server.get("/stream?4") as connection:
        read(connection, until=b"begin")
        server.ctrl_c()
        time.sleep(2)  # a gevent worker looks once a second
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", server.port), timeout=5)
        assert b"end" in read(connection)
    assert server.process.wait(10) == 0


def test_a_second_ctrl_c_ends_at_once(start: Any) -> None:
    server = start()
    with server.get("/stream?60") as connection:
        read(connection, until=b"begin")
        server.ctrl_c()
        time.sleep(0.5)
        server.ctrl_c()
        assert server.process.wait(8) == 0
        assert b"end" not in read(connection)


def test_answers_that_outlive_the_drain_are_closed_by_their_worker(start: Any) -> None:
    """Closed from inside, so that the application can still say something; not killed from outside."""
    server = start(drain_seconds="1")
    with server.get("/stream?60") as connection:
        read(connection, until=b"begin")
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(10) == 0
        read(connection)
    assert "ended by GreenletExit" in server.log


def test_workers_share_a_metrics_folder_that_goes_with_them(start: Any) -> None:
    server = start(workers="2")
    with server.get("/facts") as connection:
        folder = Path(read(connection).decode().split()[-1])
    assert folder.is_dir()
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(10) == 0
    assert not folder.exists()


@pytest.mark.parametrize("variables", [{"workers": "0", "max_nesting": "x"}, {"seal_keys": "short"}])
def test_wrong_settings_end_it_before_the_port_is_open(start: Any, variables: dict[str, str]) -> None:
    server = start(**variables)
    assert server.process.wait(10) == 2
    assert "these settings cannot be used" in server.log
    assert "Listening" not in server.log
    assert "Traceback" not in server.log
    assert all(name in server.log for name in variables)


def test_a_place_where_nothing_can_be_kept_ends_it_before_the_port_is_open(
    start: Any, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    server = start(store_url=f"sqlite:{tmp_path}/file/store.db")
    assert server.process.wait(10) == 2
    assert "store_url: " in server.log
    assert "Listening" not in server.log
