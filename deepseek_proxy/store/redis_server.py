"""A Redis or Valkey: how it is reached, how long anything may take there, and what its failures are called.

What is done there is done by Lua scripts. Nothing is sent twice when an answer does not come: whoever asked
does not know what was done. A server that let somebody wait in vain is not asked again for a moment: else
those who wait in line would wait for it one after another. Refuses to know what the scripts do.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from deepseek_proxy.errors import ProxyError

CALL_SECONDS: Final = 2.0
"""How long the server may take to connect, and to answer."""
REST_SECONDS: Final = 1.0
"""For how long a server that did not answer is left alone."""
MAX_CONNECTIONS: Final = 64
"""A call holds one until a busy worker comes round to its answer: with 16, hundreds of streams that begin
together waited in line for longer than a call may take."""
LINE_SECONDS: Final = 10.0
"""Longest wait for a connection."""
_HEALTH_SECONDS: Final = 15


class RedisServer:
    """`url` is a `redis://`, `rediss://` or `unix://` one. Each of `scripts` gets `prefix` as its only key,
    and as its first argument the moment that `clock` tells; nothing, where the server's own clock counts.

    `failed` makes the error of a call from a few words. Raises `ValueError` for what is no such URL. Nothing
    is connected before it is used.
    """

    def __init__(
        self,
        url: str,
        prefix: str,
        scripts: Mapping[str, str],
        failed: Callable[[str], ProxyError],
        *,
        clock: Callable[[], float] | None = None,
        text: bool = False,
    ) -> None:
        """`text`: answers are strings, and not bytes."""
        self._prefix = prefix
        self._failed = failed
        self._clock = clock
        self._rests_until = 0.0
        # Those who wait here, and not inside the pool, are told as soon as the server has failed somebody.
        self._connections = threading.BoundedSemaphore(MAX_CONNECTIONS)
        try:
            pool = redis.ConnectionPool.from_url(
                url,
                max_connections=MAX_CONNECTIONS,
                socket_timeout=CALL_SECONDS,
                socket_connect_timeout=CALL_SECONDS,
                health_check_interval=_HEALTH_SECONDS,
                decode_responses=text,
                retry=Retry(NoBackoff(), 0),
            )
        except ValueError:
            raise ValueError("this is no URL of a Redis") from None  # what it says may quote a password
        self._server = redis.Redis.from_pool(pool)
        self._scripts = {name: self._server.register_script(script) for name, script in scripts.items()}

    def run(self, script: str, *values: Any) -> Any:
        """What the script of this name returns. Raises what `failed` makes."""
        now = repr(self._clock()) if self._clock is not None else ""
        return self._call(lambda: self._scripts[script](keys=[self._prefix], args=[now, *values]))

    def info(self) -> Mapping[str, Any]:
        """What the server says of itself. Raises what `failed` makes."""
        found: Mapping[str, Any] = self._call(self._server.info)
        return found

    def close(self) -> None:
        self._server.close()
        self._server.connection_pool.disconnect()

    def _call(self, call: Callable[[], Any]) -> Any:
        if not self._connections.acquire(timeout=LINE_SECONDS):
            raise self._failed("too many wait for it")
        began = time.monotonic()
        try:
            if began < self._rests_until:
                raise self._failed("it does not answer")
            return call()
        except (redis.RedisError, OSError) as error:
            now = time.monotonic()
            if now - began >= CALL_SECONDS / 2:  # a connection that just broke is replaced with the next call
                self._rests_until = now + REST_SECONDS
            raise self._failed(type(error).__name__) from error  # not its text, which may hold the address
        finally:
            self._connections.release()
