"""From a request to the steps that send its answer."""

from __future__ import annotations

import json
from typing import Any

import pytest

from deepseek_proxy.simulator import answering, faults
from deepseek_proxy.simulator.config import SimulatorConfig
from deepseek_proxy.simulator.errors import Refusal
from deepseek_proxy.simulator.pacing import Pause, Send, Step
from deepseek_proxy.simulator.request import ChatRequest
from deepseek_proxy.simulator.state import State

OFF = {"thinking": {"type": "disabled"}, "stream": True}


def prepared(prompt: str, config: SimulatorConfig | None = None, fault: str = "", **body: Any) -> list[Step]:
    messages = [{"role": "user", "content": prompt}]
    request = ChatRequest({"model": "deepseek-flash", "messages": messages, **body}, "k")
    return list(answering.prepare(request, State(config or SimulatorConfig()), faults.parse(fault)))


def contents(steps: list[Step]) -> list[str]:
    """What the chunks of a stream say, one by one."""
    frames = [step.data for step in steps if isinstance(step, Send) and step.data != faults.DONE_FRAME]
    deltas = [json.loads(frame[6:])["choices"][0]["delta"] for frame in frames]
    return [delta["content"] for delta in deltas]


def test_a_chunk_is_a_token() -> None:
    assert contents(prepared("say one two", **OFF)) == ["", "one", " two", ""]


def test_no_pauses_unless_they_are_wanted() -> None:
    assert not any(isinstance(step, Pause) for step in prepared("say one two", **OFF))


def test_the_pace_of_the_simulator_and_of_the_turn() -> None:
    config = SimulatorConfig(token_seconds=0.5)
    assert prepared("say one", config, **OFF).count(Pause(0.5)) == 3
    assert prepared("say one [[simulate: pace 2]]", config, **OFF).count(Pause(2)) == 3
    assert not any(isinstance(s, Pause) for s in prepared("say one [[simulate: pace 0]]", config, **OFF))


def test_the_chunks_of_the_simulator_and_of_the_turn() -> None:
    config = SimulatorConfig(chunk_characters=2)
    assert contents(prepared("say abcde", config, **OFF)) == ["", "ab", "cd", "e", ""]
    assert contents(prepared("say abcde [[simulate: chunk 3]]", config, **OFF)) == ["", "abc", "de", ""]


def test_a_body_is_one_write_and_in_parts_only_for_faults() -> None:
    (whole,) = prepared("say one")
    assert isinstance(whole, Send)
    parts = prepared("say one", fault="slow seconds=1")
    assert parts.count(Pause(1)) == 8
    joined = b"".join(step.data for step in parts if isinstance(step, Send))
    assert json.loads(joined)["choices"] == json.loads(whole.data)["choices"]


def test_faults_of_all_origins() -> None:
    with pytest.raises(Refusal, match="402"):
        prepared("hi", fault="402")
    with pytest.raises(Refusal, match="402"):
        prepared("[[simulate: fault 402]]")
    with pytest.raises(Refusal, match="402"):
        prepared("hi", SimulatorConfig(fault="402"))


def test_the_window_counts_what_is_asked_for() -> None:
    config = SimulatorConfig(context_window=100)
    assert prepared("hi", config, max_tokens=50)
    with pytest.raises(Refusal, match="101 in the completion"):
        prepared("hi", config, max_tokens=101)
