"""The client of DeepSeek's API: one pooled session, bounded retries before the answer begins.

Sends what it is given, byte for byte. No cookies, no netrc, no redirects, no proxy variables of the
environment. Refuses to know any dialect.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from http.cookiejar import DefaultCookiePolicy
from typing import Any, Final

import requests
import tenacity
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from deepseek_proxy.errors import Fault, ProxyError, UpstreamUnreachable
from deepseek_proxy.settings import Settings
from deepseek_proxy.upstream import failures
from deepseek_proxy.upstream.body import Body, body_of
from deepseek_proxy.upstream.call import Aborted, Call, Clocks
from deepseek_proxy.upstream.readiness import is_silent
from deepseek_proxy.version import __version__

CHAT_COMPLETIONS: Final = "/chat/completions"
SEARCH: Final = "/v1/tools/search"
FETCH: Final = "/v1/tools/fetch"
_FIRST_PAUSE_SECONDS: Final = 0.5
_JITTER_SECONDS: Final = 0.5
_MAX_JOINED_BYTES: Final = 64 * 1024  # beyond, a copy costs more than the second system call


@dataclass(frozen=True, slots=True)
class Request:
    """One POST. `key` is a caller's own DeepSeek key; None: the gateway's.

    `mend` gets one chance to return a better body for one that was refused.

    `refusal(status, headers, body)` says what a status other than 200 means on this path.
    """

    body: bytes
    key: str | None = field(repr=False)
    stream: bool
    request_id: str
    mend: Callable[[ProxyError], bytes | None]
    path: str = CHAT_COMPLETIONS
    refusal: Callable[[int, Mapping[str, str], bytes], ProxyError] = failures.from_status
    trace: Mapping[str, str] = field(default_factory=dict)
    """The headers of W3C's trace context."""


