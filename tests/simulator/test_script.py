from __future__ import annotations

from typing import Any

import pytest

from deepseek_proxy.simulator.faults import parse as fault
from deepseek_proxy.simulator.script import Script, ScriptError
from deepseek_proxy.simulator.turns import Call, Turn


def test_a_whole_turn() -> None:
    script = Script()
    turn = {
        "reasoning": "Hm.",
        "text": "Hello",
        "calls": [{"name": "f", "arguments": {"a": 1}}, {"name": "g", "arguments": "{bad"}, {"name": "h"}],
        "finish": "length",
        "fault": "truncate after=1",
        "chunk_characters": 2,
        "token_seconds": 0.1,
    }
    assert script.add([turn]) == 1
    assert script.take("any", "deepseek-flash") == Turn(
        reasoning="Hm.",
        text="Hello",
        calls=(Call("f", '{"a": 1}'), Call("g", "{bad"), Call("h", "{}")),
        finish="length",
        faults=fault("truncate after=1"),
        chunk_characters=2,
        token_seconds=0.1,
    )
    assert script.waiting() == 0
    assert script.take("any", "deepseek-flash") is None


def texts(script: Script, *prompts: str, model: str = "deepseek-flash") -> list[str | None]:
    taken = [script.take(prompt, model) for prompt in prompts]
    return [turn.text if turn else None for turn in taken]


def test_turns_are_used_in_their_order() -> None:
    script = Script()
    script.add([{"text": "1"}, {"text": "2", "repeat": 2}])
    script.add([{"text": "3"}])
    assert texts(script, *"abcde") == ["1", "2", "2", "3", None]


def test_a_turn_waits_for_what_it_matches() -> None:
    script = Script()
    script.add(
        [{"text": "weather", "match": "rain"}, {"text": "any"}, {"text": "pro", "model": "deepseek-v4-pro"}]
    )
    assert texts(script, "hello", "will it rain?", "hello") == ["any", "weather", None]
    assert texts(script, "hello", model="deepseek-v4-pro") == ["pro"]


def test_clear() -> None:
    script = Script()
    script.add([{"text": "1"}])
    script.clear()
    assert texts(script, "a") == [None]


@pytest.mark.parametrize(
    ("turns", "reason"),
    [
        ({}, "A script is a JSON list"),
        ([3], r"turns\[0\] is not an object"),
        ([{}, {"txt": "x"}], r"turns\[1\] has an unknown key 'txt'"),
        ([{"text": 3}], r"turns\[0\]\.text has the wrong type"),
        ([{"repeat": True}], r"turns\[0\]\.repeat has the wrong type"),
        ([{"finish": "well"}], r"turns\[0\]\.finish must be one of stop, length"),
        ([{"fault": "999"}], r"turns\[0\]\.fault: There is no fault '999'"),
        ([{"calls": [{"arguments": {}}]}], r"turns\[0\]\.calls\[0\] must have a name"),
        ([{"calls": [{"name": "f", "arguments": 3}]}], r"calls\[0\] must have a name"),
        ([{"calls": ["f"]}], r"calls\[0\] must have a name"),
    ],
)
def test_what_cannot_be_read(turns: Any, reason: str) -> None:
    script = Script()
    with pytest.raises(ScriptError, match=reason):
        script.add(turns)
    assert script.waiting() == 0
