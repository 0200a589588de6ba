"""gunicorn's gevent worker with a prompt end.

Told to stop, it accepts nothing more from that moment: what waits in the backlog is for its successor, or is
refused where there is none. Idle connections are closed soon, instead of being waited for. A worker that is
being replaced while the server goes on serves its streams to their end; told to quit, it leaves them the
moment that their last words take.

Refuses to know the application. gunicorn 25 to 27, "Signal Handling" and `gunicorn.workers.ggevent`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, Final

import gevent
from gevent.server import StreamServer
from gunicorn.http.errors import LimitRequestHeaders, LimitRequestLine  # type: ignore[import-untyped]
from gunicorn.workers.ggevent import GeventWorker  # type: ignore[import-untyped]

LINGER_SECONDS: Final = 1
"""How long an idle connection stays open at the end: a request may be under way on it. Shorter than
`lifecycle.LAST_WORDS_SECONDS`, so that the connections of the last streams are gone in time."""
QUIT_SECONDS: Final = 1.5
"""How long streams may take to end after SIGQUIT; the arbiter kills after two seconds."""

_LOOK_SECONDS: Final = 0.1

_REFUSAL: Final = (
    '{"error":{"message":"%s: this is no HTTP request that can be read (%s).",'
    '"type":"invalid_request_error","param":null,"code":null}}'
)


class Worker(GeventWorker):
    """Named as `worker_class`. `gunicorn_conf.post_fork` sets the first two attributes, and
    `lifecycle.follow_server` the third."""

    server_ends: Callable[[], bool] = staticmethod(lambda: True)
    """Whether the order to stop is meant for the whole server, and not for this worker alone."""
    replaced_seconds: int = 0
    """How long its streams may go on in a worker that is being replaced."""

    is_busy: Callable[[], bool] = staticmethod(lambda: False)
    """Whether something goes on here that is no request, and has to be waited for like one."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._servers: list[_Server] = []
        self._waits: set[_Wait] = set()
        self._told_to_stop_at = math.inf

    def run(self) -> None:
        """Called by gunicorn; it returns when requests have ended, or have had their time."""
        super().run()
        while self.is_busy() and time.monotonic() < self._told_to_stop_at + self.cfg.graceful_timeout:
            self.notify()
            gevent.sleep(_LOOK_SECONDS)

    def server_class(
        self,
        listener: Any,
        *,
        application: Any,
        spawn: Any,
        log: Any,
        handler_class: Any,
        environ: Any,
        **ssl_args: Any,
    ) -> _Server:
        """Called by gunicorn for each listener. A `StreamServer` needs only its pool (`spawn`) and TLS."""
        server = _Server(self, listener, spawn, ssl_args)
        self._servers.append(server)
        return server

    def handle_error(self, req: Any, client: Any, addr: Any, exc: BaseException) -> None:
        """Called by gunicorn for what is no HTTP, or too large a part of it.

        Its own answer is a page that quotes what it could not read, as does its log line: where a length was
        counted wrongly, that is a piece of a prompt.
        """
        kind = type(exc).__name__
        limit = isinstance(exc, (LimitRequestLine, LimitRequestHeaders))
        status, reason = (431, "Request Header Fields Too Large") if limit else (400, "Bad Request")
        self.log.warning("Refused what is no HTTP request (%s) from %s.", kind, addr[0] if addr else "-")
        body = _REFUSAL % (reason, kind)
        head = (
            f"HTTP/1.1 {status} {reason}\r\nConnection: close\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        with suppress(OSError):
            client.sendall((head + body).encode())

    def timeout_ctx(self) -> _Wait:
        """Called by gunicorn around the wait for a connection's next request."""
        return _Wait(self._waits, self.cfg.keepalive if self.alive else LINGER_SECONDS)

    def handle_exit(self, sig: int, frame: Any) -> None:
        if self.alive:
            self._told_to_stop_at = time.monotonic()
            gevent.spawn(self._leave, LINGER_SECONDS)  # not in the middle of what the signal interrupted
        super().handle_exit(sig, frame)

    def handle_quit(self, sig: int, frame: Any) -> None:
        self.alive = False
        gevent.spawn(self._quit, sig, frame)

    def _leave(self, linger_seconds: float) -> None:
        if not self.server_ends():
            self.cfg.set("graceful_timeout", self.replaced_seconds)
        for server in self._servers:
            server.stop_accepting()
        for wait in self._waits:
            wait.limit(linger_seconds)

    def _quit(self, sig: int, frame: Any) -> None:
        self._leave(0)
        gevent.wait([gevent.spawn(server.pool.join) for server in self._servers], QUIT_SECONDS)
        super().handle_quit(sig, frame)


class _Server(StreamServer):
    """Accepts connections while its worker is alive, also when its pool has room again."""

    def __init__(self, worker: Worker, listener: Any, pool: Any, ssl_args: dict[str, Any]) -> None:
        self._worker = worker
        super().__init__(listener, partial(worker.handle, listener), spawn=pool, **ssl_args)
        if worker.cfg.workers > 1:
            self.max_accept = 1  # as gunicorn does: leave connections to the others

    def start_accepting(self) -> None:
        if self._worker.alive:
            super().start_accepting()


class _Wait:
    """`gevent.Timeout(seconds, False)` with a limit that can be moved: what takes longer ends in silence."""

    def __init__(self, waits: set[_Wait], seconds: float) -> None:
        self._waits = waits
        self._seconds = seconds
        self._timer: Any = None
        self._over = _Over()

    def __enter__(self) -> None:
        self._greenlet = gevent.getcurrent()
        self._waits.add(self)
        self.limit(self._seconds)

    def limit(self, seconds: float) -> None:
        self._stop()
        self._timer = gevent.get_hub().loop.timer(seconds)
        self._timer.start(self._greenlet.throw, self._over)

    def __exit__(self, kind: object, error: BaseException | None, _: object) -> bool:
        self._stop()
        self._waits.discard(self)
        return error is self._over

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.stop()
            self._timer.close()


class _Over(BaseException):
    """The time is up. No `Exception`, so that nothing on the way takes it for its own."""
