"""The systemd units: judged by systemd's own tools, and their socket with a real gateway behind it."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import orjson
import pytest
from harness import deepseek
from harness.client import Call
from harness.fake_upstream import FakeUpstream
from harness.gateway import CLIENT_KEY, PROMPT, ROOT, held_port
from harness.programs import program
from harness.waiting import wait_for

from deepseek_proxy.cli import units
from deepseek_proxy.settings import isolated

SHIPPED: Final = ROOT / "deploy" / "systemd"
PROGRAM: Final = str(Path(sys.executable).with_name("deepseek-proxy"))
MAX_EXPOSURE: Final = 1.5
SECONDS: Final = 40
"""The longest wait for what has to happen."""


# -- the files ------------------------------------------------------------------------------------


def test_the_shipped_files_are_those_that_install_service_writes(tmp_path: Path) -> None:
    """`make docs` writes them anew."""
    units.write_all(tmp_path)
    written = {str(path.relative_to(tmp_path)): path.read_text() for path in files_in(tmp_path)}
    assert {str(path.relative_to(SHIPPED)): path.read_text() for path in files_in(SHIPPED)} == written


def files_in(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def analyze(*arguments: str, runtime: Path | None = None) -> subprocess.CompletedProcess[str]:
    """`runtime` is the folder that a user's manager has to have."""
    command = [program("systemd-analyze"), "--no-pager", *arguments]
    environment = {**os.environ, **({"XDG_RUNTIME_DIR": str(runtime)} if runtime else {})}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


@pytest.mark.parametrize("manager", ["--system", "--user"])
def test_systemd_finds_nothing_wrong_with_them(manager: str, tmp_path: Path) -> None:
    text = units.service(PROGRAM) if manager == "--system" else units.user_service(PROGRAM)
    (tmp_path / units.SERVICE_NAME).write_text(text)
    (tmp_path / units.SOCKET_NAME).write_text(units.socket())
    paths = [str(tmp_path / name) for name in (units.SERVICE_NAME, units.SOCKET_NAME)]
    found = analyze("verify", manager, *paths, runtime=tmp_path)
    assert (found.returncode, found.stdout, found.stderr) == (0, "", "")


def test_the_service_is_exposed_to_little() -> None:
    found = analyze("security", "--offline=true", str(SHIPPED / units.SERVICE_NAME))
    level = re.search(r"Overall exposure level for \S+: ([0-9.]+)", found.stdout)
    assert level, found.stderr
    assert float(level[1]) <= MAX_EXPOSURE


@pytest.mark.parametrize("path", ["deepseek-proxy.service", "user/deepseek-proxy.service"])
def test_systemd_waits_longer_than_the_drain_lasts(path: str) -> None:
    stop = re.search(r"^TimeoutStopSec=(\d+)$", (SHIPPED / path).read_text(), re.MULTILINE)
    assert stop
    assert int(stop[1]) >= isolated().drain_seconds + 10


# -- its sockets ----------------------------------------------------------------------------------

# What systemd does for a service with `Restart=always`: it holds the socket, and starts the service again.
MANAGER = """
while :; do
  sh -c 'LISTEN_PID=$$ exec "$@"' sh "$@" & echo $! >> pids
  wait $!
  echo $? >> codes
done
"""


