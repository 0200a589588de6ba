from __future__ import annotations

import json
from typing import Any

import pytest
from harness.machines import events_of, numbered_ids
from openai.types.responses import (
    ResponseApplyPatchToolCall,
    ResponseCustomToolCall,
    ResponseFunctionShellToolCall,
    ResponseFunctionToolCall,
    ResponseToolSearchCall,
)
from openai.types.responses.response_output_item import LocalShellCall
from pydantic import BaseModel

from deepseek_proxy.translate import lookup
from deepseek_proxy.translate.responses.calls import ITEM_OF_KIND, CallItem
from deepseek_proxy.translate.responses.emitter import Emitter
from deepseek_proxy.translate.responses.output import ItemStatus
from deepseek_proxy.translate.tools import Tool, ToolKind

ADDED, DONE = "response.output_item.added", "response.output_item.done"


def item_of(kind: ToolKind, name: str = "f", namespace: str | None = None) -> CallItem:
    return ITEM_OF_KIND[kind](Emitter(), numbered_ids(), Tool(kind, name, namespace), "call_00_a")


def run(
    kind: ToolKind, *pieces: str, status: ItemStatus = "completed", name: str = "f"
) -> list[dict[str, Any]]:
    """The events of one call, opened when its kind may be."""
    item = item_of(kind, name)
    data = b"" if item.held else item.open(0)
    for piece in pieces:
        data += item.arguments(piece)
    if item.held:
        data += item.open(0)
    return events_of(data + item.close(status))


def shown(
    kind: ToolKind, arguments: str, status: ItemStatus = "completed", name: str = "f"
) -> dict[str, Any]:
    """The finished item."""
    item: dict[str, Any] = run(kind, arguments, status=status, name=name)[-1]["item"]
    return item


def test_every_kind_of_tool_has_its_item() -> None:
    assert {*ITEM_OF_KIND} | lookup.KINDS == {*ToolKind}


# -- function calls -------------------------------------------------------------------------------


def test_a_function_call_from_added_to_done() -> None:
    where = {"item_id": "fc_1", "output_index": 0}
    item = {"id": "fc_1", "type": "function_call", "call_id": "call_00_a", "name": "f"}
    assert run(ToolKind.FUNCTION, "", '{"a": ', "", '"ü"}') == [
        {
            "type": ADDED,
            "sequence_number": 0,
            "output_index": 0,
            "item": {**item, "status": "in_progress", "arguments": ""},
        },
        {"type": "response.function_call_arguments.delta", **where, "delta": '{"a": ', "sequence_number": 1},
        {"type": "response.function_call_arguments.delta", **where, "delta": '"ü"}', "sequence_number": 2},
        {
            "type": "response.function_call_arguments.done",
            "sequence_number": 3,
            **where,
            "arguments": '{"a": "ü"}',
        },
        {
            "type": DONE,
            "sequence_number": 4,
            "output_index": 0,
            "item": {**item, "status": "completed", "arguments": '{"a": "ü"}'},
        },
    ]


@pytest.mark.parametrize("arguments", ["", " ", "\n"])
def test_a_call_without_arguments_has_an_empty_object(arguments: str) -> None:
    """Clients parse the arguments, and some read them from the deltas only."""
    events = run(ToolKind.FUNCTION, arguments)
    deltas = "".join(event["delta"] for event in events if event["type"].endswith(".delta"))
    assert json.loads(deltas) == {}
    assert events[-1]["item"]["arguments"] == deltas


def test_a_call_that_was_cut_keeps_what_there_is() -> None:
    events = run(ToolKind.FUNCTION, '{"a": "x', status="incomplete")
    assert events[-2]["arguments"] == '{"a": "x'
    assert (events[-1]["item"]["status"], events[-1]["item"]["arguments"]) == ("incomplete", '{"a": "x')
    assert run(ToolKind.FUNCTION, status="incomplete")[-1]["item"]["arguments"] == ""


