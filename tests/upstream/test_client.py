"""The client: what it sends and to whom, whose connections it keeps, and how it gives up."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from harness import deepseek
from harness.certificates import self_signed
from harness.fake_upstream import FakeUpstream
from harness.wire import Handler, Request, Wire

from deepseek_proxy import errors
from deepseek_proxy.upstream.client import Request as ClientRequest
from deepseek_proxy.version import __version__

Drive = Callable[..., Any]
"""Of `conftest`."""


# -- what is sent ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("stream", "accept"), [(True, "text/event-stream"), (False, "application/json")])
def test_the_request_is_this_and_nothing_else(
    drive: Drive, upstream: FakeUpstream, stream: bool, accept: str
) -> None:
    driver = drive(upstream_url=upstream.url)
    driver.ask(stream=stream)
    (sent,) = upstream.requests
    assert (sent.method, sent.path, sent.body) == ("POST", "/chat/completions", driver.body)
    assert sent.headers == {
        "host": f"127.0.0.1:{upstream.port}",
        "user-agent": f"deepseek-proxy/{__version__}",
        "accept-encoding": "identity",
        "connection": "keep-alive",
        "authorization": "Bearer sk-key",
        "content-type": "application/json",
        "content-length": str(len(driver.body)),
        "accept": accept,
        "x-request-id": "req_1",
    }


def test_each_request_has_its_own_key_and_body(drive: Drive, upstream: FakeUpstream) -> None:
    driver = drive(upstream_url=upstream.url)
    sent = [ClientRequest(b'{"n": %d}' % n, f"sk-{n}", False, f"req_{n}", lambda _: None) for n in range(20)]
    calls = [driver.client.open(each) for each in sent]
    for call in calls:
        call.read_all(1 << 20, on_tick=lambda: None)
        call.close()
    seen = {
        (got.body, got.headers["authorization"], got.headers["x-request-id"]) for got in upstream.requests
    }
    assert seen == {(b'{"n": %d}' % n, f"Bearer sk-{n}", f"req_{n}") for n in range(20)}


@pytest.mark.parametrize(
    ("suffix", "path"),
    [("", "/chat/completions"), ("/", "/chat/completions"), ("/v1", "/v1/chat/completions")],
)
def test_the_address_may_have_a_path(drive: Drive, upstream: FakeUpstream, suffix: str, path: str) -> None:
    drive(upstream_url=upstream.url + suffix).ask()
    assert upstream.requests[0].path == path


def test_a_request_does_not_show_its_key() -> None:
    assert "sk-key" not in repr(ClientRequest(b"{}", "sk-key", True, "r", lambda _: None))


@pytest.fixture
def trap() -> Iterator[FakeUpstream]:
    server = FakeUpstream()
    server.serve(deepseek.answers())
    yield server
    server.close()


def test_no_netrc_and_no_proxy_of_the_environment(
    drive: Drive,
    upstream: FakeUpstream,
    trap: FakeUpstream,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1\n  login someone\n  password secret\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, trap.url)
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    drive(upstream_url=upstream.url).ask()
    assert upstream.requests[0].headers["authorization"] == "Bearer sk-key"
    assert trap.connections == 0


def test_no_cookie_comes_back(drive: Drive, upstream: FakeUpstream) -> None:
    upstream.serve(lambda _, wire: wire.respond(200, b"{}", {"Set-Cookie": "session=1; Path=/"}))
    driver = drive(upstream_url=upstream.url)
    for _ in range(2):
        driver.ask(stream=False)
    assert ["cookie" in sent.headers for sent in upstream.requests] == [False, False]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_no_redirect_is_followed(
    drive: Drive, upstream: FakeUpstream, trap: FakeUpstream, status: int
) -> None:
    upstream.serve(deepseek.refuses(status, b"", {"Location": trap.url}))
    error, attempts = drive(upstream_url=upstream.url).fail()
    assert "redirects" in error.message
    assert (attempts, trap.connections) == (1, 0)


def test_a_configured_proxy_is_used(drive: Drive, trap: FakeUpstream) -> None:
    proxy = trap.url.replace("//", "//user:pass@")
    drive(upstream_url="http://deepseek.test:81/v1", upstream_proxy=proxy).ask()
    (sent,) = trap.requests
    assert sent.path == "http://deepseek.test:81/v1/chat/completions"
    assert sent.headers["proxy-authorization"] == "Basic dXNlcjpwYXNz"
    assert sent.headers["authorization"] == "Bearer sk-key"


def test_a_configured_proxy_tunnels_tls_and_sees_no_key(drive: Drive, trap: FakeUpstream) -> None:
    trap.serve(deepseek.refuses(407, b""))
    driver = drive(upstream_url="https://deepseek.test", upstream_proxy=trap.url, upstream_attempts=1)
    error, _ = driver.fail()
    assert error.message == "The connection through the configured upstream proxy failed."
    (sent,) = trap.requests
    assert (sent.method, sent.path) == ("CONNECT", "deepseek.test:443")
    assert "authorization" not in sent.headers


# -- connections ----------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [True, False])
def test_ten_calls_take_one_connection(drive: Drive, upstream: FakeUpstream, stream: bool) -> None:
    driver = drive(upstream_url=upstream.url)
    for _ in range(10):
        driver.ask(driver.body if stream else b"{}", stream=stream)
    assert (len(upstream.requests), upstream.connections) == (10, 1)


def chunked_refusal(_: Request, wire: Wire) -> None:
    wire.head(503, {"Content-Type": "application/json", "Transfer-Encoding": "chunked"})
    wire.chunk(deepseek.BUSY)
    wire.end()


@pytest.mark.parametrize("refusal", [deepseek.refuses(429, deepseek.TOO_MANY), chunked_refusal])
def test_a_refusal_does_not_cost_the_connection(
    drive: Drive, upstream: FakeUpstream, refusal: Handler
) -> None:
    upstream.serve(refusal, refusal, deepseek.answers())
    _, attempts = drive(upstream_url=upstream.url, retry_max_seconds=0.01).ask()
    assert (attempts, upstream.connections) == (3, 1)


def test_an_idle_connection_that_was_closed_is_no_fault(drive: Drive, upstream: FakeUpstream) -> None:
    driver = drive(upstream_url=upstream.url)
    driver.ask()
    upstream.wait_until(lambda: upstream.idle_connections == 1)
    upstream.hang_up()
    assert driver.ask()[1] == 1
    assert driver.failures == []


def test_a_connection_that_dies_under_the_request_is_replaced(drive: Drive, upstream: FakeUpstream) -> None:
    upstream.serve(deepseek.answers(), lambda _, wire: wire.reset(), deepseek.answers())
    driver = drive(upstream_url=upstream.url)
    driver.ask()
    assert driver.ask()[1] == 2
    assert [type(failure) for failure in driver.failures] == [errors.UpstreamUnreachable]


def test_closing_closes_the_idle_ones(drive: Drive, upstream: FakeUpstream) -> None:
    driver = drive(upstream_url=upstream.url)
    driver.ask()
    upstream.wait_until(lambda: upstream.idle_connections == 1)
    driver.client.close()
    upstream.wait_until(lambda: upstream.idle_connections == 0)


@contextlib.contextmanager
def full_backlog() -> Iterator[socket.socket]:
    """A listener whose queue is full: the kernel answers no attempt to connect until one is accepted."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(3):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        yield listener


