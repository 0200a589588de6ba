"""Tools that a client declares by name, functions and free-form ones, as either of OpenAI's APIs spells them.

Responses has a tool's fields beside its `type`, Chat Completions under a key that is called like it. Refuses
to know hosted tools.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from deepseek_proxy.translate import fields
from deepseek_proxy.translate.tools import Tool, ToolKind, ToolTable

KINDS: Final = frozenset({ToolKind.FUNCTION.value, ToolKind.CUSTOM.value})


def declare(
    given: Mapping[str, Any], kind: str, table: ToolTable, path: str, namespace: str | None = None
) -> str:
    """Enters one tool of `KINDS`; returns its upstream name. Raises `InvalidRequest` with the path."""
    given, path = _inside(given, kind, path)
    name = fields.required_string(given, "name", path)
    if not name:
        raise fields.invalid_value(f"{path}.name", "empty string. Expected a tool name.")
    description = fields.string(given, "description", path)
    if kind == ToolKind.CUSTOM:
        tool = Tool(ToolKind.CUSTOM, name, namespace)
        form = fields.mapping(given, "format", path)
        if isinstance(nested := form.get("grammar"), dict):
            form = {"type": "grammar", **nested}
        return table.declare_freeform(tool, description, form)
    parameters = given.get("parameters")
    if parameters is not None and not isinstance(parameters, (dict, bool)):
        raise fields.invalid_type(f"{path}.parameters", "an object", parameters)
    return table.declare(Tool(ToolKind.FUNCTION, name, namespace), description, parameters)


def named(given: Mapping[str, Any], kind: str, path: str) -> Tool:
    """The tool that an object in `tool_choice` names."""
    given, path = _inside(given, kind, path)
    name = fields.required_string(given, "name", path)
    return Tool(ToolKind(kind), name, fields.string(given, "namespace", path))


def _inside(given: Mapping[str, Any], kind: str, path: str) -> tuple[Mapping[str, Any], str]:
    nested = given.get(kind)
    if "name" not in given and isinstance(nested, dict):
        return nested, f"{path}.{kind}"
    return given, path
