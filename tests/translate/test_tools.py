from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepseek_proxy.translate.tools import STUB_DESCRIPTION, Tool, ToolKind, ToolTable

LIMIT = 64
LEGAL = re.compile(r"[a-zA-Z0-9_-]{1,64}")
HOSTED = [kind for kind in ToolKind if kind not in (ToolKind.FUNCTION, ToolKind.CUSTOM)]


def function(name: str, namespace: str | None = None) -> Tool:
    return Tool(ToolKind.FUNCTION, name, namespace)


def declared(*tools: Tool) -> ToolTable:
    table = ToolTable(LIMIT)
    for tool in tools:
        table.declare(tool, None, {})
    return table


# -- names ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tool", "name"),
    [
        (function("read_file"), "read_file"),
        (function("read-file"), "read-file"),
        (function("add", "mcp__demo_srv"), "mcp__demo_srv__add"),
        (function("exec", "functions"), "exec"),
        (Tool(ToolKind.CUSTOM, "apply_patch"), "apply_patch"),
        (Tool(ToolKind.LOCAL_SHELL, "local_shell"), "local_shell"),
        (function("x" * 64), "x" * 64),
    ],
)
def test_a_legal_name_stays(tool: Tool, name: str) -> None:
    table = declared(tool)
    assert table.upstream_name(tool) == name
    assert table.client_tool(name) == tool


@pytest.mark.parametrize(
    ("tool", "name"),
    [
        (function("fs.read"), "fs_read_09387323"),
        (function("读取"), "___431612b3"),
        (function(""), "_3ca2289d"),
        (function("x" * 65), "x" * 55 + "_839a4354"),
    ],
)
def test_an_illegal_name_gets_an_alias_that_never_changes(tool: Tool, name: str) -> None:
    """The alias stands in prompts: another one would make the cache miss."""
    assert declared(tool).upstream_name(tool) == name
    neighbours = [function("fs_read"), function("a.b"), function("a", "b")]
    assert declared(*neighbours, tool).upstream_name(tool) == name
    assert declared(tool, *neighbours).client_tool(name) == tool


@pytest.mark.parametrize(
    ("one", "two"),
    [
        (function("fs.read"), function("fs/read")),
        (function("c", "a__b"), function("b__c", "a")),
        (function("x" * 65), function("x" * 66)),
        (function("None.f"), function("f.", "None")),
        (function("shell"), Tool(ToolKind.SHELL, "shell")),
        (Tool(ToolKind.SHELL, "shell"), Tool(ToolKind.LOCAL_SHELL, "shell")),
    ],
)
def test_two_tools_never_share_a_name(one: Tool, two: Tool) -> None:
    for table in (declared(one, two), declared(two, one)):
        for tool in (one, two):
            assert table.client_tool(table.upstream_name(tool)) == tool


def test_a_tool_whose_name_is_anothers_alias_is_kept_apart() -> None:
    alias = declared(function("fs.read")).upstream_name(function("fs.read"))
    thief = function(alias)
    table = declared(thief, function("fs.read"))
    assert table.upstream_name(thief) == alias
    assert table.client_tool(alias) == thief
    assert table.client_tool(table.upstream_name(function("fs.read"))) == function("fs.read")


def test_functions_and_free_form_tools_share_one_space_of_names() -> None:
    """A call in the history is spelled by its item, which need not be how the tool is declared now."""
    table = declared(Tool(ToolKind.CUSTOM, "apply_patch"))
    assert table.upstream_name(function("apply_patch")) == "apply_patch"
    assert table.client_tool("apply_patch").kind is ToolKind.CUSTOM


def test_the_namespace_of_tools_without_one_may_be_left_out() -> None:
    table = declared(Tool(ToolKind.CUSTOM, "exec", "functions"))
    assert table.upstream_name(function("exec")) == "exec"
    assert table.client_tool("exec") == Tool(ToolKind.CUSTOM, "exec", "functions")


def test_a_name_nobody_entered_is_passed_on() -> None:
    assert declared(function("a")).client_tool("made_up") == function("made_up")


NAMES = st.one_of(
    st.sampled_from(["a", "b", "a__b", "a.b", "a/b", "", "__", "functions", "x" * 70, "x" * 71, "读"]),
    st.text(max_size=80),
    st.from_regex(r"[a-z_]{1,3}_[0-9a-f]{8}", fullmatch=True),
)
TOOLS = st.one_of(
    st.builds(Tool, st.just(ToolKind.FUNCTION), NAMES, st.none() | NAMES),
    st.builds(Tool, st.just(ToolKind.CUSTOM), NAMES, st.none() | NAMES),
    st.builds(Tool, st.sampled_from(HOSTED), st.sampled_from([*HOSTED, "a"])),
)