def test_nobody_accepts(drive: Drive) -> None:
    with full_backlog() as listener:
        driver = drive(
            upstream_url=f"http://127.0.0.1:{listener.getsockname()[1]}",
            connect_timeout_seconds=0.2,
            upstream_attempts=1,
        )
        started = time.monotonic()
        error, _ = driver.fail()
    assert error.message == "The upstream did not accept a connection in time."
    assert time.monotonic() - started < 1.5


def test_nobody_answers(drive: Drive, upstream: FakeUpstream) -> None:
    upstream.serve(lambda _, wire: wire.wait_closed(10))
    error, _ = drive(upstream_url=upstream.url, upstream_idle_seconds=0.2, upstream_attempts=1).fail()
    assert error.message == "The upstream did not begin to answer in time."
    assert type(error) is errors.UpstreamTimeout


# -- TLS ------------------------------------------------------------------------------------------


@pytest.fixture
def tls_upstream(tmp_path: Path) -> Iterator[tuple[FakeUpstream, Path]]:
    trusted, context = self_signed(tmp_path, "upstream")
    server = FakeUpstream(context)
    server.serve(deepseek.answers())
    yield server, trusted
    server.close()


def test_tls_with_the_configured_authority(drive: Drive, tls_upstream: tuple[FakeUpstream, Path]) -> None:
    upstream, trusted = tls_upstream
    driver = drive(upstream_url=upstream.url, upstream_ca_file=trusted)
    for _ in range(3):
        assert driver.ask()[1] == 1
    assert upstream.connections == 1


