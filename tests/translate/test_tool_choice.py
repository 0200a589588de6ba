from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from deepseek_proxy.errors import InvalidRequest
from deepseek_proxy.translate import functions, tool_choice
from deepseek_proxy.translate.tool_choice import ToolChoice
from deepseek_proxy.translate.tools import Tool, ToolKind, ToolTable


def table_of(*names: str) -> ToolTable:
    table = ToolTable(64)
    for name in names:
        table.declare(Tool(ToolKind.FUNCTION, name), None, {})
    return table


def choose(choice: Any, table: ToolTable) -> ToolChoice:
    def named(given: Mapping[str, Any], path: str) -> Sequence[str]:
        name = functions.named(given, given["type"], path).name
        if not table.is_declared(name):
            raise tool_choice.not_found(name, path)
        return [name]

    return tool_choice.choose(choice, table, named)


def a(name: str) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name}}


@pytest.mark.parametrize(
    ("choice", "expected", "forced"),
    [
        (None, ToolChoice(), False),
        ("auto", ToolChoice(), False),
        ("none", ToolChoice("none", frozenset()), False),
        ("required", ToolChoice("required"), True),
        (a("f"), ToolChoice(a("f"), frozenset({"f"})), True),
    ],
)
def test_a_choice(choice: Any, expected: ToolChoice, forced: bool) -> None:
    chosen = choose(choice, table_of("f", "g"))
    assert chosen == expected
    assert chosen.is_forced is forced


def test_a_choice_permits_what_it_names() -> None:
    assert [ToolChoice(None, frozenset({"f"})).permits(name) for name in "fg"] == [True, False]
    assert ToolChoice().permits("anything")


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize(("mode", "upstream"), [("auto", None), ("required", "required")])
def test_allowed_tools_withdraws_the_others(mode: str, upstream: str | None, nested: bool) -> None:
    table = table_of("f", "g")
    allowed = {"mode": mode, "tools": [a("g")]}
    choice = {"type": "allowed_tools", **({"allowed_tools": allowed} if nested else allowed)}
    assert choose(choice, table) == ToolChoice(upstream, frozenset({"g"}))
    assert table.declared_names == {"g"}


@pytest.mark.parametrize(
    ("choice", "param"),
    [
        (5, "tool_choice"),
        ("any", "tool_choice"),
        (a("h"), "tool_choice"),
        ({"type": "allowed_tools", "mode": "never"}, "tool_choice.mode"),
        ({"type": "allowed_tools", "allowed_tools": {"tools": [5]}}, "tool_choice.allowed_tools.tools[0]"),
        ({"type": "allowed_tools", "tools": [a("h")]}, "tool_choice.tools[0]"),
    ],
)
def test_a_wrong_choice_is_refused_with_its_path(choice: Any, param: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        choose(choice, table_of("f"))
    assert refused.value.param == param


def test_required_needs_tools() -> None:
    with pytest.raises(InvalidRequest, match="must be specified with 'tools'"):
        choose("required", table_of())
