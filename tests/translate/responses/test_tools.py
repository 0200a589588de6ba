from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from harness.machines import TOOL_NAME_LIMIT
from openai.types.responses import Tool as OpenAITool
from pydantic import TypeAdapter

from deepseek_proxy.errors import InvalidRequest
from deepseek_proxy.translate.responses import tools
from deepseek_proxy.translate.tool_choice import ToolChoice
from deepseek_proxy.translate.tools import Tool, ToolKind, ToolTable

EMPTY = {"type": "object", "properties": {}}
FUNCTION = {"type": "function", "name": "read", "parameters": EMPTY}
CUSTOM = {"type": "custom", "name": "apply_patch"}
NAMESPACE = {
    "type": "namespace",
    "name": "mcp__srv",
    "description": "A server.",
    "tools": [{"type": "function", "name": "add"}, {"type": "custom", "name": "run"}, {"name": "bare"}],
}
CLIENT_RUN = ["local_shell", "shell", "apply_patch", "tool_search"]
LEFT_OUT = [
    *("web_search", "web_search_2025_08_26", "web_search_preview", "file_search", "code_interpreter"),
    *("image_generation", "programmatic_tool_calling", "acme:new_tool"),
]


def declared(*declarations: Any) -> ToolTable:
    table = ToolTable(TOOL_NAME_LIMIT)
    tools.declare(declarations, table, Counter())
    return table


def refusal(read: Callable[[], object]) -> tuple[str, str | None, str | None]:
    """(message, param, code) of the error."""
    with pytest.raises(InvalidRequest) as caught:
        read()
    return caught.value.message, caught.value.param, caught.value.code


# -- declarations ---------------------------------------------------------------------------------


def test_tools_keep_their_order_and_find_their_way_back() -> None:
    table = declared(FUNCTION, CUSTOM, NAMESPACE, *({"type": kind} for kind in CLIENT_RUN))
    assert [(name := entry["function"]["name"], table.client_tool(name)) for entry in table.declarations] == [
        ("read", Tool(ToolKind.FUNCTION, "read")),
        ("apply_patch", Tool(ToolKind.CUSTOM, "apply_patch")),
        ("mcp__srv__add", Tool(ToolKind.FUNCTION, "add", "mcp__srv")),
        ("mcp__srv__run", Tool(ToolKind.CUSTOM, "run", "mcp__srv")),
        ("mcp__srv__bare", Tool(ToolKind.FUNCTION, "bare", "mcp__srv")),
        ("local_shell", tools.LOCAL_SHELL),
        ("shell", tools.SHELL),
        (table.upstream_name(tools.APPLY_PATCH), tools.APPLY_PATCH),  # "apply_patch" is taken
        ("tool_search", tools.TOOL_SEARCH),
    ]


def test_a_function_may_be_nested_as_in_chat_completions() -> None:
    nested = {"type": "function", "function": {"name": "read", "description": "Reads.", "parameters": EMPTY}}
    assert declared(nested).declarations == [
        {"type": "function", "function": {"name": "read", "description": "Reads.", "parameters": EMPTY}}
    ]


def test_strict_and_other_keys_are_not_sent() -> None:
    extra = {
        "strict": True,
        "defer_loading": False,
        "output_schema": {},
        "async": None,
        "allowed_callers": [],
    }
    assert declared({**FUNCTION, **extra}).declarations == declared(FUNCTION).declarations


@pytest.mark.parametrize("parameters", [None, {}, {"type": "object", "properties": {}}])
def test_missing_parameters_are_an_empty_object(parameters: Any) -> None:
    table = declared({"type": "function", "name": "now", "parameters": parameters})
    assert table.declarations[0]["function"]["parameters"] == EMPTY


def test_the_namespace_of_tools_without_one_leaves_the_names_bare() -> None:
    lite = {"type": "namespace", "name": "functions", "tools": [{"type": "custom", "name": "exec"}]}
    assert declared(lite).declared_names == {"exec"}


@pytest.mark.parametrize("kind", CLIENT_RUN)
def test_a_tool_that_the_client_runs_is_explained_to_the_model(kind: str) -> None:
    (declaration,) = declared({"type": kind}).declarations
    function = declaration["function"]
    assert function["description"]
    assert {*function["parameters"]["required"]} <= {*function["parameters"]["properties"]}


