"""Connections to the upstream: reused, and used for nothing but what was asked for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import deepseek
from harness.certificates import self_signed
from harness.fake_upstream import FakeUpstream
from harness.gateway import CLIENT_KEY, OWN_KEY, Gateway, Server
from harness.responses import read_error, read_stream
from harness.wire import Request, Wire

both_forms = pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])


def ask_well(gateway: Gateway, *, stream: bool = True, headers: dict[str, str] | None = None) -> None:
    with gateway.ask(headers, stream=stream) as call:
        reply = call.reply()
        final = read_stream(reply).final if stream else reply.json()
    assert final["status"] == "completed"


@both_forms
def test_ten_calls_take_one_connection(any_gateway: Gateway, upstream: FakeUpstream, stream: bool) -> None:
    upstream.hang_up()
    upstream.serve(deepseek.answers())
    for _ in range(10):
        ask_well(any_gateway, stream=stream)
    assert (len(upstream.requests), upstream.connections) == (10, 1)


def test_a_connection_is_reused_after_a_refusal(gateway: Gateway, upstream: FakeUpstream) -> None:
    upstream.hang_up()
    upstream.serve(
        deepseek.refuses(400, deepseek.INVALID), deepseek.refuses(503, deepseek.BUSY), deepseek.answers()
    )
    with gateway.ask() as call:
        read_error(call.reply(), 400, "invalid_request_error")
    ask_well(gateway)
    assert (len(upstream.requests), upstream.connections) == (3, 1)


def test_a_broken_answer_does_not_go_back_to_the_pool(gateway: Gateway, upstream: FakeUpstream) -> None:
    def go_on_after_done(_: Request, wire: Wire) -> None:
        wire.start_stream()
        wire.chunk(b"".join(deepseek.frames()) + deepseek.text("left over"))
        wire.wait_closed(5)

    upstream.serve(go_on_after_done, deepseek.answers(["clean"]))
    ask_well(gateway)
    with gateway.ask() as call:
        assert read_stream(call.reply()).text == "clean"


def test_a_pooled_connection_that_died_meanwhile_is_no_fault(
    any_gateway: Gateway, upstream: FakeUpstream
) -> None:
    ask_well(any_gateway)
    upstream.hang_up()
    ask_well(any_gateway)
    assert len(upstream.requests) == 2


def test_a_pooled_connection_that_dies_under_the_request_is_replaced(
    gateway: Gateway, upstream: FakeUpstream
) -> None:
    upstream.serve(deepseek.answers(), lambda _, wire: wire.close(), deepseek.answers())
    ask_well(gateway)
    ask_well(gateway)
    assert len(upstream.requests) == 3


def test_no_cookie_is_kept(gateway: Gateway, upstream: FakeUpstream) -> None:
    def with_cookie(request: Request, wire: Wire) -> None:
        wire.start_stream({"Set-Cookie": "session=canary; Path=/"})
        wire.chunk(b"".join(deepseek.frames()))
        wire.end()

    upstream.serve(with_cookie)
    for _ in range(2):
        with gateway.ask() as call:
            reply = call.reply()
            read_stream(reply)
        assert "set-cookie" not in reply.headers
    assert all("cookie" not in request.headers for request in upstream.requests)


def test_the_upstream_sees_the_clients_key_and_nothing_else_of_it(
    gateway: Gateway, upstream: FakeUpstream
) -> None:
    ask_well(gateway, headers={"Cookie": "a=b", "X-Private": "canary", "X-Forwarded-For": "10.0.0.1"})
    (request,) = upstream.requests
    assert request.headers["authorization"] == f"Bearer {CLIENT_KEY}"
    assert request.headers["content-type"] == "application/json"
    assert (request.method, request.path) == ("POST", "/chat/completions")
    assert not {"cookie", "x-private", "x-forwarded-for"} & request.headers.keys()


def test_without_a_clients_key_the_gateways_own_is_used(gateway: Gateway, upstream: FakeUpstream) -> None:
    ask_well(gateway, headers={"Authorization": ""})
    assert upstream.requests[0].headers["authorization"] == f"Bearer {OWN_KEY}"


@both_forms
@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_no_redirect_is_followed(
    gateway: Gateway, upstream: FakeUpstream, trap: FakeUpstream, status: int, stream: bool
) -> None:
    upstream.serve(deepseek.refuses(status, b"", {"Location": f"{trap.url}/chat/completions"}))
    with gateway.ask(stream=stream) as call:
        read_error(call.reply(), 502, "server_error")
    assert trap.connections == 0


def test_no_proxy_of_the_environment_is_used(
    any_gateway: Gateway, upstream: FakeUpstream, trap: FakeUpstream
) -> None:
    ask_well(any_gateway)  # the harness sets every proxy variable to the trap
    assert len(upstream.requests) == 1
    assert trap.connections == 0


# -- TLS


@pytest.fixture
def tls_upstream(tmp_path: Path) -> Iterator[tuple[FakeUpstream, Path]]:
    trusted, context = self_signed(tmp_path, "trusted")
    server = FakeUpstream(context)
    server.serve(deepseek.answers())
    yield server, trusted
    server.close()
    assert server.failures == []


def test_an_upstream_of_a_private_authority(tmp_path: Path, tls_upstream: tuple[FakeUpstream, Path]) -> None:
    server, trusted = tls_upstream
    runner = Gateway(tmp_path, server.url, settings={"upstream_ca_file": trusted, "retry_max_seconds": 0.05})
    try:
        ask_well(runner)
        ask_well(runner, stream=False)
        assert server.connections == 1
        # The same address, now with a certificate that nobody signed.
        _, server.tls = self_signed(tmp_path, "stranger")
        server.hang_up()
        with runner.ask() as call:
            error = read_error(call.reply(), 502, "server_error")
        assert "certificate" in error["message"]
        assert len(server.requests) == 2
    finally:
        runner.stop()


def test_an_unknown_authority_is_refused_by_default(
    tmp_path: Path, tls_upstream: tuple[FakeUpstream, Path]
) -> None:
    server, _ = tls_upstream
    runner = Gateway(tmp_path, server.url, server=Server.FLASK, settings={"retry_max_seconds": 0.05})
    try:
        with runner.ask() as call:
            error = read_error(call.reply(), 502, "server_error")
        assert "certificate" in error["message"]
        assert server.requests == []
    finally:
        runner.stop()
