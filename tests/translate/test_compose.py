from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from deepseek_proxy import models
from deepseek_proxy.errors import InvalidRequest, ModelNotFound
from deepseek_proxy.translate.compose import Turns, compose, resolve
from deepseek_proxy.translate.history import (
    AssistantText,
    Entry,
    SystemText,
    TextPart,
    ToolCall,
    ToolResult,
    UserMessage,
)
from deepseek_proxy.translate.reasoning import ThinkingMode
from deepseek_proxy.translate.tool_choice import ToolChoice
from deepseek_proxy.translate.tools import Tool, ToolKind, ToolTable

ASKED = [SystemText("Be brief."), UserMessage((TextPart("Why?"),))]


def composed(entries: list[Entry] | None = None, **changes: Any) -> Turns:
    fields: dict[str, Any] = {
        "model": models.FLASH,
        "mode": ThinkingMode("high"),
        "table": ToolTable(64),
        "choice": ToolChoice(),
        "is_json": False,
        "sampling": {},
        "stream": False,
        "recall": lambda _: None,
        "notes": Counter(),
    }
    return compose(entries or ASKED, **{**fields, **changes})


def table() -> ToolTable:
    made = ToolTable(64)
    made.declare(Tool(ToolKind.FUNCTION, "f"), None, {})
    return made


def test_the_keys_come_in_one_order() -> None:
    body = composed(
        table=table(), choice=ToolChoice("none"), is_json=True, sampling={"max_tokens": 5}, stream=True
    ).first
    assert list(body) == [
        *("model", "messages", "thinking", "reasoning_effort", "tools", "tool_choice"),
        *("response_format", "max_tokens", "stream", "stream_options"),
    ]


def test_no_tools_means_no_tool_choice() -> None:
    body = composed(choice=ToolChoice("none")).first
    assert "tools" not in body
    assert "tool_choice" not in body


def test_tools_of_the_history_are_declared_as_gone() -> None:
    entries = [*ASKED, ToolCall("c", "f", "{}"), ToolResult("c", None, ())]
    notes: Counter[str] = Counter()
    body = composed(entries, notes=notes).first
    assert [tool["function"]["name"] for tool in body["tools"]] == ["f"]
    assert notes == {"missing_reasoning": 1}


def test_a_further_turn_goes_on_where_the_first_one_ended() -> None:
    body, next_turn, _ = composed(table=table(), choice=ToolChoice("required"), sampling={"max_tokens": 10})
    after = next_turn([AssistantText("Well.")], 4)
    assert after["messages"][: len(body["messages"])] == body["messages"]
    assert after["messages"][-1]["content"] == "Well."
    assert "tool_choice" not in after
    assert after["max_tokens"] == 6
    assert next_turn([], 40)["max_tokens"] == 1
    assert body["max_tokens"] == 10


@pytest.mark.parametrize(
    ("body", "error", "param"),
    [
        ({}, InvalidRequest, "model"),
        ({"model": ""}, InvalidRequest, "model"),
        ({"model": 5}, InvalidRequest, "model"),
        ({"model": "gpt-9"}, ModelNotFound, "model"),
    ],
)
def test_a_wrong_model_is_refused(body: dict[str, Any], error: type[Exception], param: str) -> None:
    with pytest.raises(error) as refused:
        resolve(body, lambda name: models.resolve(name, {}, None))
    assert refused.value.param == param
