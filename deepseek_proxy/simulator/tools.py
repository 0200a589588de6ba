"""Which tool the simulated model calls, and with what: from the user's words and the tools' own descriptions.

With one or two tools declared, one of them is called; among more, only the one that the user clearly asks
for, so that "say hello" to an agent with twenty tools is answered in words. Refuses to know directives and
scripts.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from deepseek_proxy.simulator.instances import minimal
from deepseek_proxy.simulator.turns import Call
from deepseek_proxy.simulator.wire import arguments_json

Function = Mapping[str, Any]
"""A tool's `function` object: `name`, `description`, `parameters`."""

DECODER: Final = json.JSONDecoder()
FEW_TOOLS: Final = 2

_SHELL_TOOL: Final = re.compile(r"exec|shell|command|bash|terminal", re.IGNORECASE)
_SHELL_KEYS: Final = ("cmd", "command", "script", "input")
_SHELL_REQUEST: Final = re.compile(
    r"\b(?:run|execute)\b(?:[^`\n:]{0,60}`([^`\n]+)`|[^`\n:]{0,60}:\s*([^\n]+)"
    r"|\s+the\s+(?:shell\s+|bash\s+)?command\s+([^\n]+))",
    re.IGNORECASE,
)
_PATCH_TOOL: Final = re.compile(r"patch", re.IGNORECASE)
_PATCH_KEYS: Final = ("input", "patch")
_PATCH: Final = re.compile(r"\*\*\* Begin Patch\n.*?\*\*\* End Patch", re.DOTALL)
_USE: Final = r"\b(?:use|call|invoke|run)\s+(?:the\s+)?(?:tool\s+|function\s+)?[`'\"]?{}[`'\"]?(?![\w-])"


def wanted(functions: Sequence[Function], prompt: str) -> Call | None:
    """The call that the user's last message leads to, None where words are the better answer."""
    if (asked := _asked_for(functions, prompt)) is not None:
        return asked
    if 0 < len(functions) <= FEW_TOOLS:
        return call(best_match(functions, prompt), prompt)
    return None


def named(functions: Sequence[Function], name: str) -> Function | None:
    """The function of that name, or the only one that ends in it (`mcp__server__add` for `add`)."""
    ending = []
    for function in functions:
        if function["name"] == name:
            return function
        if function["name"].endswith(f"__{name}"):
            ending.append(function)
    return ending[0] if len(ending) == 1 else None


def best_match(functions: Sequence[Function], prompt: str) -> Function:
    """The function whose name and description share most words with `prompt`; the first one of equals."""
    words = _words(prompt)

    def shared(function: Function) -> int:
        return len(words & _words(f"{function['name']} {function.get('description') or ''}"))

    return max(functions, key=shared)


def _words(text: str) -> set[str]:
    return set(re.findall(r"[a-z]{3,}", text.lower()))


def call(function: Function, prompt: str) -> Call:
    """A call of `function`: with the JSON object in `prompt` if one fits, else with as little as possible."""
    schema = function.get("parameters") or {"type": "object"}
    given = object_in(prompt)
    if given is not None and set(schema.get("required") or ()) <= set(given):
        return Call(function["name"], arguments_json(given))
    return Call(function["name"], arguments_json(minimal(schema)))


def object_in(prompt: str) -> dict[str, Any] | None:
    """The first JSON object in `prompt`, None where the first brace begins none."""
    start = prompt.find("{")
    if start < 0:
        return None
    try:
        value, _ = DECODER.raw_decode(prompt, start)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _asked_for(functions: Sequence[Function], prompt: str) -> Call | None:
    for function in functions:
        if re.search(_USE.format(re.escape(function["name"])), prompt, re.IGNORECASE):
            return call(function, prompt)
    if (patch := _PATCH.search(prompt)) is not None:
        return _with_text(functions, _PATCH_TOOL, _PATCH_KEYS, patch[0])
    if (command := _SHELL_REQUEST.search(prompt)) is not None:
        text = next(group for group in command.groups() if group)
        return _with_text(functions, _SHELL_TOOL, _SHELL_KEYS, text.strip())
    return None


def _with_text(
    functions: Sequence[Function], names: re.Pattern[str], keys: Sequence[str], text: str
) -> Call | None:
    """A call of the first function of such a name, with `text` in the first of `keys` that it takes."""
    for function in functions:
        schema = function.get("parameters") or {}
        properties = schema.get("properties") or {}
        key = next((key for key in keys if key in properties), None)
        if key is not None and names.search(function["name"]):
            # Old versions of Codex take the command as a list of words.
            value = ["bash", "-lc", text] if properties[key].get("type") == "array" else text
            return Call(function["name"], arguments_json({**minimal(schema), key: value}))
    return None
