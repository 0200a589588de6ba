"""Tools and `tool_choice` of a Chat Completions request, and their elder form `functions`, entered into a
`ToolTable`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from deepseek_proxy.errors import InvalidRequest
from deepseek_proxy.translate import fields, functions, lookup, tool_choice
from deepseek_proxy.translate.lookup import OPEN_PAGE, WEB_SEARCH, Options
from deepseek_proxy.translate.tool_choice import ToolChoice
from deepseek_proxy.translate.tools import ToolTable


def declare(body: Mapping[str, Any], table: ToolTable) -> Options | None:
    """Enters the request's tools. Returns what a web search among them asks for.

    Raises `InvalidRequest` with the path of what is wrong.
    """
    options = None
    for index, tool in enumerate(fields.array(body, "tools")):
        path = f"tools[{index}]"
        if not isinstance(tool, dict):
            raise fields.invalid_type(path, "an object", tool)
        kind = fields.string(tool, "type", path) or "function"
        if kind in functions.KINDS:
            if "name" not in tool and not fields.mapping(tool, kind, path):
                raise fields.missing(f"{path}.{kind}")
            functions.declare(tool, kind, table, path)
        elif lookup.is_web_search(kind):
            options = lookup.options(tool, path)
        else:
            raise InvalidRequest(
                f"Invalid value: '{kind}'. Supported values are: 'function', 'custom' and 'web_search'.",
                param=f"{path}.type",
                code="invalid_value",
            )
    for index, function in enumerate(fields.array(body, "functions")):
        path = f"functions[{index}]"
        if not isinstance(function, dict):
            raise fields.invalid_type(path, "an object", function)
        functions.declare(function, "function", table, path)
    return options


def is_legacy(body: Mapping[str, Any]) -> bool:
    """Whether calls are to be shown as `function_call`."""
    return bool(body.get("functions")) and not body.get("tools")


def choose(body: Mapping[str, Any], table: ToolTable) -> ToolChoice:
    """What the request's choice means upstream."""

    def named(choice: Mapping[str, Any], path: str) -> Sequence[str]:
        kind = label = "function" if path == "function_call" else fields.required_string(choice, "type", path)
        if kind in functions.KINDS:
            tools = [functions.named(choice, kind, path)]
            label = tools[0].name
        elif lookup.is_web_search(kind):
            tools = [WEB_SEARCH, OPEN_PAGE]
        else:
            raise tool_choice.not_found(kind, path)
        names = [name for name in map(table.upstream_name, tools) if table.is_declared(name)]
        if not names:
            raise tool_choice.not_found(label, path)
        return names

    key = "function_call" if body.get("tool_choice") is None else "tool_choice"
    return tool_choice.choose(body.get(key), table, named, key)
