"""A DeepSeek stand-in on real sockets and threads, for everything that streams or breaks.

Each fault is one handler of about ten lines, written next to its test (urllib3's `dummyserver` habit).
This module accepts connections, parses requests, counts, and gives each request its handler. It refuses to
know DeepSeek's shapes.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator

from harness.wire import Handler, Request, Stopped, Wire, read_request


class FakeUpstream:
    """Listens on a loopback port of its own; one thread per connection, HTTP/1.1 keep-alive.

    `serve(first, second)` gives the next requests their handlers in that order; the last one repeats.
    `requests` and `connections` count since the last `serve`; `failures` holds what handlers raised;
    `hung_up` counts the idle connections that were closed from this side.
    """

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.tls = tls
        self.requests: list[Request] = []
        self.connections = 0
        self.hung_up = 0
        self.failures: list[BaseException] = []
        self._handlers: tuple[Handler, ...] = ()
        self._lock = threading.Lock()
        self._idle: set[socket.socket] = set()
        self._threads: set[threading.Thread] = set()
        self._stopping = threading.Event()
        self._listener = _bound(0)
        self.port: int = self._listener.getsockname()[1]
        self._accepting = self._listen()

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}"

    @property
    def idle_connections(self) -> int:
        """Connections that are open and wait for a request."""
        with self._lock:
            return len(self._idle)

    @property
    def busy_handlers(self) -> int:
        """Requests whose handler has not ended."""
        with self._lock:
            return len(self._threads) - len(self._idle)

    def serve(self, *handlers: Handler) -> None:
        """Starts a new count, with these handlers for the requests to come."""
        with self._lock:
            self._handlers = handlers
            self.requests = []
            self.connections = 0

    def hang_up(self) -> None:
        """Closes the idle connections, as a server does after its keep-alive time."""
        with self._lock:
            idle = list(self._idle)
            self.hung_up += len(idle)
        for connection in idle:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self.wait_until(lambda: self.idle_connections == 0)

    @contextlib.contextmanager
    def refusing(self) -> Iterator[None]:
        """While this lasts every connection attempt is refused; the port stays ours."""
        self._stop_listening()
        self._listener = _bound(self.port)
        self.hang_up()
        try:
            yield
        finally:
            self._accepting = self._listen()

    def wait_until(self, condition: Callable[[], object], timeout: float = 5) -> None:
        """Waits for `condition` to be true; an AssertionError after `timeout` seconds."""
        deadline = time.monotonic() + timeout
        while not condition():
            assert time.monotonic() < deadline, "the fake upstream did not get there in time"
            time.sleep(0.005)

    def close(self) -> None:
        """Ends every handler and connection and waits for their threads."""
        self._stopping.set()
        self._stop_listening()
        self.hang_up()
        with self._lock:
            threads = list(self._threads)
        for thread in threads:
            thread.join(5)
            assert not thread.is_alive(), "a handler of the fake upstream does not end"

    # -- the server

    def _listen(self) -> threading.Thread:
        self._listener.listen(512)
        thread = threading.Thread(target=self._accept, args=(self._listener,), daemon=True)
        thread.start()
        return thread

    def _stop_listening(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes accept()
        self._accepting.join(5)
        self._listener.close()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self.connections += 1
                number = self.connections
                thread = threading.Thread(target=self._run, args=(connection, number), daemon=True)
                self._threads.add(thread)
            thread.start()

    def _run(self, connection: socket.socket, number: int) -> None:
        try:
            if self.tls:
                connection = self.tls.wrap_socket(connection, server_side=True)
            self._converse(connection, number)
        except (OSError, Stopped):
            pass  # the gateway left, or the test is over: the test asserts what it expects of that
        except BaseException as failure:
            self.failures.append(failure)
        finally:
            connection.close()
            with self._lock:
                self._idle.discard(connection)
                self._threads.discard(threading.current_thread())

    def _converse(self, connection: socket.socket, number: int) -> None:
        while not self._stopping.is_set():
            with self._lock:
                self._idle.add(connection)
            request = read_request(connection, number)
            with self._lock:
                self._idle.discard(connection)
                if request is None:
                    return
                self.requests.append(request)
                handler = self._handlers[min(len(self.requests), len(self._handlers)) - 1]
            wire = Wire(connection, self._stopping)
            handler(request, wire)
            if not wire.answered:
                return


def _bound(port: int) -> socket.socket:
    """A socket that owns a loopback port without listening: attempts to connect are refused."""
    bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.bind(("127.0.0.1", port))
    return bound
