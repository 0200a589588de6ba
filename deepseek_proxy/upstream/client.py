"""The client of DeepSeek's API: bounded retries before the answer begins.

Sends what it is given, byte for byte. Refuses to know any dialect.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

import requests
import tenacity

from deepseek_proxy.errors import (
    Fault,
    NoAccount,
    ProxyError,
    ProxyUnreachable,
    Saturated,
    UpstreamUnreachable,
)
from deepseek_proxy.settings import Settings
from deepseek_proxy.store.ledger.base import LedgerUnavailable
from deepseek_proxy.store.ledger.memory import MemoryLedger
from deepseek_proxy.store.ledger.opening import Books
from deepseek_proxy.translate.hosts import Host
from deepseek_proxy.upstream import failures
from deepseek_proxy.upstream.accounts import Accounts, Member, Seat, Wish
from deepseek_proxy.upstream.body import Body, body_of
from deepseek_proxy.upstream.call import Aborted, Call, Clocks
from deepseek_proxy.upstream.connections import Connections
from deepseek_proxy.upstream.proxies import Proxy, ProxyPool

CHAT_COMPLETIONS: Final = "/chat/completions"
PREFIX_COMPLETIONS: Final = "/beta/chat/completions"
COMPLETIONS: Final = "/beta/completions"
BALANCE: Final = "/user/balance"
MODELS: Final = "/models"
SEARCH: Final = "/v1/tools/search"
FETCH: Final = "/v1/tools/fetch"
_FIRST_PAUSE_SECONDS: Final = 0.5
_JITTER_SECONDS: Final = 0.5


_MAX_PROXIES: Final = 5
"""So many proxies are tried for one attempt."""

Refusal = Callable[[int, Mapping[str, str], bytes], ProxyError]


@dataclass(frozen=True, slots=True)
class Request:
    """One POST; of `BALANCE` and `MODELS`, a GET. `key` is a caller's own DeepSeek key; None: the gateway's
    accounts.

    `mend` gets one chance to return a better body for one that was refused.

    `refusal(status, headers, body)` says what a status other than 200 means on this path.

    `model` is DeepSeek's name of the model, None for what is no model's work. `affinity` names the
    conversation (`translate.affinity`); it is called only where there are several accounts.
    """

    body: bytes
    key: str | None = field(repr=False)
    stream: bool
    request_id: str
    mend: Callable[[ProxyError], bytes | None]
    path: str = CHAT_COMPLETIONS
    refusal: Refusal = failures.from_status
    trace: Mapping[str, str] = field(default_factory=dict)
    """The headers of W3C's trace context."""
    model: str | None = None
    affinity: Callable[[], str | None] | None = None


@dataclass(frozen=True, slots=True)
class _Route:
    """Where an attempt goes. `proxy` is a URL; `pool` takes its place. `host` is None for DeepSeek's own."""

    base_url: str
    key: str = field(repr=False)
    host: Host | None = None
    proxy: str | None = field(default=None, repr=False)
    pool: ProxyPool | None = None

    @classmethod
    def to(cls, member: Member, otherwise: _Route) -> _Route:
        if member.proxy is None:
            return cls(member.base_url, member.key, member.host, otherwise.proxy, otherwise.pool)
        return cls(member.base_url, member.key, member.host, member.proxy or None)


