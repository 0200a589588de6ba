"""What the simulator's tests share: a client in the process, and a request body to start from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from deepseek_proxy.simulator import create_simulator
from deepseek_proxy.simulator.config import SimulatorConfig

KEY = {"Authorization": "Bearer sk-simulator-test-0001"}


@pytest.fixture
def make_client() -> Callable[..., FlaskClient]:
    """Settings of a simulator -> a client of it."""

    def make(**settings: Any) -> FlaskClient:
        return create_simulator(SimulatorConfig(**settings)).test_client()

    return make


@pytest.fixture
def client(make_client: Callable[..., FlaskClient]) -> FlaskClient:
    return make_client()


@pytest.fixture
def ask(client: FlaskClient) -> Callable[..., TestResponse]:
    """Asks the simulator: a prompt or a list of messages, and further keys of the body."""

    def ask(
        prompt: str | list[dict[str, Any]], headers: dict[str, str] | None = None, **body: Any
    ) -> TestResponse:
        messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
        return client.post(
            "/chat/completions",
            json={"model": "deepseek-flash", "messages": messages, **body},
            headers={**KEY, **(headers or {})},
            buffered=True,
        )

    return ask


@pytest.fixture
def said(ask: Callable[..., TestResponse]) -> Callable[..., dict[str, Any]]:
    """Asks the simulator, and gives the message it answers with."""

    def said(*arguments: Any, **body: Any) -> dict[str, Any]:
        answer = ask(*arguments, **body)
        assert answer.status_code == 200, answer.text
        message: dict[str, Any] = answer.get_json()["choices"][0]["message"]
        return message

    return said
