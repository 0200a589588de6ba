"""The `tool_choice` of a request: a hard constraint on what the model may call.

Refuses to know how a dialect names a tool. DeepSeek's rules: docs of Nov 2026.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from deepseek_proxy.errors import InvalidRequest
from deepseek_proxy.translate import fields
from deepseek_proxy.translate.tools import ToolTable

Named = Callable[[Mapping[str, Any], str], Sequence[str]]
"""The upstream names of the tool that an object at a path names, the one to force first.

Raises `InvalidRequest` if it is not declared.
"""


@dataclass(frozen=True, slots=True)
class ToolChoice:
    """`upstream` is DeepSeek's `tool_choice` (None: leave it out); `permitted` the upstream names that
    may be called (None: any)."""

    upstream: str | dict[str, Any] | None = None
    permitted: frozenset[str] | None = None

    @property
    def is_forced(self) -> bool:
        """Whether the model must call: DeepSeek refuses that while thinking."""
        return self.upstream is not None and self.upstream != "none"

    def permits(self, upstream_name: str) -> bool:
        return self.permitted is None or upstream_name in self.permitted


def choose(choice: object, table: ToolTable, named: Named, path: str = "tool_choice") -> ToolChoice:
    """What `choice` means upstream. `allowed_tools` withdraws the other declarations from `table`."""
    if choice is None or choice == "auto":
        return ToolChoice()
    if choice == "none":
        return ToolChoice("none", frozenset())
    if choice == "required":
        return _required(table, path)
    if not isinstance(choice, dict):
        raise InvalidRequest(
            f"Invalid '{path}': expected 'none', 'auto', 'required' or an object that names a tool.",
            param=path,
            code="invalid_value",
        )
    if choice.get("type") == "allowed_tools":
        return _allowed(choice, table, named, path)
    names = named(choice, path)
    return ToolChoice({"type": "function", "function": {"name": names[0]}}, frozenset(names))


def not_found(label: str, path: str = "tool_choice") -> InvalidRequest:
    return InvalidRequest(f"Tool choice '{label}' not found in 'tools' parameter.", param=path)


def _required(table: ToolTable, path: str, permitted: frozenset[str] | None = None) -> ToolChoice:
    if not table.declarations:
        raise InvalidRequest("Tool choice 'required' must be specified with 'tools' parameter.", param=path)
    return ToolChoice("required", permitted)


def _allowed(choice: Mapping[str, Any], table: ToolTable, named: Named, path: str) -> ToolChoice:
    # Chat Completions has the two fields one level further down than Responses.
    if isinstance(nested := choice.get("allowed_tools"), dict):
        choice, path = nested, f"{path}.allowed_tools"
    mode = fields.choice(choice, "mode", ("auto", "required"), path) or "auto"
    names: set[str] = set()
    for index, entry in enumerate(fields.array(choice, "tools", path)):
        if not isinstance(entry, dict):
            raise fields.invalid_type(f"{path}.tools[{index}]", "an object", entry)
        names.update(named(entry, f"{path}.tools[{index}]"))
    table.keep_only(names)
    permitted = frozenset(names)
    return _required(table, path, permitted) if mode == "required" else ToolChoice(None, permitted)
