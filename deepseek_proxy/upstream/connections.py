"""The connections to upstreams: one pool of them, direct or through proxies, that others can cut off.

It is requests' adapter without a session: no cookies, no netrc, no redirects, no proxy variables of the
environment. Through HTTP proxies (CONNECT for TLS), SOCKS4 and SOCKS5, connections can be waited for and
ended as direct ones can. Refuses to know what is sent, and which proxy to take.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, Final
from weakref import WeakValueDictionary

import requests
from requests.adapters import HTTPAdapter
from requests.structures import CaseInsensitiveDict
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from deepseek_proxy.upstream.call import Call
from deepseek_proxy.upstream.readiness import is_silent
from deepseek_proxy.version import __version__

_HOSTS: Final = 16
"""So many hosts keep their idle connections at once, for each proxy."""
_HEADERS: Final = {
    "User-Agent": f"deepseek-proxy/{__version__}",
    "Accept-Encoding": "identity",
    "Connection": "keep-alive",
}
_MAX_JOINED_BYTES: Final = 64 * 1024  # beyond, a copy costs more than the second system call


class Connections:
    """Sends prepared requests. One instance serves all calls of a process."""

    def __init__(self, *, ca_file: Path | None, idle_connections: int) -> None:
        """`idle_connections` is how many are kept for reuse, for one host and one proxy."""
        self._adapter = _Adapter(pool_connections=_HOSTS, pool_maxsize=idle_connections, max_retries=0)
        self._verify: bool | str = str(ca_file) if ca_file is not None else True

    def prepare(self, method: str, url: str) -> requests.PreparedRequest:
        """A request without body and key, to be copied and completed for each call."""
        prepared = requests.PreparedRequest()
        prepared.prepare_method(method)
        prepared.prepare_url(url, None)
        prepared.prepare_headers(_HEADERS)
        return prepared

    @contextmanager
    def response(
        self, prepared: requests.PreparedRequest, call: Call, timeout: tuple[float, float], proxy: str | None
    ) -> Iterator[requests.Response]:
        """The response's head; its body is still to be read. `proxy` is a URL, None for no proxy.

        From here to the end of the block the call can be given up from outside. Raises
        `requests.RequestException` or `OSError`.
        """
        _current.call = call
        try:
            yield self._adapter.send(
                prepared,
                stream=True,
                timeout=timeout,
                verify=self._verify,
                proxies={"http": proxy, "https": proxy} if proxy is not None else {},
            )
        finally:
            _current.call = None
            call.abort_with(None)

    def close(self) -> None:
        """Closes the pooled connections."""
        self._adapter.close()


# -- who waits for a connection -------------------------------------------------------------------

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


# -- urllib3's classes, told of the call ----------------------------------------------------------


class _Connection(HTTPConnection):
    _awaits_head = False
    _head = b""

    @property
    def is_connected(self) -> bool:
        return self.sock is not None and is_silent(self.sock)

    def _new_conn(self) -> socket.socket:
        # A proxy may take its time with the tunnel: from here on that can be ended, too.
        self.sock = super()._new_conn()
        _announce(self)
        return self.sock

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


@cache
def _socks_pools() -> dict[str, type[HTTPConnectionPool]]:
    """The pools of connections through SOCKS. Made at need: their library is not needed by others."""
    from urllib3.contrib.socks import SOCKSConnection

    class SocksConnection(_Connection, SOCKSConnection):
        pass

    class TLSSocksConnection(_Connection, SOCKSConnection, HTTPSConnection):
        pass

    class SocksPool(HTTPConnectionPool):
        ConnectionCls = SocksConnection

    class TLSSocksPool(HTTPSConnectionPool):
        ConnectionCls = TLSSocksConnection

    return {"http": SocksPool, "https": TLSSocksPool}


class _Adapter(HTTPAdapter):
    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        # The manager keeps the pools, and lets go of those that nobody asks for.
        self._found: WeakValueDictionary[tuple[str | None, str | None], Any] = WeakValueDictionary()
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = _POOLS

    def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:
        if getattr(conn, "ca_certs", None) or getattr(conn, "ca_cert_dir", None):
            return  # a pool is told once, not for each request: that costs a look at the disk
        # Whatever the scheme of `url`: the certificate may be that of a proxy.
        super().cert_verify(conn, "https://", verify, cert)

    def get_connection_with_tls_context(
        self, request: requests.PreparedRequest, verify: Any, proxies: Any = None, cert: Any = None
    ) -> Any:
        """The pool for a URL and a proxy. To find it, URLs are taken apart: that is done once for each."""
        key = (request.url, proxies.get("https") if proxies else None)
        pool = self._found.get(key)
        if pool is None:
            pool = super().get_connection_with_tls_context(request, verify, proxies, cert)
            self._found[key] = pool
        return pool

    def request_url(self, request: requests.PreparedRequest, proxies: Any) -> str:
        return super().request_url(request, proxies) if proxies else request.path_url

    def build_response(self, req: requests.PreparedRequest, resp: Any) -> requests.Response:
        """The response without what nobody asks it for: cookies, and the encoding of its text."""
        response = requests.Response()
        response.status_code, response.reason = resp.status, resp.reason
        response.headers = CaseInsensitiveDict(resp.headers)
        response.raw, response.url, response.request = resp, req.url or "", req
        return response

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(proxy, **kwargs)
        manager.pool_classes_by_scheme = _socks_pools() if proxy.lower().startswith("socks") else _POOLS
        return manager