def test_tls_with_an_unknown_authority(
    drive: Drive, tls_upstream: tuple[FakeUpstream, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    upstream, trusted = tls_upstream
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.setenv(name, str(trusted))
    error, _ = drive(upstream_url=upstream.url, upstream_attempts=1).fail()
    assert error.message.startswith("The TLS connection to the upstream failed: ")
    assert upstream.requests == []


# -- giving up ------------------------------------------------------------------------------------

LETTING_GO_SECONDS = 0.5


def silent(_: Request, wire: Wire) -> None:
    pass


def silent_after_a_refusal(_: Request, wire: Wire) -> None:
    wire.head(500, {"Content-Length": "100"})
    wire.send(b'{"error": ')


def silent_after_the_header(_: Request, wire: Wire) -> None:
    wire.start_stream()


def silent_in_mid_stream(_: Request, wire: Wire) -> None:
    wire.start_stream()
    wire.chunk(b"data: 1\n\n")


def silent_in_mid_stream_until_let_go(got: Request, wire: Wire) -> None:
    silent_in_mid_stream(got, wire)
    wire.wait_closed(10)


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    "act", [silent, silent_after_a_refusal, silent_after_the_header, silent_in_mid_stream]
)
def test_the_upstream_is_let_go_at_once(
    drive: Drive, upstream: FakeUpstream, act: Handler, stream: bool
) -> None:
    left: list[float | None] = []

    def handler(got: Request, wire: Wire) -> None:
        act(got, wire)
        left.append(wire.wait_closed(10))

    upstream.serve(handler)
    driver = drive(upstream_url=upstream.url)
    call = driver.open(stream=stream)
    upstream.wait_until(lambda: upstream.requests)
    call.wait()
    given_up = time.monotonic()
    call.close()
    upstream.wait_until(lambda: left)
    assert left[0] is not None
    assert left[0] - given_up < LETTING_GO_SECONDS
    time.sleep(0.05)
    assert (call.attempts, driver.failures) == (1, [])


def test_tls_is_let_go_at_once_too(drive: Drive, tls_upstream: tuple[FakeUpstream, Path]) -> None:
    upstream, trusted = tls_upstream
    left: list[float | None] = []
    upstream.serve(lambda _, wire: left.append(wire.wait_closed(10)))
    call = drive(upstream_url=upstream.url, upstream_ca_file=trusted).open()
    upstream.wait_until(lambda: upstream.requests)
    given_up = time.monotonic()
    call.close()
    upstream.wait_until(lambda: left)
    assert left[0] is not None
    assert left[0] - given_up < LETTING_GO_SECONDS


def test_an_upstream_that_does_not_read_is_let_go_too(drive: Drive) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        driver = drive(upstream_url=f"http://127.0.0.1:{listener.getsockname()[1]}")
        call = driver.open(b"x" * (32 << 20))
        connection, _ = listener.accept()
        with connection:
            connection.settimeout(5)
            connection.recv(1000)
            time.sleep(0.05)
            call.close()
            given_up = time.monotonic()
            with contextlib.suppress(ConnectionResetError):
                while connection.recv(1 << 20):
                    pass
            assert time.monotonic() - given_up < LETTING_GO_SECONDS
    assert driver.failures == []


def first_bytes(connection: socket.socket) -> bytes | None:
    """None where nothing comes, empty where the connection is closed."""
    connection.settimeout(LETTING_GO_SECONDS)
    try:
        return connection.recv(65536)
    except TimeoutError:
        return None


def test_a_connection_that_is_made_too_late_is_not_used(drive: Drive) -> None:
    with full_backlog() as listener:
        listener.settimeout(5)
        driver = drive(upstream_url=f"http://127.0.0.1:{listener.getsockname()[1]}")
        call = driver.open()
        time.sleep(0.05)
        call.close()
        while (came := first_bytes(connection := listener.accept()[0])) is None:  # asks again after a second
            connection.close()  # one of those that fill the queue
        connection.close()
        assert came == b""
        with pytest.raises(errors.UpstreamError, match="given up"):
            call.read_all(1, on_tick=lambda: None)


def test_a_pause_between_attempts_ends_with_the_call(drive: Drive, upstream: FakeUpstream) -> None:
    upstream.serve(deepseek.refuses(503, b"", {"Retry-After": "10"}))
    driver = drive(upstream_url=upstream.url)
    call = driver.open()
    upstream.wait_until(lambda: driver.failures)
    call.close()
    with pytest.raises(errors.UpstreamError, match="given up"):
        call.read_all(1, on_tick=lambda: None)
    assert len(upstream.requests) == 1


def test_a_neighbour_that_took_over_the_connection_goes_on(drive: Drive, upstream: FakeUpstream) -> None:
    upstream.serve(deepseek.refuses(503, b"", {"Retry-After": "10"}), silent_in_mid_stream_until_let_go)
    driver = drive(upstream_url=upstream.url)
    pauses = driver.open()
    upstream.wait_until(lambda: driver.failures and upstream.idle_connections)
    takes_over = driver.open()
    while not takes_over.read():
        pass
    assert upstream.connections == 1
    pauses.close()
    assert takes_over.read() is None
    takes_over.close()


def test_a_neighbour_on_the_same_pool_goes_on(drive: Drive, upstream: FakeUpstream) -> None:
    go_on = threading.Event()

    def handler(got: Request, wire: Wire) -> None:
        wire.start_stream()
        wire.chunk(b"one")
        if got.body == b"leaves":
            wire.wait_closed(10)
            return
        assert go_on.wait(10)
        wire.chunk(b"two")
        wire.end()

    upstream.serve(handler)
    driver = drive(upstream_url=upstream.url)
    stays, leaves = driver.open(b"stays"), driver.open(b"leaves")
    for call in (stays, leaves):
        while not call.read():
            pass
    leaves.close()
    go_on.set()
    assert stays.read_all(100, on_tick=lambda: None) == b"two"
    stays.close()