def test_codex_says_itself_what_its_tool_search_takes() -> None:
    own = {
        "type": "tool_search",
        "description": "Mine.",
        "parameters": {**EMPTY, "properties": {"q": {"type": "string"}}},
    }
    (declaration,) = declared(own).declarations
    assert declaration["function"] == {
        "name": "tool_search",
        "description": "Mine.",
        "parameters": own["parameters"],
    }


@pytest.mark.parametrize("kind", LEFT_OUT)
def test_a_tool_that_nobody_here_can_run_is_left_out_and_counted(kind: str) -> None:
    notes: Counter[str] = Counter()
    table = ToolTable(TOOL_NAME_LIMIT)
    tools.declare([{"type": kind}, FUNCTION], table, notes)
    assert table.declared_names == {"read"}
    assert dict(notes) == {"tool_left_out": 1}


@pytest.mark.parametrize("kind", ["mcp", "computer", "computer_use_preview"])
def test_a_tool_the_request_makes_no_sense_without_is_refused(kind: str) -> None:
    assert refusal(lambda: declared(FUNCTION, {"type": kind, "server_label": "x"})) == (
        f"Tools of type '{kind}' are not supported by this gateway: declare functions instead.",
        "tools[1].type",
        "unsupported_tool",
    )


@pytest.mark.parametrize(
    ("tool", "param", "code"),
    [
        (5, "tools[0]", "invalid_type"),
        ({}, "tools[0].type", "missing_required_parameter"),
        ({"type": 5}, "tools[0].type", "invalid_type"),
        ({"type": "function"}, "tools[0].name", "missing_required_parameter"),
        ({"type": "function", "function": {}}, "tools[0].function.name", "missing_required_parameter"),
        ({"type": "function", "name": ""}, "tools[0].name", "invalid_value"),
        ({"type": "function", "name": "f", "description": 5}, "tools[0].description", "invalid_type"),
        ({"type": "custom"}, "tools[0].name", "missing_required_parameter"),
        ({"type": "custom", "name": "x", "format": "lark"}, "tools[0].format", "invalid_type"),
        ({"type": "namespace", "tools": []}, "tools[0].name", "missing_required_parameter"),
        ({"type": "namespace", "name": "n", "tools": {}}, "tools[0].tools", "invalid_type"),
        ({"type": "namespace", "name": "n", "tools": [5]}, "tools[0].tools[0]", "invalid_type"),
        (
            {"type": "namespace", "name": "n", "tools": [{}]},
            "tools[0].tools[0].name",
            "missing_required_parameter",
        ),
    ],
)
def test_a_wrong_declaration_is_refused_with_its_path(tool: Any, param: str, code: str) -> None:
    assert refusal(lambda: declared(tool))[1:] == (param, code)


# -- tool_choice ----------------------------------------------------------------------------------

ALL = (FUNCTION, CUSTOM, NAMESPACE, {"type": "shell"})


def named(name: str) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name}}


@pytest.mark.parametrize(
    ("choice", "upstream", "permitted"),
    [
        (None, None, None),
        ("auto", None, None),
        ("none", "none", set()),
        ("required", "required", None),
        ({"type": "function", "name": "read"}, named("read"), {"read"}),
        ({"type": "function", "function": {"name": "read"}}, named("read"), {"read"}),
        ({"type": "custom", "name": "apply_patch"}, named("apply_patch"), {"apply_patch"}),
        (
            {"type": "function", "name": "add", "namespace": "mcp__srv"},
            named("mcp__srv__add"),
            {"mcp__srv__add"},
        ),
        ({"type": "shell"}, named("shell"), {"shell"}),
        (
            {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "read"}]},
            None,
            {"read"},
        ),
        (
            {
                "type": "allowed_tools",
                "mode": "required",
                "tools": [{"type": "shell"}, {"type": "custom", "name": "apply_patch"}],
            },
            "required",
            {"shell", "apply_patch"},
        ),
    ],
)
def test_a_choice_means_the_same_upstream(choice: Any, upstream: Any, permitted: set[str] | None) -> None:
    chosen = tools.choose(choice, declared(*ALL))
    assert chosen == ToolChoice(upstream, None if permitted is None else frozenset(permitted))
    assert chosen.is_forced == (upstream not in (None, "none"))
    names = declared(*ALL).declared_names
    assert {name for name in names if chosen.permits(name)} == (names if permitted is None else permitted)


