"""The client of DeepSeek's API: bounded retries before the answer begins.

Sends what it is given, byte for byte. Refuses to know any dialect.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

import requests
import tenacity

from deepseek_proxy.errors import Fault, ProxyError, UpstreamUnreachable
from deepseek_proxy.settings import Settings
from deepseek_proxy.upstream import failures
from deepseek_proxy.upstream.body import Body, body_of
from deepseek_proxy.upstream.call import Aborted, Call, Clocks
from deepseek_proxy.upstream.connections import Connections

CHAT_COMPLETIONS: Final = "/chat/completions"
PREFIX_COMPLETIONS: Final = "/beta/chat/completions"
COMPLETIONS: Final = "/beta/completions"
BALANCE: Final = "/user/balance"
SEARCH: Final = "/v1/tools/search"
FETCH: Final = "/v1/tools/fetch"
_FIRST_PAUSE_SECONDS: Final = 0.5
_JITTER_SECONDS: Final = 0.5


@dataclass(frozen=True, slots=True)
class Request:
    """One POST; of `BALANCE`, a GET. `key` is a caller's own DeepSeek key; None: the gateway's.

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
        proxy = settings.upstream_proxy
        self._proxy = (proxy.get_secret_value() or None) if proxy is not None else None
        self._connections = Connections(
            ca_file=settings.upstream_ca_file, idle_connections=settings.upstream_connections
        )
        base = str(settings.upstream_url).rstrip("/")
        # Prepared once: requests looks at every part of a request anew, though only the body changes.
        self._prepared = {
            path: self._connections.prepare("GET" if path == BALANCE else "POST", url)
            for path, url in {
                CHAT_COMPLETIONS: base + CHAT_COMPLETIONS,
                **{
                    p: base.removesuffix("/v1") + p
                    for p in (PREFIX_COMPLETIONS, COMPLETIONS, SEARCH, FETCH, BALANCE)
                },
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
        self._connections.close()

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
        prepared = self._prepare(request)
        try:
            with self._connections.response(prepared, call, self._timeout, self._proxy) as response:
                return _checked(response, request)
        except (requests.RequestException, OSError) as error:
            raise failures.from_exception(error) from error

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