def test_a_namespace_stands_beside_the_name() -> None:
    item = item_of(ToolKind.FUNCTION, "add", "mcp__demo_srv")
    item.open(0)
    assert (item.current("completed")["name"], item.current("completed")["namespace"]) == (
        "add",
        "mcp__demo_srv",
    )
    plain = item_of(ToolKind.FUNCTION)
    plain.open(0)
    assert "namespace" not in plain.current("completed")


@pytest.mark.parametrize(
    ("arguments", "whole", "blank"),
    [
        ("", False, True),
        (" ", False, True),
        ("{}", True, False),
        ('{"a": 1}', True, False),
        ('{"a": 1', False, False),
        ('{"a": not json}', False, False),
    ],
)
def test_a_call_knows_whether_its_arguments_are_whole(arguments: str, whole: bool, blank: bool) -> None:
    item = item_of(ToolKind.FUNCTION)
    item.open(0)
    item.arguments(arguments[:2])
    item.arguments(arguments[2:])
    assert (item.is_whole, item.is_blank) == (whole, blank)


# -- free-form calls ------------------------------------------------------------------------------


def test_a_custom_call_shows_the_string_in_its_arguments() -> None:
    where = {"item_id": "ctc_1", "output_index": 0}
    item = {"id": "ctc_1", "type": "custom_tool_call", "call_id": "call_00_a", "name": "apply_patch"}
    pieces = ('{"in', 'put": "*** Beg', "in\\", "n+\\u00", 'fc"', "}")
    assert run(ToolKind.CUSTOM, *pieces, name="apply_patch") == [
        {
            "type": ADDED,
            "sequence_number": 0,
            "output_index": 0,
            "item": {**item, "status": "in_progress", "input": ""},
        },
        {"type": "response.custom_tool_call_input.delta", **where, "delta": "*** Beg", "sequence_number": 1},
        {"type": "response.custom_tool_call_input.delta", **where, "delta": "in", "sequence_number": 2},
        {"type": "response.custom_tool_call_input.delta", **where, "delta": "\n+", "sequence_number": 3},
        {"type": "response.custom_tool_call_input.delta", **where, "delta": "ü", "sequence_number": 4},
        {
            "type": "response.custom_tool_call_input.done",
            "sequence_number": 5,
            **where,
            "input": "*** Begin\n+ü",
        },
        {
            "type": DONE,
            "sequence_number": 6,
            "output_index": 0,
            "item": {**item, "status": "completed", "input": "*** Begin\n+ü"},
        },
    ]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ('{"patch": "x"}', "x"),  # the model named the string as it liked
        ('{"a": 1, "input": "x"}', "x"),
        ("*** Begin Patch", "*** Begin Patch"),
        ("{}", ""),
        ("", ""),
        ('{"input": "cut of', "cut of"),
    ],
)
def test_a_custom_call_takes_what_the_model_made_of_it(arguments: str, text: str) -> None:
    events = run(ToolKind.CUSTOM, arguments)
    assert events[-1]["item"]["input"] == events[-2]["input"] == text
    assert "".join(event["delta"] for event in events if event["type"].endswith(".delta")) == text


# -- hosted tools that the client runs ------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "arguments", "item"),
    [
        (
            ToolKind.LOCAL_SHELL,
            {"command": ["ls", "-l"], "working_directory": "/tmp", "timeout_ms": 5, "other": 1},
            {
                "type": "local_shell_call",
                "id": "lsh_1",
                "action": {
                    "type": "exec",
                    "command": ["ls", "-l"],
                    "env": {},
                    "timeout_ms": 5,
                    "working_directory": "/tmp",
                },
            },
        ),
        (
            ToolKind.SHELL,
            {"commands": ["ls", "pwd"], "timeout_ms": 5},
            {
                "type": "shell_call",
                "id": "sh_1",
                "action": {"commands": ["ls", "pwd"], "timeout_ms": 5, "max_output_length": None},
            },
        ),
        (
            ToolKind.APPLY_PATCH,
            {"type": "update_file", "path": "a.py", "diff": "@@\n-a\n+b"},
            {
                "type": "apply_patch_call",
                "id": "apc_1",
                "operation": {"type": "update_file", "path": "a.py", "diff": "@@\n-a\n+b"},
            },
        ),
        (
            ToolKind.APPLY_PATCH,
            {"type": "delete_file", "path": "a.py"},
            {"type": "apply_patch_call", "id": "apc_1", "operation": {"type": "delete_file", "path": "a.py"}},
        ),
        (
            ToolKind.TOOL_SEARCH,
            {"query": "calendar"},
            {
                "type": "tool_search_call",
                "id": "tsc_1",
                "execution": "client",
                "arguments": {"query": "calendar"},
            },
        ),
    ],
)
def test_a_hosted_call_is_added_and_done_and_nothing_between(
    kind: ToolKind, arguments: dict[str, Any], item: dict[str, Any]
) -> None:
    text = json.dumps(arguments)
    events = run(kind, text[:9], text[9:])
    assert [event["type"] for event in events] == [ADDED, DONE]
    assert events[0]["item"] == {**item, "call_id": "call_00_a", "status": "in_progress"}
    assert events[1]["item"] == {**item, "call_id": "call_00_a", "status": "completed"}