class Client:
    """Opens calls. One instance serves all requests of a process.

    `accounts` is None where there is but the one key; `proxies` is None without a pool of them.
    """

    def __init__(
        self, settings: Settings, on_failure: Callable[[ProxyError], None], books: Books | None = None
    ) -> None:
        """`on_failure` is told of every failed attempt, also of those that are made again."""
        self._on_failure = on_failure
        self._attempts = settings.upstream_attempts
        self._max_pause = settings.retry_max_seconds
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
            retry=tenacity.retry_if_exception(_may_be_tried_again),
            wait=self._pause,
            # The pause belongs to the call, which may be given up meanwhile.
            before_sleep=lambda state: state.args[1].pause(state.upcoming_sleep),
            sleep=lambda _seconds: None,
            reraise=True,
        )
        self._connections = Connections(
            ca_file=settings.upstream_ca_file, idle_connections=settings.upstream_connections
        )
        books = books or Books(settings)
        self.proxies: Final = _pool(settings, books)
        self._own = _Route(
            str(settings.upstream_url).rstrip("/"),
            settings.deepseek_api_key.get_secret_value() if settings.deepseek_api_key else "",
            proxy=(settings.upstream_proxy.get_secret_value() or None) if settings.upstream_proxy else None,
            pool=self.proxies,
        )
        self.accounts: Final = Accounts(settings, books) if settings.accounts else None
        # Prepared once: requests looks at every part of a request anew, though only the body changes.
        self._prepared: dict[tuple[str, str], requests.PreparedRequest] = {}

    def open(self, request: Request, clocks: Clocks | None = None, since: float | None = None) -> Call:
        """Starts a call and returns at once; the call reports how it went.

        `clocks` take the place of the settings'. `since` is when the answer that the call is a part of began,
        on the monotonic clock; None: now.
        """
        return Call(lambda call: self._answer(request, call), clocks or self._clocks, since)

    def inquire(self, member: Member, path: str, clocks: Clocks) -> Call:
        """Asks an account about itself, once: `MODELS` or `BALANCE`. That takes no place there."""
        request = Request(b"", member.key, False, f"req_{secrets.token_hex(16)}", lambda _: None, path)
        return Call(lambda call: self._try(request, call, _Route.to(member, self._own)), clocks)

    def close(self) -> None:
        """Closes the pooled connections."""
        self._connections.close()

    # -- inside a call ----------------------------------------------------------------------------

    def _answer(self, request: Request, call: Call) -> Body:
        wish = None
        if self.accounts is not None and request.key is None:
            affinity = request.affinity() if request.affinity is not None else None
            wish = Wish(request.model, affinity, chat=request.path == CHAT_COMPLETIONS)
        try:
            return self._persist(request, call, wish)
        except ProxyError as error:
            better = request.mend(error)
            if better is None:
                raise
        return self._persist(replace(request, body=better), call, wish)

    def _persist(self, request: Request, call: Call, wish: Wish | None) -> Body:
        """The body of the first attempt that succeeds. Raises the error of the last one."""
        try:
            return self._attempt(request, call, wish)
        except ProxyError as error:
            # Told only now: what tenacity does for an attempt is a twentieth of a request, and most need
            # no second one.
            first = [error]

        def attempt(request: Request, call: Call, wish: Wish | None) -> Body:
            if first:
                raise first.pop()
            return self._attempt(request, call, wish)

        return self._retrying(attempt, request, call, wish)

    def _no_more(self, state: tenacity.RetryCallState) -> bool:
        request, call, wish = state.args
        if self._is_late(request, call, state.upcoming_sleep):
            return True
        if wish is None or self.accounts is None:
            return state.attempt_number >= self._attempts
        # An account that is refused as such is out then: nothing is asked twice.
        attempts = max(self._attempts, self.accounts.limits())
        return state.attempt_number - int(wish.refusals) >= attempts

    def _is_late(self, request: Request, call: Call, pause: float = 0) -> bool:
        """By its first heartbeat the client of a stream has a status: nothing is tried again."""
        return request.stream and time.monotonic() - call.started + pause >= self._heartbeat

    def _pause(self, state: tenacity.RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        if state.args[2] is not None:
            return 0  # another account is taken, or this one's pause is waited for in the queue
        if isinstance(error, UpstreamUnreachable) and state.attempt_number == 1:
            return 0  # most likely a pooled connection that the upstream had closed
        asked = error.retry_after if isinstance(error, ProxyError) else None
        if asked is not None:
            return min(asked, self._max_pause)
        grown = tenacity.wait_exponential(multiplier=_FIRST_PAUSE_SECONDS)(state)
        return min(grown + tenacity.wait_random(0, _JITTER_SECONDS)(state), self._max_pause)

    def _attempt(self, request: Request, call: Call, wish: Wish | None) -> Body:
        if wish is not None and self.accounts is not None:
            return self._attempt_at(self.accounts.place(wish, call), request, call)
        route = self._own if request.key is None else replace(self._own, key=request.key)
        return self._try(request, call, route)

    def _attempt_at(self, seat: Seat, request: Request, call: Call) -> Body:
        """The seat is left when the attempt fails, and else when the call is closed."""
        body = None
        try:
            call.account = seat.member.name
            body = self._try(request, call, _Route.to(seat.member, self._own))
            seat.answered()
        except BaseException as error:
            if body is not None:
                body.close()
            told = seat.failed(error) if isinstance(error, ProxyError) else None
            seat.close()
            if told is None or told is error:
                raise
            self._on_failure(told)
            raise told from error
        call.at_close(seat.close)
        return body

    def _try(self, request: Request, call: Call, route: _Route) -> Body:
        call.attempts += 1
        try:
            return self._post(request, call, route)
        except ProxyError as error:
            if call.given_up:
                raise Aborted from None
            if error.fault is not Fault.CLIENT:
                self._on_failure(error)
            raise

    def _post(self, request: Request, call: Call, route: _Route) -> Body:
        prepared = self._prepare(request, route)
        if route.pool is None:
            return self._send(prepared, request, call, route.proxy)
        failed: list[Proxy] = []
        while True:
            proxy = route.pool.choose(failed)
            try:
                body = self._send(prepared, request, call, proxy.url)
            except ProxyError as error:
                if call.given_up or not failures.never_connected(error.__cause__):
                    raise
                route.pool.failed(proxy)
                failed.append(proxy)
                enough = min(_MAX_PROXIES, len(route.pool.proxies))
                if len(failed) >= enough or self._is_late(request, call):
                    raise ProxyUnreachable("No connection came about through a proxy.") from error
            else:
                route.pool.worked(proxy)
                return body

    def _send(
        self, prepared: requests.PreparedRequest, request: Request, call: Call, proxy: str | None
    ) -> Body:
        try:
            with self._connections.response(prepared, call, self._timeout, proxy) as response:
                return _checked(response, request)
        except (requests.RequestException, OSError) as error:
            raise failures.from_exception(error) from error

    def _prepare(self, request: Request, route: _Route) -> requests.PreparedRequest:
        template = self._prepared.get((route.base_url, request.path))
        if template is None:
            method = "GET" if request.path in (BALANCE, MODELS) else "POST"
            template = self._connections.prepare(method, _url(route.base_url, request.path))
            self._prepared[route.base_url, request.path] = template
        prepared, body = template.copy(), request.body
        if route.host is not None and request.model is not None:
            body = route.host.adapted(body)
        prepared.headers.update(
            {
                "Authorization": f"Bearer {route.key}",
                "Content-Type": "application/json",
                "Content-Length": str(len(body)),
                "Accept": "text/event-stream" if request.stream else "application/json",
                "X-Request-ID": request.request_id,
                **request.trace,
            }
        )
        prepared.body = body
        return prepared


def _may_be_tried_again(error: BaseException) -> bool:
    """Who found no account has waited for one already."""
    final = isinstance(error, NoAccount | Saturated | LedgerUnavailable)
    return isinstance(error, ProxyError) and error.retryable and not final


def _url(base: str, path: str) -> str:
    """`base` may have a version in it, which is that of the chat: other paths stand beside it."""
    return (base if path in (CHAT_COMPLETIONS, MODELS) else base.removesuffix("/v1")) + path


def _pool(settings: Settings, books: Books) -> ProxyPool | None:
    if not (settings.proxy_pool_enabled and settings.proxy_pool):
        return None
    urls = [url.get_secret_value() for url in settings.proxy_pool]
    own = MemoryLedger()
    return ProxyPool(urls, (lambda: books.ledger) if settings.proxy_pool_shared else (lambda: own))


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
