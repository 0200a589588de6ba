"""Tool declarations and `tool_choice` of a Responses request, entered into a `ToolTable`.

Hosted tools that nobody here can run are left out and counted when the model is free to do without
them, and refused when the request makes no sense without them. The web search is run by the gateway itself,
where the operator allows it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from deepseek_proxy.errors import InvalidRequest
from deepseek_proxy.translate import fields, functions, lookup, tool_choice
from deepseek_proxy.translate.lookup import OPEN_PAGE, WEB_SEARCH
from deepseek_proxy.translate.search import Session
from deepseek_proxy.translate.tool_choice import ToolChoice
from deepseek_proxy.translate.tools import Tool, ToolKind, ToolTable

LOCAL_SHELL: Final = Tool(ToolKind.LOCAL_SHELL, "local_shell")
SHELL: Final = Tool(ToolKind.SHELL, "shell")
APPLY_PATCH: Final = Tool(ToolKind.APPLY_PATCH, "apply_patch")
TOOL_SEARCH: Final = Tool(ToolKind.TOOL_SEARCH, "tool_search")

_STRING = {"type": "string"}
_STRINGS = {"type": "array", "items": _STRING}
_INTEGER = {"type": "integer"}

# Hosted tools that the client itself runs: what the model is told about them.
_CLIENT_RUN: Final[Mapping[str, tuple[Tool, str, Mapping[str, Any]]]] = {
    "local_shell": (
        LOCAL_SHELL,
        "Runs a command on the user's machine and returns its output.",
        {
            "type": "object",
            "properties": {"command": _STRINGS, "working_directory": _STRING, "timeout_ms": _INTEGER},
            "required": ["command"],
        },
    ),
    "shell": (
        SHELL,
        "Runs shell commands, one after another, and returns the output of each.",
        {
            "type": "object",
            "properties": {"commands": _STRINGS, "timeout_ms": _INTEGER, "max_output_length": _INTEGER},
            "required": ["commands"],
        },
    ),
    "apply_patch": (
        APPLY_PATCH,
        "Creates, updates or deletes one file. `diff` is a V4A diff: lines that start with a space "
        "(context), - (removed) or + (added), under @@ section headers; a new file has only + lines.",
        {
            "type": "object",
            "properties": {
                "type": {"type": "string", "enum": ["create_file", "update_file", "delete_file"]},
                "path": _STRING,
                "diff": _STRING,
            },
            "required": ["type", "path"],
        },
    ),
    "tool_search": (
        TOOL_SEARCH,
        "Searches for further tools; those it finds can be called afterwards.",
        {"type": "object", "properties": {"query": _STRING}, "required": ["query"]},
    ),
}

_REFUSED: Final = frozenset({"mcp", "computer", "computer_use_preview"})


def declare(
    tools: Iterable[Any],
    table: ToolTable,
    notes: Counter[str],
    path: str = "tools",
    session: Session | None = None,
) -> list[str]:
    """Enters each of a request's `tools`. Raises `InvalidRequest` with the path of what is wrong.

    A web search is offered by `session`, and left out where there is none. Returns the upstream names of what
    the client runs.
    """
    names = []
    for index, tool in enumerate(tools):
        where = f"{path}[{index}]"
        if not isinstance(tool, dict):
            raise fields.invalid_type(where, "an object", tool)
        kind = fields.required_string(tool, "type", where)
        if kind in functions.KINDS:
            names.append(functions.declare(tool, kind, table, where, None))
        elif kind == "namespace":
            namespace = fields.required_string(tool, "name", where)
            for position, inner in enumerate(fields.array(tool, "tools", where)):
                inner_path = f"{where}.tools[{position}]"
                if not isinstance(inner, dict):
                    raise fields.invalid_type(inner_path, "an object", inner)
                inner_kind = fields.string(inner, "type", inner_path) or "function"
                names.append(functions.declare(inner, inner_kind, table, inner_path, namespace))
        elif kind in _CLIENT_RUN:
            hosted, description, parameters = _CLIENT_RUN[kind]
            described = tool.get("description") or description
            names.append(table.declare(hosted, described, tool.get("parameters") or parameters))
        elif session is not None and lookup.is_web_search(kind):
            session.offer(table, lookup.options(tool, where))
        elif kind in _REFUSED:
            raise InvalidRequest(
                f"Tools of type '{kind}' are not supported by this gateway: declare functions instead.",
                param=f"{where}.type",
                code="unsupported_tool",
            )
        else:
            notes["tool_left_out"] += 1
    return names


def declare_from_history(
    tools: object, table: ToolTable, notes: Counter[str], session: Session | None = None
) -> list[str]:
    """Like `declare`, for tools that stand in the conversation: what cannot be read is left out and counted,
    for a client could never send that thread again."""
    names: list[str] = []
    for tool in tools if isinstance(tools, list) else ():
        try:
            names += declare([tool], table, notes, session=session)
        except InvalidRequest:
            notes["tool_left_out"] += 1
    return names


def choose(choice: object, table: ToolTable) -> ToolChoice:
    """What `tool_choice` means upstream. `allowed_tools` withdraws the other declarations from `table`."""
    return tool_choice.choose(choice, table, lambda named, path: _named(named, table, path))


def _named(choice: Mapping[str, Any], table: ToolTable, path: str) -> Sequence[str]:
    """The upstream names of the tool that an object names, the one to force first.

    Raises `InvalidRequest` if it is not declared.
    """
    kind = label = fields.required_string(choice, "type", path)
    if kind in _CLIENT_RUN:
        tools = [_CLIENT_RUN[kind][0]]
    elif lookup.is_web_search(kind):
        tools = [WEB_SEARCH, OPEN_PAGE]
    elif kind in functions.KINDS:
        tools = [functions.named(choice, kind, path)]
        label = tools[0].name
    else:
        raise tool_choice.not_found(kind)
    names = [name for name in map(table.upstream_name, tools) if table.is_declared(name)]
    if not names:
        raise tool_choice.not_found(label)
    return names


def echo(tools: Iterable[Any]) -> list[Any]:
    """`tools` as the Response repeats them: OpenAI fills in the keys that a function left out."""
    return [
        _echo_function(tool) if isinstance(tool, dict) and tool.get("type") == "function" else tool
        for tool in tools
    ]


def _echo_function(tool: Mapping[str, Any]) -> dict[str, Any]:
    nested = tool.get("function")
    function = {"type": "function", **nested} if "name" not in tool and isinstance(nested, dict) else tool
    return {
        **function,
        "description": function.get("description"),
        "parameters": function.get("parameters"),
        "strict": bool(function.get("strict", True)),
    }
