from __future__ import annotations

from typing import Any

import pytest

from deepseek_proxy.errors import InvalidRequest
from deepseek_proxy.translate import functions
from deepseek_proxy.translate.tools import Tool, ToolKind, ToolTable

SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}}
GRAMMAR = {"definition": "start: 'x'", "syntax": "lark"}


@pytest.mark.parametrize("nested", [False, True])
def test_a_function_in_either_spelling(nested: bool) -> None:
    table, inside = ToolTable(64), {"name": "f", "description": "Does.", "parameters": SCHEMA}
    given = {"type": "function", **({"function": inside} if nested else inside)}
    assert functions.declare(given, "function", table, "tools[0]") == "f"
    assert table.declarations == [{"type": "function", "function": inside}]
    assert functions.named(given, "function", "tool_choice") == Tool(ToolKind.FUNCTION, "f")


@pytest.mark.parametrize("nested", [False, True])
def test_a_free_form_tool_in_either_spelling(nested: bool) -> None:
    table = ToolTable(64)
    form = {"type": "grammar", "grammar": GRAMMAR} if nested else {"type": "grammar", **GRAMMAR}
    inside = {"name": "c", "format": form}
    given = {"type": "custom", **({"custom": inside} if nested else inside)}
    functions.declare(given, "custom", table, "tools[0]")
    assert "lark grammar:\nstart: 'x'" in table.declarations[0]["function"]["description"]
    assert functions.named(given, "custom", "tool_choice").kind is ToolKind.CUSTOM


@pytest.mark.parametrize(
    ("given", "param"),
    [
        ({}, "tools[0].name"),
        ({"name": ""}, "tools[0].name"),
        ({"function": {}}, "tools[0].function.name"),
        ({"function": {"name": "f", "parameters": 5}}, "tools[0].function.parameters"),
        ({"name": "f", "description": 5}, "tools[0].description"),
    ],
)
def test_a_wrong_one_is_refused_with_its_path(given: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        functions.declare(given, "function", ToolTable(64), "tools[0]")
    assert refused.value.param == param
