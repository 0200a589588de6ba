"""Tool names and kinds <-> what DeepSeek accepts, with an exact reverse map.

DeepSeek knows one kind of tool, the function, with a name of `[a-zA-Z0-9_-]` and at most 64 (some
hosts) or 128 characters. Clients have namespaces, free-form tools and hosted tools with names of any
form. A `ToolTable` holds one request's tools: it gives each one a legal upstream name, remembers what
that name stands for, and holds the declarations to send. Refuses to know how a dialect spells a tool.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from deepseek_proxy.translate import schema

_ILLEGAL = re.compile(r"[^a-zA-Z0-9_-]")
_HASH_CHARS = 8

# The namespace of tools without one: Codex's "lite" models declare them in it, and a call may leave it out.
DEFAULT_NAMESPACE: Final = "functions"

STUB_DESCRIPTION: Final = "Was available earlier in this conversation and cannot be called now."
FREEFORM_INPUT: Final = "input"


class ToolKind(StrEnum):
    """How a client declared a tool, and so in which shape it expects the call."""

    FUNCTION = "function"
    CUSTOM = "custom"
    TOOL_SEARCH = "tool_search"
    LOCAL_SHELL = "local_shell"
    SHELL = "shell"
    APPLY_PATCH = "apply_patch"
    WEB_SEARCH = "web_search"
    """Run by the gateway itself, as is the next one."""
    OPEN_PAGE = "open_page"


_NAMED: Final = (ToolKind.FUNCTION, ToolKind.CUSTOM)


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool as its client knows it."""

    kind: ToolKind
    name: str
    namespace: str | None = None

    @property
    def key(self) -> tuple[str, str | None, str]:
        """Functions and free-form tools share one space of names; a hosted tool has its own."""
        named = self.kind in _NAMED
        namespace = None if self.namespace == DEFAULT_NAMESPACE else self.namespace
        return ("" if named else self.kind, namespace, self.name)


class ToolTable:
    """The tools of one request. `name_limit` is the longest legal upstream name."""

    def __init__(self, name_limit: int) -> None:
        self._limit = name_limit
        self._names: dict[tuple[str, str | None, str], str] = {}
        self._tools: dict[str, Tool] = {}
        self._declarations: dict[str, dict[str, Any]] = {}

    def upstream_name(self, tool: Tool) -> str:
        """The legal name of `tool`, the same for as long as the table lives; new tools are entered."""
        name = self._names.get(tool.key)
        if name is None:
            name = self._make_name(tool)
            self._names[tool.key] = name
            self._tools[name] = tool
        return name

    def client_tool(self, upstream_name: str) -> Tool:
        """What the model called. A name that nobody entered is passed on, so that the client can say so."""
        return self._tools.get(upstream_name) or Tool(ToolKind.FUNCTION, upstream_name)

    def declare(self, tool: Tool, description: str | None, parameters: object) -> str:
        """Offers `tool` to the model, under the upstream name that is returned. A second declaration of the
        same tool replaces the first in place."""
        name = self.upstream_name(tool)
        self._tools[name] = tool
        function: dict[str, Any] = {"name": name}
        if description:
            function["description"] = description
        function["parameters"] = schema.tool_parameters(parameters)
        self._declarations[name] = {"type": "function", "function": function}
        return name

    def declare_freeform(self, tool: Tool, description: str | None, grammar: Mapping[str, Any]) -> str:
        """Offers a free-form tool as a function with one string; the grammar goes into its description."""
        text = [description or "", f'Put the whole free-form input into the string "{FREEFORM_INPUT}".']
        if grammar.get("type") == "grammar" and isinstance(grammar.get("definition"), str):
            syntax = grammar.get("syntax") or "lark"
            text.append(f"The string must follow this {syntax} grammar:\n{grammar['definition']}")
        return self.declare(
            tool,
            "\n\n".join(filter(None, text)),
            {
                "type": "object",
                "properties": {FREEFORM_INPUT: {"type": "string"}},
                "required": [FREEFORM_INPUT],
                "additionalProperties": False,
            },
        )

    def declare_stubs(self, upstream_names: Iterable[str]) -> None:
        """Declares tools that only the history knows: without any, the model leaks raw tool markup."""
        for name in upstream_names:
            if name not in self._declarations:
                self._declarations[name] = {
                    "type": "function",
                    "function": {
                        "name": name,
                        "description": STUB_DESCRIPTION,
                        "parameters": {"type": "object", "properties": {}},
                    },
                }

    def keep_only(self, upstream_names: set[str]) -> None:
        """Withdraws every declaration but these; the order stays."""
        self._declarations = {n: d for n, d in self._declarations.items() if n in upstream_names}

    def is_declared(self, upstream_name: str) -> bool:
        return upstream_name in self._declarations

    @property
    def declared_names(self) -> frozenset[str]:
        return frozenset(self._declarations)

    def release_declarations(self) -> None:
        """Forgets what the declarations say, but not whose they are: the answer needs the names alone."""
        self._declarations = {name: {} for name in self._declarations}

    @property
    def declarations(self) -> list[dict[str, Any]]:
        """DeepSeek's `tools`, in the order in which the client declared them."""
        return list(self._declarations.values())

    def _make_name(self, tool: Tool) -> str:
        _, namespace, full = tool.key
        if namespace is not None:
            full = f"{namespace}__{full}"
        name = _ILLEGAL.sub("_", full)
        if name == full and 0 < len(name) <= self._limit and name not in self._tools:
            return name
        # The digest covers what makes the tool itself, so that the alias does not depend on its neighbours,
        # unless one of them has this very name.
        stem, seed = name[: self._limit - _HASH_CHARS - 1], json.dumps(tool.key)
        while True:
            seed = hashlib.sha256(seed.encode()).hexdigest()
            alias = f"{stem}_{seed[:_HASH_CHARS]}"
            if alias not in self._tools:
                return alias