def test_tools_that_are_not_allowed_are_withdrawn() -> None:
    table = declared(*ALL)
    allowed = [{"type": "shell"}, {"type": "function", "name": "read"}]
    tools.choose({"type": "allowed_tools", "mode": "auto", "tools": allowed}, table)
    assert [entry["function"]["name"] for entry in table.declarations] == ["read", "shell"]


def test_other_choices_withdraw_nothing() -> None:
    """The tools stand at the head of the prompt: a missing one would cost the whole cache."""
    for choice in (None, "none", "required", {"type": "function", "name": "read"}):
        table = declared(*ALL)
        tools.choose(choice, table)
        assert table.declarations == declared(*ALL).declarations


NOT_FOUND = "Tool choice '{}' not found in 'tools' parameter."
WRONG = "Invalid 'tool_choice': expected 'none', 'auto', 'required' or an object that names a tool."


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"type": "function", "name": "write"}, NOT_FOUND.format("write")),
        ({"type": "function", "name": "add"}, NOT_FOUND.format("add")),  # only in its namespace
        ({"type": "local_shell"}, NOT_FOUND.format("local_shell")),
        ({"type": "web_search_preview"}, NOT_FOUND.format("web_search_preview")),
        ({"type": "mcp", "server_label": "x"}, NOT_FOUND.format("mcp")),
        (
            {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "write"}]},
            NOT_FOUND.format("write"),
        ),
        ("always", WRONG),
        (5, WRONG),
        ([], WRONG),
    ],
)
def test_a_choice_of_what_is_not_there_is_refused(choice: Any, message: str) -> None:
    assert refusal(lambda: tools.choose(choice, declared(*ALL)))[:2] == (message, "tool_choice")


@pytest.mark.parametrize("choice", ["required", {"type": "allowed_tools", "mode": "required", "tools": []}])
def test_no_call_can_be_required_without_tools(choice: Any) -> None:
    assert refusal(lambda: tools.choose(choice, declared({"type": "web_search"}))) == (
        "Tool choice 'required' must be specified with 'tools' parameter.",
        "tool_choice",
        None,
    )


@pytest.mark.parametrize(
    ("choice", "param"),
    [
        ({}, "tool_choice.type"),
        ({"type": "function"}, "tool_choice.name"),
        ({"type": "allowed_tools", "mode": "never", "tools": []}, "tool_choice.mode"),
        ({"type": "allowed_tools", "tools": {}}, "tool_choice.tools"),
        ({"type": "allowed_tools", "tools": [5]}, "tool_choice.tools[0]"),
    ],
)
def test_a_choice_of_no_known_form_is_refused_with_its_path(choice: Any, param: str) -> None:
    assert refusal(lambda: tools.choose(choice, declared(*ALL)))[1] == param


# -- the echo -------------------------------------------------------------------------------------


def test_the_echo_fills_in_what_a_function_left_out() -> None:
    web = {"type": "web_search"}
    assert tools.echo([{"type": "function", "name": "f"}, {**FUNCTION, "strict": False}, CUSTOM, web]) == [
        {"type": "function", "name": "f", "description": None, "parameters": None, "strict": True},
        {**FUNCTION, "description": None, "strict": False},
        CUSTOM,
        web,
    ]


def test_the_echo_of_a_nested_function_is_flat() -> None:
    nested = {"type": "function", "function": {"name": "f", "parameters": EMPTY}}
    assert tools.echo([nested]) == tools.echo([{"type": "function", "name": "f", "parameters": EMPTY}])


def test_openais_models_take_the_echo() -> None:
    echoed = tools.echo([FUNCTION, CUSTOM, {**NAMESPACE, "tools": NAMESPACE["tools"][:2]}, {"type": "shell"}])
    TypeAdapter(list[OpenAITool]).validate_python(echoed, strict=True)
