from __future__ import annotations

import contextlib

import pytest
from harness.threads import at_once

from deepseek_proxy.simulator.config import SimulatorConfig
from deepseek_proxy.simulator.errors import Refusal
from deepseek_proxy.simulator.faults import parse as fault
from deepseek_proxy.simulator.request import ChatRequest
from deepseek_proxy.simulator.state import State


def request(prompt: str) -> ChatRequest:
    return ChatRequest({"model": "deepseek-flash", "messages": [{"role": "user", "content": prompt}]}, "k")


def test_a_wish_counts_for_one_conversation_state() -> None:
    state = State(SimulatorConfig())
    (wished,) = fault("503 times=1")
    assert state.due(request("a"), [wished]) == [wished]
    assert state.due(request("a"), [wished]) == []
    assert state.due(request("b"), [wished]) == [wished]


def test_a_server_wide_fault_counts_for_all() -> None:
    state = State(SimulatorConfig(fault="503 times=1"))
    assert [len(state.due(request(prompt), [])) for prompt in "ab"] == [1, 0]


def test_the_first_end_of_a_record_counts() -> None:
    record = State(SimulatorConfig()).record("GET", "/", [], "1", b"")
    assert record.end("complete")
    assert not record.end("client gone")
    assert record.outcome == "complete"


def test_answers_under_way_are_counted_exactly() -> None:
    state = State(SimulatorConfig(max_concurrency=2))

    def churn(_: int) -> None:
        for _ in range(200):
            with contextlib.suppress(Refusal):
                state.enter("k")
                state.leave("k")

    at_once(4, churn)
    assert state.active() == 0
    state.enter("k")
    state.enter("k")
    with pytest.raises(Refusal, match="concurrency is 3"):
        state.enter("k")
    state.enter("another")
