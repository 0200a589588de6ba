"""Gateways for the fault tests: started once, used by many, watched for leaks around every test."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Final

import pytest
from harness.deepseek import answers
from harness.fake_upstream import FakeUpstream
from harness.gateway import Gateway, Server
from harness.leaks import no_leaks

# As in production, but for small limits and short pauses between attempts.
PATIENT: Final = {
    "retry_max_seconds": 0.4,
    "after_finish_seconds": 0.5,
    "max_body_bytes": 1 << 20,
    "max_event_bytes": 1 << 18,
}
Start = Callable[[str, Server, Mapping[str, object]], Gateway]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(__file__.rpartition("/")[0]):
            item.add_marker(pytest.mark.faults)


@pytest.fixture(scope="session")
def deepseek_server() -> Iterator[FakeUpstream]:
    server = FakeUpstream()
    yield server
    server.close()


@pytest.fixture(scope="session")
def trap() -> Iterator[FakeUpstream]:
    """Where no connection may ever come: the proxy of the environment, the target of redirects."""
    server = FakeUpstream()
    server.serve(answers())
    yield server
    server.close()
    assert server.connections == 0, "the gateway used a proxy of the environment or followed a redirect"


@pytest.fixture(scope="session")
def start(
    tmp_path_factory: pytest.TempPathFactory, deepseek_server: FakeUpstream, trap: FakeUpstream
) -> Iterator[Start]:
    """Starts a gateway, or returns the one that runs under this name."""
    running: dict[str, Gateway] = {}

    def get(name: str, server: Server, settings: Mapping[str, object]) -> Gateway:
        if name not in running:
            folder = tmp_path_factory.mktemp(name)
            gateway = Gateway(
                folder, deepseek_server.url, server=server, trap_port=trap.port, settings=settings
            )
            stack.callback(gateway.stop)
            warm_up(gateway, deepseek_server)
            running[name] = gateway
        return running[name]

    with contextlib.ExitStack() as stack:
        yield get


def warm_up(gateway: Gateway, upstream: FakeUpstream) -> None:
    """One call, after which pools, log files and caches are open: what comes on top is a leak."""
    upstream.serve(answers())
    with gateway.ask() as call:
        assert call.reply().body.endswith(b"data: [DONE]\n\n")


@pytest.fixture
def upstream(deepseek_server: FakeUpstream) -> Iterator[FakeUpstream]:
    """DeepSeek, behaving well until the test says otherwise."""
    deepseek_server.serve(answers())
    yield deepseek_server
    failures, deepseek_server.failures = deepseek_server.failures, []
    assert failures == []


@pytest.fixture
def gateway(start: Start, upstream: FakeUpstream) -> Iterator[Gateway]:
    """gunicorn with gevent."""
    runner = start("gevent", Server.GEVENT, PATIENT)
    upstream.serve(answers())
    with no_leaks(runner, upstream):
        yield runner


@pytest.fixture(params=list(Server), ids=lambda server: server.value)
def any_gateway(request: pytest.FixtureRequest, start: Start, upstream: FakeUpstream) -> Iterator[Gateway]:
    """Every server that the gateway runs under, in turn."""
    runner = start(request.param.value, request.param, PATIENT)
    upstream.serve(answers())
    with no_leaks(runner, upstream):
        yield runner
