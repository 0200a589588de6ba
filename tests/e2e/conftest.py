"""Gateways with the simulator behind them: one of each per test process, wiped before every test.

Clients that are not there yet are installed by the first test that needs them, so the tests have time.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import pytest
from e2e import npm
from e2e.backend import Backend
from e2e.codex import Codex
from harness.gateway import Gateway

from deepseek_proxy.simulator import SimulatorConfig, running


class Start(Protocol):
    """Starts a gateway with these settings, or returns the one that runs under this name."""

    def __call__(self, name: str, /, **settings: object) -> Gateway: ...


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(__file__.rpartition("/")[0]):
            item.add_marker(pytest.mark.e2e)
            item.add_marker(pytest.mark.timeout(npm.INSTALL_SECONDS))


@pytest.fixture(scope="session")
def simulator_url() -> Iterator[str]:
    with running(SimulatorConfig()) as url:
        yield url


@pytest.fixture
def backend(
    simulator_url: str, deepseek_check: Callable[[Mapping[str, Any]], tuple[int, str | None]]
) -> Iterator[Backend]:
    """The simulator, with nothing left of other tests.

    Afterwards: it refused nothing that DeepSeek's own package accepts or refuses, and said all of its script.
    """
    simulator = Backend(simulator_url)
    simulator.reset()
    yield simulator
    for record in simulator.records():
        if not simulator.refusals_expected:
            assert record["status"] == 200, f"refused: {record}"
    for body in simulator.bodies():
        assert deepseek_check(body) == (200, None)
    assert simulator.unused_turns() == 0, "the script was not played to its end"


@pytest.fixture(scope="session")
def start(tmp_path_factory: pytest.TempPathFactory, simulator_url: str) -> Iterator[Start]:
    gateways: dict[str, Gateway] = {}

    def get(name: str, /, **settings: object) -> Gateway:
        if name not in gateways:
            gateways[name] = Gateway(tmp_path_factory.mktemp(name), simulator_url, settings=settings)
            stack.callback(gateways[name].stop)
        return gateways[name]

    with contextlib.ExitStack() as stack:
        yield get


@pytest.fixture
def gateway(start: Start, backend: Backend) -> Gateway:
    """A gateway with default settings."""
    return start("gateway")


@pytest.fixture
def codex(tmp_path: Path, gateway: Gateway) -> Codex:
    """The newest Codex, new to this machine, with the gateway as its provider."""
    return Codex(tmp_path, gateway)
