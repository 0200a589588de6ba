from __future__ import annotations

from typing import Any

import pytest

from deepseek_proxy.errors import InvalidRequest
from deepseek_proxy.translate.chat import tools
from deepseek_proxy.translate.lookup import SIZES, Options
from deepseek_proxy.translate.tool_choice import ToolChoice
from deepseek_proxy.translate.tools import ToolTable

F = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
CUSTOM = {"type": "custom", "custom": {"name": "c"}}
SEARCH = {"type": "web_search", "search_context_size": "low"}


def declared(**body: Any) -> ToolTable:
    table = ToolTable(64)
    tools.declare(body, table)
    return table


def test_tools_keep_their_order() -> None:
    table = declared(tools=[CUSTOM, F])
    assert [tool["function"]["name"] for tool in table.declarations] == ["c", "f"]


def test_functions_are_the_elder_form_of_tools() -> None:
    assert declared(functions=[F["function"]]).declarations == declared(tools=[F]).declarations
    assert tools.is_legacy({"functions": [F["function"]]})
    assert not tools.is_legacy({"functions": [F["function"]], "tools": [F]})
    assert not tools.is_legacy({"functions": []})


def test_a_web_search_is_declared_by_whoever_runs_it() -> None:
    table = ToolTable(64)
    assert tools.declare({"tools": [SEARCH, F]}, table) == Options(size=SIZES["low"])
    assert table.declared_names == {"f"}


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"tools": {}}, "tools"),
        ({"tools": [5]}, "tools[0]"),
        ({"tools": [{"type": "file_search"}]}, "tools[0].type"),
        ({"tools": [{"type": "function"}]}, "tools[0].function"),
        ({"tools": [{"type": "function", "function": {}}]}, "tools[0].function"),
        ({"tools": [{"type": "function", "function": "f"}]}, "tools[0].function"),
        ({"tools": [{"type": "custom", "custom": {"description": "c"}}]}, "tools[0].custom.name"),
        ({"functions": [5]}, "functions[0]"),
        ({"functions": [{}]}, "functions[0].name"),
    ],
)
def test_a_wrong_tool_is_refused_with_its_path(body: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        declared(**body)
    assert refused.value.param == param


FORCED = ToolChoice({"type": "function", "function": {"name": "f"}}, frozenset({"f"}))


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({}, ToolChoice()),
        ({"tool_choice": "none"}, ToolChoice("none", frozenset())),
        ({"tool_choice": "required"}, ToolChoice("required")),
        ({"tool_choice": {"type": "function", "function": {"name": "f"}}}, FORCED),
        ({"function_call": "none"}, ToolChoice("none", frozenset())),
        ({"function_call": "auto"}, ToolChoice()),
        ({"function_call": {"name": "f"}}, FORCED),
        ({"function_call": {"name": "f"}, "tool_choice": "auto"}, ToolChoice()),
    ],
)
def test_a_choice_in_either_form(body: dict[str, Any], expected: ToolChoice) -> None:
    assert tools.choose(body, declared(tools=[F, CUSTOM])) == expected


def test_allowed_tools() -> None:
    table = declared(tools=[F, CUSTOM])
    allowed = {"mode": "auto", "tools": [{"type": "custom", "custom": {"name": "c"}}]}
    choice = {"type": "allowed_tools", "allowed_tools": allowed}
    assert tools.choose({"tool_choice": choice}, table).permitted == {"c"}
    assert table.declared_names == {"c"}


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"tool_choice": {"type": "function", "function": {"name": "g"}}}, "tool_choice"),
        ({"tool_choice": {"type": "web_search"}}, "tool_choice"),
        ({"tool_choice": {"type": "mcp"}}, "tool_choice"),
        ({"tool_choice": "any"}, "tool_choice"),
        ({"function_call": {"name": "g"}}, "function_call"),
        ({"function_call": {}}, "function_call.name"),
    ],
)
def test_a_wrong_choice_is_refused_with_its_path(body: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        tools.choose(body, declared(tools=[F]))
    assert refused.value.param == param