class Client:
    """Opens calls. One instance serves all requests of a process."""

    def __init__(self, settings: Settings, on_failure: Callable[[ProxyError], None]) -> None:
        """`on_failure` is told of every failed attempt, also of those that are made again."""
        self._on_failure = on_failure
        self._attempts = settings.upstream_attempts
        self._max_pause = settings.retry_max_seconds
        self._own_key = settings.deepseek_api_key.get_secret_value() if settings.deepseek_api_key else ""
        self._heartbeat = settings.heartbeat_seconds
        self._timeout = (settings.connect_timeout_seconds, settings.upstream_idle_seconds)
        self._clocks = Clocks(
            bytes_idle=settings.upstream_idle_seconds,
            data_idle=settings.data_idle_seconds,
            total=settings.total_seconds,
            after_finish=settings.after_finish_seconds,
        )
        self._retrying = tenacity.Retrying(
            stop=self._no_more,
            retry=tenacity.retry_if_exception(lambda e: isinstance(e, ProxyError) and e.retryable),
            wait=self._pause,
            # The pause belongs to the call, which may be given up meanwhile.
            before_sleep=lambda state: state.args[1].pause(state.upcoming_sleep),
            sleep=lambda _seconds: None,
            reraise=True,
        )
        self._session = _session(settings)
        base = str(settings.upstream_url).rstrip("/")
        self._adapter = self._session.get_adapter(base)
        # Prepared once: requests looks at every part of a request anew, though only the body changes.
        self._prepared = {
            path: self._session.prepare_request(requests.Request("POST", url))
            for path, url in {
                CHAT_COMPLETIONS: base + CHAT_COMPLETIONS,
                SEARCH: base.removesuffix("/v1") + SEARCH,
                FETCH: base.removesuffix("/v1") + FETCH,
            }.items()
        }

    def open(self, request: Request, clocks: Clocks | None = None, since: float | None = None) -> Call:
        """Starts a call and returns at once; the call reports how it went.

        `clocks` take the place of the settings'. `since` is when the answer that the call is a part of began,
        on the monotonic clock; None: now.
        """
        return Call(lambda call: self._answer(request, call), clocks or self._clocks, since)

    def close(self) -> None:
        """Closes the pooled connections."""
        self._session.close()

    # -- inside a call ----------------------------------------------------------------------------

    def _answer(self, request: Request, call: Call) -> Body:
        try:
            return self._retrying(self._attempt, request, call)
        except ProxyError as error:
            better = request.mend(error)
            if better is None:
                raise
        return self._retrying(self._attempt, replace(request, body=better), call)

    def _no_more(self, state: tenacity.RetryCallState) -> bool:
        request, call = state.args
        begins = time.monotonic() - call.started + state.upcoming_sleep
        # By its first heartbeat the client of a stream has a status: nothing is tried again.
        return state.attempt_number >= self._attempts or (request.stream and begins >= self._heartbeat)

    def _pause(self, state: tenacity.RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        if isinstance(error, UpstreamUnreachable) and state.attempt_number == 1:
            return 0  # most likely a pooled connection that the upstream had closed
        asked = error.retry_after if isinstance(error, ProxyError) else None
        if asked is not None:
            return min(asked, self._max_pause)
        grown = tenacity.wait_exponential(multiplier=_FIRST_PAUSE_SECONDS)(state)
        return min(grown + tenacity.wait_random(0, _JITTER_SECONDS)(state), self._max_pause)

    def _attempt(self, request: Request, call: Call) -> Body:
        call.attempts += 1
        try:
            return self._post(request, call)
        except ProxyError as error:
            if call.given_up:
                raise Aborted from None
            if error.fault is not Fault.CLIENT:
                self._on_failure(error)
            raise

    def _post(self, request: Request, call: Call) -> Body:
        _current.call = call
        try:
            response = self._adapter.send(
                self._prepare(request),
                stream=True,
                timeout=self._timeout,
                verify=self._session.verify or True,
                proxies=self._session.proxies,
            )
            return _checked(response, request)
        except (requests.RequestException, OSError) as error:
            raise failures.from_exception(error) from error
        finally:
            _current.call = None
            call.abort_with(None)

    def _prepare(self, request: Request) -> requests.PreparedRequest:
        prepared = self._prepared[request.path].copy()
        prepared.headers.update(
            {
                "Authorization": f"Bearer {request.key or self._own_key}",
                "Content-Type": "application/json",
                "Content-Length": str(len(request.body)),
                "Accept": "text/event-stream" if request.stream else "application/json",
                "X-Request-ID": request.request_id,
                **request.trace,
            }
        )
        prepared.body = request.body
        return prepared


def _checked(response: requests.Response, request: Request) -> Body:
    """The body of an answer. Raises the error that another response stands for."""
    content_type = response.headers.get("Content-Type", "")
    if response.status_code == 200 and not _is_document(content_type, request.stream):
        return body_of(response)
    try:
        body = response.raw.read(failures.MAX_ERROR_BYTES, decode_content=True)
    except Exception:  # the status says enough
        body = b""
    finally:
        response.close()
    if response.status_code == 200:
        raise failures.from_body(body, content_type)
    raise request.refusal(response.status_code, response.headers, body)


def _is_document(content_type: str, stream: bool) -> bool:
    """Whether this is no answer, whatever its status; hosts that name no type are believed."""
    return content_type.startswith("text/html") or (stream and content_type.startswith("application/json"))


# -- the session ----------------------------------------------------------------------------------


def _session(settings: Settings) -> requests.Session:
    session = requests.Session()
    session.trust_env = False
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    session.headers.clear()
    session.headers.update(
        {
            "User-Agent": f"deepseek-proxy/{__version__}",
            "Accept-Encoding": "identity",
            "Connection": "keep-alive",
        }
    )
    if settings.upstream_ca_file is not None:
        session.verify = str(settings.upstream_ca_file)
    if settings.upstream_proxy is not None:
        proxy = settings.upstream_proxy.get_secret_value()
        session.proxies = {"http": proxy, "https": proxy}
    adapter = _Adapter(pool_connections=8, pool_maxsize=settings.upstream_connections, max_retries=0)
    session.mount("https://", adapter)
    session.mount("http://", adapter)
    return session


_current = threading.local()
"""The call on whose behalf this thread is connecting: urllib3 makes connections without saying for whom."""


def _announce(connection: HTTPConnection) -> None:
    """Tells the current call how to end an attempt on this connection from another thread."""
    call: Call | None = getattr(_current, "call", None)
    if call is not None:
        call.abort_with(lambda: _shut(connection))


def _shut(connection: HTTPConnection) -> None:
    sock = connection.sock
    if sock is None:
        return  # still connecting: the attempt looks after itself when it is through
    try:
        # A duplicate, because a TLS socket forgets its session when it is shut down, while it is being read.
        with socket.socket(fileno=os.dup(sock.fileno())) as duplicate:
            duplicate.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass  # it is gone already


class _Connection(HTTPConnection):
    @property
    def is_connected(self) -> bool:
        return self.sock is not None and is_silent(self.sock)

    _awaits_head = False
    _head = b""

    def request(self, *args: Any, **kwargs: Any) -> None:
        _announce(self)
        self._awaits_head = True
        super().request(*args, **kwargs)
        if self._head:  # there was no body
            self.send(b"")
        _announce(self)

    def send(self, data: Any) -> None:
        """Sends a request's head together with its body: one system call, one packet, for most."""
        if self._awaits_head:
            self._awaits_head, self._head = False, data
            return
        head, self._head = self._head, b""
        if len(data) > _MAX_JOINED_BYTES:
            super().send(head)
            head = b""
        super().send(head + data)


class _TLSConnection(_Connection, HTTPSConnection):
    """The same over TLS: `super()` of `_Connection` is `HTTPSConnection` here."""


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _TLSPool(HTTPSConnectionPool):
    ConnectionCls = _TLSConnection


_POOLS: Final = {"http": _Pool, "https": _TLSPool}


class _Adapter(HTTPAdapter):
    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = _POOLS

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(*args, **kwargs)
        manager.pool_classes_by_scheme = _POOLS
        return manager
