"""The client leaves while the gateway searches for it: the search ends with it, under every server."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator

import pytest
from faults.conftest import PATIENT, Start
from harness.fake_upstream import FakeUpstream
from harness.gateway import Gateway, Server
from harness.leaks import no_leaks
from harness.responses import read_stream
from harness.searching import ANSWER, TOOL, calling, is_lookup, searches, turn
from harness.wire import Request, Wire

ALLOWED_SECONDS = 1.0
CALLS = [("web_search", {"query": f"sky {n}"}) for n in range(3)]


@pytest.fixture(params=list(Server), ids=lambda server: server.value)
def searching(request: pytest.FixtureRequest, start: Start, upstream: FakeUpstream) -> Iterator[Gateway]:
    """A gateway that searches, under every server in turn."""
    settings = {**PATIENT, "web_search": "deepseek"}
    runner = start(f"search-{request.param.value}", request.param, settings)
    upstream.serve(searches())
    with no_leaks(runner, upstream):
        yield runner


def test_a_search_in_the_middle_of_a_stream(searching: Gateway, upstream: FakeUpstream) -> None:
    for _ in range(2):
        with searching.ask(tools=[TOOL]) as call:
            assert read_stream(call.reply()).text == ANSWER
    assert upstream.connections == 0, "the connection of an earlier call was there for all of it"


@pytest.mark.parametrize("abruptly", [False, True], ids=["FIN", "RST"])
@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
def test_a_client_that_leaves_ends_its_searches(
    searching: Gateway, upstream: FakeUpstream, stream: bool, abruptly: bool
) -> None:
    closed: list[float | None] = []

    def silent(_: Request, wire: Wire) -> None:
        closed.append(wire.wait_closed(4))

    upstream.serve(searches(silent, first=turn(calling(*CALLS))))
    with searching.ask(stream=stream, tools=[TOOL]) as call:
        if stream:
            frames = call.reply().frames()
            seen = (f.event["type"] for f in frames if not f.is_comment)
            assert len(list(itertools.takewhile(lambda kind: "searching" not in kind, seen))) > 4
        upstream.wait_until(lambda: sum(map(is_lookup, upstream.requests)) == len(CALLS))
        left = call.leave(abruptly=abruptly)
    upstream.wait_until(lambda: len(closed) == len(CALLS), 5)
    assert all(end is not None and end - left < ALLOWED_SECONDS for end in closed), closed
    time.sleep(0.3)
    assert len(upstream.requests) == 1 + len(CALLS), "nobody waits for the turn after the search"
