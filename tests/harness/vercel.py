"""Runs the application as Vercel's Python runtime does: by its own package, or by a stand-in.

What counts there, from `vercel-runtime` 0.24: a threaded HTTP/1.0 server in one process; the request body is
read whole before the application is called; what it yields is flushed piece by piece; there is no socket in
the environment and the client's address is what the platform's `X-Forwarded-For` says; the root logger has a
handler that is not ours, and stderr belongs to the platform. As a script, this file is the stand-in.
"""

from __future__ import annotations

import base64
import contextlib
import importlib.util
import io
import json
import logging
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

from harness.client import Call

ROOT: Final = Path(__file__).parents[2]
START_SECONDS: Final = 20
PLATFORM_HEADERS: Final = {
    "X-Forwarded-For": "203.0.113.7",
    "X-Forwarded-Proto": "https",
    "X-Real-IP": "203.0.113.7",
}

STAND_IN: Final = [sys.executable, str(Path(__file__))]
GENUINE: Final = [sys.executable, "-c", "import vercel_runtime.vc_init"]
IS_INSTALLED: Final = importlib.util.find_spec("vercel_runtime") is not None


class Function:
    """One instance of the function. `settings` are lower-case names of settings; `log` is all it has said."""

    def __init__(self, folder: Path, upstream_url: str, command: list[str], **settings: object) -> None:
        self._messages: list[dict[str, Any]] = []
        self._listener = socket.socket(socket.AF_UNIX)
        path = str(folder / "ipc.sock")
        self._listener.bind(path)
        self._listener.listen()
        self._output = folder / "output"
        entry = ROOT / "wsgi.py"
        given = {"upstream_url": upstream_url, **settings}
        with self._output.open("wb") as output:
            self.process = subprocess.Popen(
                command,
                cwd=ROOT,
                env={
                    "PATH": os.environ["PATH"],
                    "HOME": str(folder / "no-such-home"),
                    "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}",
                    "PYTHONDONTWRITEBYTECODE": "1",
                    "VERCEL": "1",
                    "VERCEL_IPC_PATH": path,
                    "__VC_HANDLER_ENTRYPOINT": entry.name,
                    "__VC_HANDLER_ENTRYPOINT_ABS": str(entry),
                    "__VC_HANDLER_MODULE_NAME": entry.stem,
                    "__VC_HANDLER_VARIABLE_NAME": "app",
                    **{f"DEEPSEEK_PROXY_{name.upper()}": str(value) for name, value in given.items()},
                },
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        threading.Thread(target=self._collect, daemon=True).start()

    @property
    def log(self) -> str:
        sent = [message["payload"] for message in self._messages if message["type"] == "log"]
        texts = [base64.b64decode(payload["message"]).decode() for payload in sent]
        return "".join(texts) + self._output.read_text(errors="replace")

    def port(self) -> int:
        """Waits until the function has started."""
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            for message in list(self._messages):
                if message["type"] == "server-started":
                    found: int = message["payload"]["httpPort"]
                    return found
            assert self.process.poll() is None, self.log
            time.sleep(0.02)
        raise AssertionError(f"the function does not start:\n{self.log}")

    def call(
        self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> Call:
        """One request as the platform passes it on."""
        return Call(self.port(), method, path, body, {**PLATFORM_HEADERS, **(headers or {})})

    def stop(self) -> None:
        """The platform ends an instance without a word."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._listener.close()

    def _collect(self) -> None:
        rest = b""
        with contextlib.suppress(OSError), self._listener.accept()[0] as connection:
            while received := connection.recv(1 << 16):
                *whole, rest = (rest + received).split(b"\0")
                self._messages += map(json.loads, whole)


# -- the stand-in ---------------------------------------------------------------------------------


class VCLogHandler(logging.Handler):
    """Writes every record as it is, as the runtime's handler of this name does."""

    def __init__(self, send: Callable[[dict[str, Any]], None]) -> None:
        super().__init__()
        self._send = send

    def emit(self, record: logging.LogRecord) -> None:
        text = base64.b64encode(record.getMessage().encode()).decode()
        self._send({"type": "log", "payload": {"message": text, "level": record.levelname.lower()}})


def handler_for(app: Callable[..., Any]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        disable_nagle_algorithm = True

        def handle_one_request(self) -> None:
            self.raw_requestline = self.rfile.readline(65537)
            if self.raw_requestline and self.parse_request():
                self._answer()
            self.close_connection = True

        def log_message(self, format: str, *arguments: Any) -> None:
            print(format % arguments, flush=True)

        def _answer(self) -> None:
            path, _, query = self.path.partition("?")
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            environ: dict[str, Any] = {
                "CONTENT_LENGTH": str(len(body)),
                "CONTENT_TYPE": self.headers.get("content-type", ""),
                "SCRIPT_NAME": "",
                "PATH_INFO": path,
                "QUERY_STRING": query,
                "REMOTE_ADDR": self.headers.get("x-forwarded-for", self.headers.get("x-real-ip")),
                "REQUEST_METHOD": self.command,
                "SERVER_NAME": self.headers.get("host", "lambda"),
                "SERVER_PORT": self.headers.get("x-forwarded-port", "80"),
                "SERVER_PROTOCOL": "HTTP/1.1",
                "wsgi.errors": sys.stderr,
                "wsgi.input": io.BytesIO(body),
                "wsgi.multiprocess": False,
                "wsgi.multithread": False,
                "wsgi.run_once": False,
                "wsgi.url_scheme": self.headers.get("x-forwarded-proto", "http"),
                "wsgi.version": (1, 0),
                **{f"HTTP_{name.replace('-', '_').upper()}": value for name, value in self.headers.items()},
            }
            pieces = app(environ, self._start_response)
            try:
                for piece in filter(None, pieces):
                    self.wfile.write(piece)
                    self.wfile.flush()
            finally:
                if hasattr(pieces, "close"):
                    pieces.close()

        def _start_response(
            self, status: str, headers: list[tuple[str, str]], _: Any = None
        ) -> Callable[[bytes], Any]:
            self.send_response(int(status.split(" ", 1)[0]))
            for name, value in headers:
                self.send_header(name, value)
            self.end_headers()
            return self.wfile.write

    return Handler


def main() -> None:
    channel = socket.socket(socket.AF_UNIX)
    channel.connect(os.environ["VERCEL_IPC_PATH"])

    def send(message: dict[str, Any]) -> None:
        channel.sendall(json.dumps(message).encode() + b"\0")

    logging.basicConfig(level=logging.INFO, handlers=[VCLogHandler(send)], force=True)
    entry = importlib.util.spec_from_file_location("wsgi", os.environ["__VC_HANDLER_ENTRYPOINT_ABS"])
    assert entry is not None
    assert entry.loader is not None
    module = importlib.util.module_from_spec(entry)
    entry.loader.exec_module(module)
    server = ThreadingHTTPServer(
        ("127.0.0.1", 0), handler_for(getattr(module, os.environ["__VC_HANDLER_VARIABLE_NAME"]))
    )
    send({"type": "server-started", "payload": {"httpPort": server.server_address[1]}})
    server.serve_forever()


if __name__ == "__main__":
    main()