class Manager:
    """systemd-socket-activate with a loop behind it, in place of systemd."""

    def __init__(self, folder: Path, variables: Mapping[str, str], host: str = "127.0.0.1") -> None:
        self.folder = folder
        port_holder, self.port = held_port()
        self.notified = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.notified.bind(str(folder / "notify"))
        self.notified.settimeout(SECONDS)
        given = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "PYTHONPATH": str(ROOT),
            "NOTIFY_SOCKET": str(folder / "notify"),
            "STATE_DIRECTORY": str(folder / "state"),
            **variables,
        }
        settings = [f"--setenv={name}={value}" for name, value in given.items()]
        activate = program("systemd-socket-activate")
        command = [activate, "-l", f"{host}:{self.port}", *settings, "sh", "-c", MANAGER]
        with (folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [*command, "sh", sys.executable, "-m", "deepseek_proxy", "serve"],
                cwd=folder,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        wait_for(lambda: "Listening on" in self.log)
        port_holder.close()

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()

    def exit_codes(self) -> list[str]:
        codes = self.folder / "codes"
        return codes.read_text().split() if codes.exists() else []

    def wait_until_ready(self) -> None:
        assert self.notified.recv(4096).startswith(b"READY=1")

    def restart(self) -> None:
        self._signal(signal.SIGTERM)
        self.wait_until_ready()

    def reload(self) -> None:
        workers = self.log.count("Booting worker")
        self._signal(signal.SIGHUP)
        wait_for(lambda: self.log.count("Booting worker") > workers)

    def _signal(self, number: signal.Signals) -> None:
        os.kill(int((self.folder / "pids").read_text().split()[-1]), number)

    def close(self) -> None:
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self.notified.close()


@pytest.fixture
def upstream() -> Iterator[FakeUpstream]:
    server = FakeUpstream()
    server.serve(deepseek.answers())
    yield server
    server.close()


@pytest.fixture
def variables(upstream: FakeUpstream) -> dict[str, str]:
    return {"DEEPSEEK_PROXY_UPSTREAM_URL": upstream.url}


CUSTOMERS: Final = 3


class Customers:
    """Threads that ask for answers on new connections, without a pause. `statuses` is what they got."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._over = threading.Event()
        self.statuses: list[int] = []
        self.failures: list[BaseException] = []
        self._threads = [threading.Thread(target=self._ask) for _ in range(CUSTOMERS)]
        for thread in self._threads:
            thread.start()

    def _ask(self) -> None:
        body = orjson.dumps({"model": "deepseek-flash", "input": PROMPT})
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {CLIENT_KEY}"}
        while not self._over.wait(0.01):
            try:
                with Call(self._port, "POST", "/v1/responses", body, headers) as call:
                    self.statuses.append(call.reply().status)
            except BaseException as failure:
                self.failures.append(failure)

    def wait_for_more(self, count: int = 30) -> None:
        enough = len(self.statuses) + count
        wait_for(lambda: len(self.statuses) >= enough)

    def stop(self) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()


def test_restarts_and_reloads_refuse_no_connection(variables: dict[str, str], tmp_path: Path) -> None:
    """The first request starts the gateway; what comes while it restarts waits for the next one."""
    with contextlib.closing(Manager(tmp_path, variables)) as manager:
        customers = Customers(manager.port)
        try:
            manager.wait_until_ready()
            customers.wait_for_more()
            refused = []
            for act in (manager.restart, manager.reload, manager.restart):
                before = customers.statuses.count(503)
                act()
                customers.wait_for_more()
                refused.append(customers.statuses.count(503) - before)
        finally:
            customers.stop()
        assert customers.failures == []
        # Who had just been let in at a restart is told to come again, once; a reload tells nobody.
        assert refused[1] == 0
        assert max(refused) <= CUSTOMERS
        assert set(customers.statuses) <= {200, 503}
        assert manager.exit_codes() == ["0", "0"]
        assert "Traceback" not in manager.log


def test_the_key_comes_as_a_credential(
    variables: dict[str, str], upstream: FakeUpstream, tmp_path: Path
) -> None:
    """As LoadCredential= hands it over."""
    (tmp_path / "credentials").mkdir()
    (tmp_path / "credentials" / "deepseek_api_key").write_text("sk-credential\n")
    variables["CREDENTIALS_DIRECTORY"] = str(tmp_path / "credentials")
    with contextlib.closing(Manager(tmp_path, variables)) as manager:
        body = orjson.dumps({"model": "deepseek-flash", "input": "Hello"})
        with Call(manager.port, "POST", "/v1/responses", body, {"Content-Type": "application/json"}) as call:
            assert call.reply().status == 200
    assert upstream.requests[0].headers["authorization"] == "Bearer sk-credential"


def test_a_socket_for_everybody_and_a_key_of_its_own_do_not_go_together(
    variables: dict[str, str], tmp_path: Path
) -> None:
    """The guard of the key looks at the real address, not at the one in the settings."""
    variables["DEEPSEEK_API_KEY"] = "sk-x"
    with contextlib.closing(Manager(tmp_path, variables, host="0.0.0.0")) as manager:
        with socket.create_connection(("127.0.0.1", manager.port)):
            wait_for(lambda: manager.exit_codes())
        assert manager.exit_codes()[0] == "2"
        assert "everybody who reaches 0.0.0.0 could spend the balance" in manager.log
