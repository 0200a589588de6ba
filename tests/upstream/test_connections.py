"""Connections through real proxies of every scheme: waited for, and ended, as direct ones are."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from harness import deepseek
from harness.certificates import self_signed
from harness.fake_upstream import FakeUpstream
from harness.proxies import PASSWORD, SCHEMES, TestProxy
from harness.wire import Request, Wire

from deepseek_proxy.errors import UpstreamUnreachable
from deepseek_proxy.upstream import connections

Drive = Callable[..., Any]
"""Of `conftest`."""
ANSWER = b"".join(deepseek.frames())
PROMPT_SECONDS = 2.0
"""Well above a tick, and well below every timeout."""

Certificate = tuple[Path, ssl.SSLContext]
Way = tuple[TestProxy, FakeUpstream, dict[str, Any]]


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return self_signed(tmp_path_factory.mktemp("tls"), "either")


WAYS = [(scheme, tls) for scheme in SCHEMES for tls in (True, False)]


@pytest.fixture(params=WAYS, ids=str)
def way(request: pytest.FixtureRequest, certificate: Certificate) -> Iterator[Way]:
    """A proxy that wants a password, an upstream behind it, and the settings that lead there."""
    scheme, tls = request.param
    upstream = FakeUpstream(certificate[1] if tls else None)
    upstream.serve(deepseek.answers())
    proxy = TestProxy(scheme, tls=certificate[1] if scheme == "https" else None, auth=True)
    chosen = {
        "upstream_url": upstream.url,
        "upstream_ca_file": certificate[0],
        "upstream_proxy": proxy.url,
        "upstream_attempts": 1,
    }
    yield proxy, upstream, chosen
    proxy.close()
    upstream.close()
    assert upstream.failures == []


def begins_and_falls_silent(_: Request, wire: Wire) -> None:
    wire.start_stream()
    wire.chunk(deepseek.opening())
    wire.wait_closed(30)


def test_an_answer_comes_through_and_the_connection_is_used_again(drive: Drive, way: Way) -> None:
    proxy, upstream, chosen = way
    driver = drive(**chosen)
    for _ in range(3):
        assert driver.ask() == (ANSWER, 1)
    assert proxy.targets == [f"127.0.0.1:{upstream.port}"]
    assert upstream.connections == 1
    assert "proxy-authorization" not in upstream.requests[0].headers or upstream.tls is None


def test_a_silent_stream_ticks_and_is_let_go_at_once(drive: Drive, way: Way) -> None:
    proxy, upstream, chosen = way
    upstream.serve(begins_and_falls_silent)
    call = drive(**chosen).open()
    while not (first := call.read()):
        pass
    assert first == deepseek.opening()
    began = time.monotonic()
    assert call.read() is None, "silence is told of, tick by tick"
    assert time.monotonic() - began < PROMPT_SECONDS
    call.close()
    upstream.wait_until(lambda: not upstream.busy_handlers and not proxy.open_connections, PROMPT_SECONDS)


def test_a_large_answer_comes_whole(drive: Drive, way: Way) -> None:
    """Records of TLS are read in parts; nothing stays behind in any layer."""
    _, upstream, chosen = way
    frames = [deepseek.text("x" * 9_000) for _ in range(100)]

    def handler(_: Request, wire: Wire) -> None:
        wire.start_stream()
        for frame in frames:
            wire.chunk(frame)
        wire.end()

    upstream.serve(handler)
    assert drive(**chosen).ask() == (b"".join(frames), 1)


def test_a_proxy_that_is_silent_can_be_given_up(drive: Drive, way: Way) -> None:
    proxy, upstream, chosen = way
    proxy.silent = True
    call = drive(**chosen).open()
    upstream.wait_until(lambda: proxy.open_connections)
    call.close()
    if proxy.scheme == "http":  # a handshake ends with the time for connecting
        upstream.wait_until(lambda: not proxy.open_connections, PROMPT_SECONDS)
    assert upstream.requests == []
    proxy.silent = False


def test_a_proxy_that_refuses_shows_nothing_of_its_url(drive: Drive, way: Way) -> None:
    proxy, upstream, chosen = way
    proxy.broken = True
    error, attempts = drive(**chosen).fail()
    assert (type(error), attempts) == (UpstreamUnreachable, 1)
    assert PASSWORD not in error.message
    assert "canary" not in error.message
    assert upstream.requests == []


@pytest.mark.parametrize("way", [way for way in WAYS if way[0] != "socks4"], indirect=True, ids=str)
def test_a_wrong_password_is_refused(drive: Drive, way: Way) -> None:
    """SOCKS4 has none."""
    proxy, upstream, chosen = way
    wrong = proxy.url.replace("p%40ss", "wrong")
    error, _ = drive(**{**chosen, "upstream_proxy": wrong}).fail()
    assert isinstance(error, UpstreamUnreachable) or proxy.scheme in ("http", "https")
    assert upstream.requests == []


def test_the_name_is_resolved_where_the_scheme_says(drive: Drive) -> None:
    upstream = FakeUpstream()
    upstream.serve(deepseek.answers())
    for scheme, asked in (("socks5", "127.0.0.1"), ("socks5h", "localhost"), ("socks4", "127.0.0.1")):
        proxy = TestProxy(scheme)
        driver = drive(upstream_url=f"http://localhost:{upstream.port}", upstream_proxy=proxy.url)
        assert driver.ask() == (ANSWER, 1)
        assert proxy.targets == [f"{asked}:{upstream.port}"]
        driver.client.close()
        proxy.close()
    upstream.close()


@pytest.mark.parametrize(("body", "pieces"), [(None, 1), (b"x" * 10_000, 1), (b"x" * 100_000, 2)])
def test_a_small_request_leaves_in_one_piece(body: bytes | None, pieces: int) -> None:
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with near, far:
        far.setblocking(False)
        connection = connections._Connection("localhost")
        connection.sock = near
        connection.request("POST", "/", body=body)
        sent = [far.recv(1_000_000) for _ in range(pieces)]
        with pytest.raises(BlockingIOError):
            far.recv(1)
    head, _, rest = b"".join(sent).partition(b"\r\n\r\n")
    assert head.startswith(b"POST / HTTP/1.1\r\n")
    assert rest == (body or b"")
