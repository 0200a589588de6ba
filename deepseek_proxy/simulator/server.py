"""Serves a simulator on real sockets: HTTP/1.1 with keep-alive, chunked bodies, connections broken on demand.

werkzeug's development server closes every connection after one answer; a client's connection reuse can only
be tested against a server that keeps them. Refuses to know what is served, except that an application may
raise `ConnectionBroken` from its body to have the connection end in the middle.
"""

from __future__ import annotations

import contextlib
import io
import logging
import socket
import struct
import threading
from collections.abc import Iterator
from typing import Any

from flask import Flask
from werkzeug.serving import ThreadedWSGIServer, WSGIRequestHandler
from werkzeug.wsgi import ClosingIterator

from deepseek_proxy.simulator.app import create_simulator
from deepseek_proxy.simulator.config import SimulatorConfig
from deepseek_proxy.simulator.pacing import ConnectionBroken

_log = logging.getLogger("deepseek_proxy.simulator")
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # linger on, zero seconds
_POLL_SECONDS = 0.02


class _Handler(WSGIRequestHandler):
    """One connection: requests one after the other until the client, or a fault, ends it."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def run_wsgi(self) -> None:
        try:
            environ = self.make_environ()
            # The whole body is read first, so that the next request starts where this one ends.
            body = self._body(environ)
            self._answer({**environ, "wsgi.input": io.BytesIO(body), "CONTENT_LENGTH": str(len(body))})
        except ConnectionBroken as ending:
            self.close_connection = True
            if ending.reset:
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        except OSError:
            self.close_connection = True  # the client has left, or sent a body that is none

    def _body(self, environ: dict[str, Any]) -> bytes:
        if environ.get("wsgi.input_terminated"):
            chunked: bytes = environ["wsgi.input"].read()
            return chunked
        size = environ.get("CONTENT_LENGTH", "")
        return self.rfile.read(int(size)) if size.isdigit() else b""

    def _answer(self, environ: dict[str, Any]) -> None:
        started: list[tuple[str, list[tuple[str, str]]]] = []

        def start_response(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
            started[:] = [(status, headers)]
            return self.wfile.write

        body = ClosingIterator(self.server.app(environ, start_response))
        try:
            chunked: bool | None = None
            for data in body:
                if chunked is None:
                    chunked = self._send_head(*started[0])
                if data:
                    self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data) if chunked else data)
            if chunked is None:
                chunked = self._send_head(*started[0])
            if chunked:
                self.wfile.write(b"0\r\n\r\n")
        finally:
            body.close()

    def _send_head(self, status: str, headers: list[tuple[str, str]]) -> bool:
        """Sends status line and headers; True where the body is to be chunked."""
        code, _, reason = status.partition(" ")
        self.send_response(int(code), reason)
        for name, value in headers:
            self.send_header(name, value)
        chunked = not any(name.lower() == "content-length" for name, _ in headers)
        if chunked:
            self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        return chunked

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        _log.info("%s %s", self.requestline, code)


class SimulatorServer(ThreadedWSGIServer):
    """A threaded server that knows its open connections, so that its end leaves none behind."""

    daemon_threads = False  # server_close() joins them

    def __init__(self, host: str, port: int, app: Flask) -> None:
        self._open: set[socket.socket] = set()
        self._open_lock = threading.Lock()
        super().__init__(host, port, app, _Handler)

    @property
    def base_url(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._open_lock:
            self._open.add(request)
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            with self._open_lock:
                self._open.discard(request)

    def shutdown_request(self, request: Any) -> None:
        """Called at the end of a connection, and by Ctrl-C for one whose thread has just been started."""
        self.close_request(request)  # no SHUT_WR first: a reset must stay a reset

    def server_close(self) -> None:
        """Ends every open connection and waits for the threads that serve them, streams under way included.

        They notice at their next read, write or pause.
        """
        with self._open_lock:
            for connection in self._open:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
        super().server_close()


def serve(app: Flask, host: str = "127.0.0.1", port: int = 8788) -> None:
    """Serves until Ctrl-C."""
    SimulatorServer(host, port, app).serve_forever(_POLL_SECONDS)


@contextlib.contextmanager
def running(config: SimulatorConfig | None = None, host: str = "127.0.0.1", port: int = 0) -> Iterator[str]:
    """A simulator on a free loopback port, for the length of a `with` block. Gives its base URL.

    At the end every connection is closed and every thread has ended, streams under way included.
    """
    server = SimulatorServer(host, port, create_simulator(config))
    thread = threading.Thread(target=server.serve_forever, args=(_POLL_SECONDS,), name="simulator")
    thread.start()
    try:
        yield server.base_url
    finally:
        server.shutdown()
        thread.join()