@settings(max_examples=200)
@given(
    st.lists(TOOLS, max_size=8, unique_by=lambda tool: tool.key), st.booleans(), st.sampled_from([64, 128])
)
def test_the_way_back_is_exact_for_any_tools(tools: list[Tool], from_history: bool, limit: int) -> None:
    table = ToolTable(limit)
    if from_history and tools:  # entered by a call before it is declared
        table.upstream_name(tools[-1])
    # The worst neighbours: tools that are named like the others' aliases.
    aliases = [ToolTable(limit).upstream_name(tool) for tool in tools]
    known = {tool.key for tool in tools}
    tools = [
        *(function(alias) for alias in dict.fromkeys(aliases) if function(alias).key not in known),
        *tools,
    ]
    for tool in tools:
        table.declare(tool, None, {})
    names = [table.upstream_name(tool) for tool in tools]
    assert len({*names}) == len(tools)
    assert [table.client_tool(name) for name in names] == tools
    assert all(re.fullmatch(r"[a-zA-Z0-9_-]+", name) and len(name) <= limit for name in names)
    assert [entry["function"]["name"] for entry in table.declarations] == names


# -- declarations ---------------------------------------------------------------------------------

PARAMETERS = {"type": "object", "properties": {"path": {"type": "string"}}}


def test_a_declaration_keeps_description_and_parameters() -> None:
    table = ToolTable(LIMIT)
    table.declare(function("read"), "Reads a file.", PARAMETERS)
    table.declare(function("now"), None, None)
    table.declare(function("then"), "", {})
    empty = {"type": "object", "properties": {}}
    assert table.declarations == [
        {
            "type": "function",
            "function": {"name": "read", "description": "Reads a file.", "parameters": PARAMETERS},
        },
        {"type": "function", "function": {"name": "now", "parameters": empty}},
        {"type": "function", "function": {"name": "then", "parameters": empty}},
    ]


def test_a_second_declaration_replaces_the_first_in_place() -> None:
    table = declared(function("a"), function("b"))
    table.declare(Tool(ToolKind.CUSTOM, "a"), "New.", PARAMETERS)
    assert [entry["function"]["name"] for entry in table.declarations] == ["a", "b"]
    assert table.declarations[0]["function"]["description"] == "New."
    assert table.client_tool("a").kind is ToolKind.CUSTOM


FREEFORM = {
    "type": "object",
    "properties": {"input": {"type": "string"}},
    "required": ["input"],
    "additionalProperties": False,
}
HOW = 'Put the whole free-form input into the string "input".'


@pytest.mark.parametrize(
    ("description", "form", "text"),
    [
        (None, {}, HOW),
        ("Edits files.", {"type": "text"}, f"Edits files.\n\n{HOW}"),
        (
            "Edits files.",
            {"type": "grammar", "syntax": "lark", "definition": "start: /x/"},
            f"Edits files.\n\n{HOW}\n\nThe string must follow this lark grammar:\nstart: /x/",
        ),
        (
            None,
            {"type": "grammar", "syntax": "regex", "definition": "x+"},
            f"{HOW}\n\nThe string must follow this regex grammar:\nx+",
        ),
        (None, {"type": "grammar", "definition": 5}, HOW),
    ],
)
def test_a_free_form_tool_is_a_function_with_one_string(
    description: str | None, form: dict[str, Any], text: str
) -> None:
    table = ToolTable(LIMIT)
    table.declare_freeform(Tool(ToolKind.CUSTOM, "apply_patch"), description, form)
    assert table.declarations == [
        {
            "type": "function",
            "function": {"name": "apply_patch", "description": text, "parameters": FREEFORM},
        }
    ]


def test_stubs_stand_for_tools_that_only_the_history_knows() -> None:
    table = declared(function("a"))
    table.declare_stubs(["a", "gone"])
    assert [entry["function"].get("description") for entry in table.declarations] == [None, STUB_DESCRIPTION]
    assert table.declared_names == {"a", "gone"}


def test_withdrawn_tools_keep_their_names() -> None:
    table = declared(function("c"), function("a.b"), function("d"))
    alias = table.upstream_name(function("a.b"))
    table.keep_only({alias, "d"})
    assert [entry["function"]["name"] for entry in table.declarations] == [alias, "d"]
    assert not table.is_declared("c")
    assert table.is_declared("d")
    assert table.client_tool(alias) == function("a.b")


def test_deepseek_accepts_every_name(deepseek_check: Callable[[Any], tuple[int, str | None]]) -> None:
    tools = [function(name) for name in ("", "读取", "a b", "x" * 200, "-", "$(rm)", "a\0b")]
    body = {
        "model": "deepseek-flash",
        "messages": [{"role": "user", "content": "Hi"}],
        "tools": declared(*tools).declarations,
    }
    assert deepseek_check(body) == (200, None)
