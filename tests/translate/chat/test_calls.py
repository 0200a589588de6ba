from __future__ import annotations

from typing import Any

import pytest
from harness.chats import ENVELOPE, chunks_of

from deepseek_proxy.translate.chat.calls import Call, CustomCall, LegacyCall, legacy_call_id
from deepseek_proxy.translate.chat.emitter import Emitter
from deepseek_proxy.translate.tools import Tool, ToolKind

FUNCTION, CUSTOM = Tool(ToolKind.FUNCTION, "f"), Tool(ToolKind.CUSTOM, "c")


def made(kind: type[Call], tool: Tool, index: int = 0) -> Call:
    return kind(Emitter(ENVELOPE, tells_usage=False), tool, "call_1", index)


def deltas(data: bytes) -> list[Any]:
    return [chunk["choices"][0]["delta"] for chunk in chunks_of(data)]


def test_a_function_call() -> None:
    call = made(Call, FUNCTION, 2)
    data = call.open() + call.arguments('{"a"') + call.arguments("") + call.arguments(": 1}") + call.close()
    entry = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": ""}}
    assert deltas(data) == [
        {"tool_calls": [{"index": 2, **entry}]},
        {"tool_calls": [{"index": 2, "function": {"arguments": '{"a"'}}]},
        {"tool_calls": [{"index": 2, "function": {"arguments": ": 1}"}}]},
    ]
    assert call.whole() == {**entry, "function": {"name": "f", "arguments": '{"a": 1}'}}
    assert call.keeper == "call_1"


@pytest.mark.parametrize("kind", [Call, LegacyCall])
@pytest.mark.parametrize("blank", ["", " \n"])
def test_a_call_without_arguments_gets_some(kind: type[Call], blank: str) -> None:
    call = made(kind, FUNCTION)
    call.arguments(blank)
    assert len(deltas(call.close())) == 1
    assert call.raw_arguments.strip() == "{}"


def test_a_free_form_call_is_its_input() -> None:
    call = made(CustomCall, CUSTOM)
    data = call.open() + b"".join(map(call.arguments, ('{"input": "a', "\\", 'n\\"b"', "}"))) + call.close()
    opening, *pieces = deltas(data)
    custom = {"id": "call_1", "type": "custom", "custom": {"name": "c", "input": ""}}
    assert opening == {"tool_calls": [{"index": 0, **custom}]}
    assert "".join(piece["tool_calls"][0]["custom"]["input"] for piece in pieces) == 'a\n"b'
    assert call.whole() == {**custom, "custom": {"name": "c", "input": 'a\n"b'}}


def test_an_elder_call_has_a_place_of_its_own() -> None:
    call = made(LegacyCall, FUNCTION)
    assert deltas(call.open() + call.arguments("{}")) == [
        {"function_call": {"name": "f", "arguments": ""}},
        {"function_call": {"arguments": "{}"}},
    ]
    assert call.whole() == {"name": "f", "arguments": "{}"}
    assert call.keeper == legacy_call_id("f", "{}")


def test_an_elder_call_has_the_same_id_whenever_it_is_repeated() -> None:
    assert legacy_call_id("f", "{}") == legacy_call_id("f", "{}")
    assert len({legacy_call_id("f", "{}"), legacy_call_id("f", ""), legacy_call_id("g", "{}")}) == 3