@pytest.mark.parametrize("arguments", ["", "{}"])
def test_a_tool_search_may_have_no_arguments(arguments: str) -> None:
    assert shown(ToolKind.TOOL_SEARCH, arguments)["arguments"] == {}


@pytest.mark.parametrize(
    ("kind", "arguments"),
    [
        (ToolKind.LOCAL_SHELL, '{"command": "ls"}'),
        (ToolKind.LOCAL_SHELL, '{"command": [1]}'),
        (ToolKind.SHELL, '{"commands": "ls"}'),
        (ToolKind.SHELL, '{"commands": ["ls"'),
        (ToolKind.APPLY_PATCH, '{"type": "delete_file"}'),
        (ToolKind.APPLY_PATCH, "[]"),
        (ToolKind.TOOL_SEARCH, '"calendar"'),
        (ToolKind.TOOL_SEARCH, '{"query": calendar}'),
    ],
)
@pytest.mark.parametrize("status", ["completed", "incomplete"])
def test_arguments_that_make_no_object_go_out_as_a_function_call(
    kind: ToolKind, arguments: str, status: ItemStatus
) -> None:
    """So that the client can tell the model; and with an id that goes with the type."""
    events = run(kind, arguments, status=status, name="the_tool")
    assert [event["type"] for event in events] == [
        ADDED,
        "response.function_call_arguments.delta",
        "response.function_call_arguments.done",
        DONE,
    ]
    assert events[0]["item"]["arguments"] == ""
    assert events[1]["delta"] == events[2]["arguments"] == arguments
    assert events[3]["item"] == {
        "id": "fc_1",
        "type": "function_call",
        "status": status,
        "call_id": "call_00_a",
        "name": "the_tool",
        "arguments": arguments,
    }


def test_a_hosted_call_without_arguments_it_needs_is_a_function_call_without_any() -> None:
    events = run(ToolKind.SHELL, name="shell")
    assert events[1]["delta"] == events[2]["arguments"] == events[3]["item"]["arguments"] == "{}"


# -- the SDK's own types --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "arguments", "model"),
    [
        (ToolKind.FUNCTION, "{}", ResponseFunctionToolCall),
        (ToolKind.CUSTOM, '{"input": "x"}', ResponseCustomToolCall),
        (ToolKind.LOCAL_SHELL, '{"command": ["ls"]}', LocalShellCall),
        (ToolKind.SHELL, '{"commands": ["ls"]}', ResponseFunctionShellToolCall),
        (
            ToolKind.APPLY_PATCH,
            '{"type": "create_file", "path": "a", "diff": "+x"}',
            ResponseApplyPatchToolCall,
        ),
        (ToolKind.TOOL_SEARCH, '{"query": "x"}', ResponseToolSearchCall),
    ],
)
def test_openais_models_take_the_items(kind: ToolKind, arguments: str, model: type[BaseModel]) -> None:
    for event in (run(kind, arguments)[0], run(kind, arguments)[-1]):
        model.model_validate(event["item"], strict=True)
