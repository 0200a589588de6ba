"""Runs the real gateway as a subprocess, the way users run it, and ends it cleanly.

Three servers: gunicorn with gevent workers (production), gunicorn with threads, and `flask run` (a laptop).
Settings go in by environment variable. The environment is hostile on purpose: proxy variables and a netrc
that no call to the upstream may use. Refuses to know the gateway's inside; it knows URLs, pids and logs.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Any, Final

import orjson
from harness.client import Call

ROOT: Final = Path(__file__).parents[2]
START_SECONDS: Final = 20
STOP_SECONDS: Final = 15
THREADS: Final = 32

CLIENT_KEY: Final = "sk-client-canary-4f1d"
"""The key every call brings; no log may hold it."""
OWN_KEY: Final = "sk-gateway-canary-9c7e"
"""The gateway's own key; no log may hold it."""
PROMPT: Final = "the canary word is heliotrope"
"""What every call asks; no log may hold it."""


class Server(Enum):
    GEVENT = "gevent"
    GTHREAD = "gthread"
    FLASK = "flask"


class Gateway:
    """One running gateway. `settings` are lower-case names of `deepseek_proxy.settings`.

    `log` is everything the process has written to stdout and stderr. `app` takes the gateway's place, as
    `module:name`. `options` go to the server's command line.
    """

    def __init__(
        self,
        folder: Path,
        upstream_url: str,
        *,
        server: Server = Server.GEVENT,
        workers: int = 1,
        app: str | None = None,
        trap_port: int = 9,
        settings: Mapping[str, object] | None = None,
        options: Sequence[str] = (),
    ) -> None:
        self.server = server
        self.folder = folder
        self._log_file = folder / "output.log"
        self._port_holder, self.port = held_port()
        given = {"upstream_url": upstream_url, "workers": workers, "port": self.port, **(settings or {})}
        with self._log_file.open("wb") as output:
            self.process = subprocess.Popen(
                [*_command(server, app, self.port), *options],
                cwd=folder,
                env=_environment(folder, trap_port, given),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        try:
            self._wait_ready()
        except BaseException:
            self.process.kill()
            self.process.wait()
            raise
        finally:
            self._port_holder.close()

    @property
    def log(self) -> str:
        return self._log_file.read_text(errors="replace")

    def worker_pids(self) -> list[int]:
        """The processes that answer requests: gunicorn's children, or the one process of `flask run`."""
        if self.server is Server.FLASK:
            return [self.process.pid]
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return [int(pid) for pid in children.split()]

    def call(
        self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> Call:
        """One request with the client's key. A header given as "" is left out."""
        fields = {"Authorization": f"Bearer {CLIENT_KEY}", **(headers or {})}
        return Call(self.port, method, path, body, {name: value for name, value in fields.items() if value})

    def ask(self, headers: Mapping[str, str] | None = None, **fields: Any) -> Call:
        """`POST /v1/responses`, streamed unless the fields say otherwise."""
        return self._post("/v1/responses", {"input": PROMPT, **fields}, headers)

    def chat(self, **fields: Any) -> Call:
        """`POST /v1/chat/completions`, streamed unless the fields say otherwise."""
        messages = [{"role": "user", "content": PROMPT}]
        return self._post("/v1/chat/completions", {"messages": messages, **fields})

    def _post(self, path: str, fields: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> Call:
        body = orjson.dumps({"model": "deepseek-flash", "stream": True, **fields})
        return self.call("POST", path, body, {"Content-Type": "application/json", **(headers or {})})

    def stop(self) -> None:
        """Ends the gateway as its supervisor does, and asserts that it went cleanly and kept its secrets."""
        self.process.send_signal(signal.SIGINT if self.server is Server.FLASK else signal.SIGTERM)
        try:
            code = self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"the gateway does not stop:\n{self.log[-4000:]}") from None
        assert code == 0, f"the gateway ended with {code}:\n{self.log[-4000:]}"
        assert "Traceback" not in self.log, self.log[self.log.index("Traceback") :][:6000]
        for secret in (CLIENT_KEY, OWN_KEY, PROMPT):
            assert secret not in self.log, f"{secret!r} stands in the log"

    def _wait_ready(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            assert self.process.poll() is None, f"the gateway did not start:\n{self.log[-4000:]}"
            try:
                with Call(self.port, "GET", "/healthz") as call:
                    if call.reply().status == 200:
                        return
            except (OSError, AssertionError):
                pass
            time.sleep(0.05)
        raise AssertionError(f"the gateway does not answer /healthz:\n{self.log[-4000:]}")


def held_port() -> tuple[socket.socket, int]:
    """A free port, kept from others by a socket that is bound and does not listen."""
    holder = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    holder.bind(("127.0.0.1", 0))
    return holder, holder.getsockname()[1]


def _command(server: Server, app: str | None, port: int) -> Sequence[str]:
    python = [sys.executable, "-m"]
    if server is Server.FLASK:
        return [*python, "flask", "--app", app or "wsgi", "run", "--port", str(port)]
    if server is Server.GTHREAD:  # without the project's configuration, which makes greenlets of threads
        threads = ["-k", "gthread", "--threads", str(THREADS), "--bind", f"127.0.0.1:{port}"]
        return [*python, "gunicorn", *threads, app or "wsgi:app"]
    return [*python, "gunicorn", "-c", str(ROOT / "gunicorn.conf.py"), *([app] if app else [])]


def _environment(folder: Path, trap_port: int, settings: Mapping[str, object]) -> dict[str, str]:
    home = folder / "home"
    home.mkdir()
    (home / ".netrc").write_text("machine 127.0.0.1\n  login someone\n  password netrc-canary\n")
    (home / ".netrc").chmod(0o600)
    trap = f"http://127.0.0.1:{trap_port}"
    proxies = dict.fromkeys(("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY"), trap)
    return {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}",
        "HOME": str(home),
        "DEEPSEEK_API_KEY": OWN_KEY,
        "DEEPSEEK_PROXY_STATE_DIR": str(folder / "state"),
        **proxies,
        **{f"DEEPSEEK_PROXY_{name.upper()}": str(value) for name, value in settings.items()},
    }
