"""A client, what it was told, and an upstream to talk to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from harness import deepseek
from harness.fake_upstream import FakeUpstream

from deepseek_proxy import settings
from deepseek_proxy.errors import ProxyError
from deepseek_proxy.upstream.call import Call
from deepseek_proxy.upstream.client import Client, Request

Mend = Callable[[ProxyError], bytes | None]


class Driver:
    """A client, and what it was told of failed attempts. A call is described by its body, and is a stream
    unless said otherwise."""

    body = b'{"stream": true, "messages": [{"role": "user", "content": "\xc3\xa4"}]}'

    def __init__(self, **chosen: Any) -> None:
        self.failures: list[ProxyError] = []
        self.client = Client(settings.isolated(**chosen), self.failures.append)

    def open(self, body: bytes = body, *, stream: bool = True, mend: Mend = lambda _: None) -> Call:
        return self.client.open(Request(body, "sk-key", stream, "req_1", mend))

    def ask(
        self, body: bytes = body, *, stream: bool = True, mend: Mend = lambda _: None
    ) -> tuple[bytes, int]:
        """One whole call: the answer, and the attempts it took."""
        call = self.open(body, stream=stream, mend=mend)
        try:
            return call.read_all(1 << 20, on_tick=lambda: None), call.attempts
        finally:
            call.close()

    def fail(
        self, body: bytes = body, *, stream: bool = True, mend: Mend = lambda _: None
    ) -> tuple[ProxyError, int]:
        """One call that has to fail."""
        call = self.open(body, stream=stream, mend=mend)
        try:
            call.read_all(1 << 20, on_tick=lambda: None)
        except ProxyError as error:
            return error, call.attempts
        finally:
            call.close()
        raise AssertionError("the call did not fail")


@pytest.fixture
def drive() -> Iterator[Callable[..., Driver]]:
    """Makes clients with the given settings."""
    drivers: list[Driver] = []

    def make(**chosen: Any) -> Driver:
        drivers.append(Driver(**chosen))
        return drivers[-1]

    yield make
    for driver in drivers:
        driver.client.close()


@pytest.fixture
def upstream() -> Iterator[FakeUpstream]:
    """DeepSeek, behaving well until the test says otherwise."""
    server = FakeUpstream()
    server.serve(deepseek.answers())
    yield server
    server.close()
    assert server.failures == []
