"""The rules agree with DeepSeek's own converter: on the verdict, on the words, and on what comes first."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable, Mapping
from typing import Any

import deepseek_recipe as recipe
import pytest

from deepseek_proxy.simulator import rules
from deepseek_proxy.simulator.errors import Refusal

Body = dict[str, Any]
Check = Callable[[Mapping[str, Any]], tuple[int, str | None]]

USER = {"role": "user", "content": "hi"}
OFF = {"thinking": {"type": "disabled"}}


def body(**changes: Any) -> Body:
    return {"model": "deepseek-flash", "messages": [USER], **changes}


def tool(**changes: Any) -> Body:
    function = {"name": "f", "parameters": {"type": "object", "properties": {}}, **changes}
    return {"type": "function", "function": function}


def verdict(raw: bytes) -> tuple[int, str]:
    """Status and message of the simulator."""
    try:
        rules.check(raw)
    except Refusal as refusal:
        return refusal.status, json.loads(refusal.body)["error"]["message"]
    return 200, ""


def expected(status: int, message: str | None) -> tuple[int, str]:
    """What the converter said, without its wrapper, its own model names and positions in the text."""
    words = re.sub(r"^invalid (JSON request|request body): ", "", message or "")
    words = re.sub(r" at line \d+ column \d+$", "", words)
    return status, words.replace("DeepSeek-V4-Pro, DeepSeek-V4.1-Flash, ", "")


def agree(given: Body, deepseek_check: Check) -> None:
    status, words = expected(*deepseek_check(given))
    ours = verdict(json.dumps(given).encode())
    assert ours[0] == status, ours
    assert words in ours[1]


NUMBERS = (0, 1, 2, 2.1, -1, -2, -3, 1.5, "x", None, True, [1], {})
FIELDS: dict[str, tuple[Any, ...]] = {
    "model": (None, 3, "gpt-5", ""),
    "messages": (None, "x", [], {}, ["x"], [None], [{"content": "x"}], [{"role": None, "content": "x"}]),
    "thinking": (
        *({"type": kind} for kind in ("enabled", "disabled", "adaptive", "auto", None)),
        *(None, {}, "enabled", True, {"type": "enabled", "budget_tokens": 4, "x": 1}),
        {"type": "enabled", "budget_tokens": "x"},
    ),
    "reasoning_effort": (
        *("none", "minimal", "low", "medium", "high", "xhigh", "ultra", "max"),
        *("bogus", "", None, 3),
    ),
    "max_tokens": (0, 1, 393216, 393217, -1, 1.0, 1.5, "5", None, True, 5_000_000_000, [], {}),
    "temperature": NUMBERS,
    "top_p": (*NUMBERS, 0.0001),
    "presence_penalty": NUMBERS,
    "frequency_penalty": NUMBERS,
    "n": (1, 0, 2, -1, "1", None, 1.0),
    "stop": ("a", "", [], None, ["a"] * 16, ["a"] * 17, ["a", ""], [""], [1], 3, {}, [None]),
    "stream": (True, False, None, "x", 1),
    "stream_options": ({}, None, {"include_usage": True}, {"include_usage": "x"}, {"x": 1}, "x"),
    "logprobs": (True, False, None, "x"),
    "top_logprobs": (0, 20, 21, None, -1, 1.5),
    "response_format": (
        *({"type": kind} for kind in ("text", "json_object", "json_schema", "regex", "xml", None)),
        *({}, None, "json_object", {"type": "json_schema", "json_schema": {"name": "x"}}),
    ),
    "tools": (None, [], {}, "x", ["f"], [None], [{"type": None}], [{"type": "custom", "name": "x"}]),
    "user_id": ("ok-1_A", "a b", "", None, 3),
    "seed": (1, -1, 1.5, "x", None),
    "parallel_tool_calls": (True, None, "x"),
    "max_completion_tokens": ("x", -1),
    "metadata": (3, {"a": "b"}),
    "service_tier": (4,),
}


@pytest.mark.parametrize(
    ("field", "value"), [(field, value) for field, values in FIELDS.items() for value in values]
)
def test_fields(field: str, value: Any, deepseek_check: Check) -> None:
    agree(body(**{field: value}), deepseek_check)


@pytest.mark.parametrize("field", ["model", "messages"])
def test_required_fields(field: str, deepseek_check: Check) -> None:
    given = body()
    del given[field]
    agree(given, deepseek_check)
    agree({}, deepseek_check)


@pytest.mark.parametrize(
    "changes",
    [
        {"stream": True, "stream_options": {"include_usage": True}},
        {"stream": True, "stream_options": {"include_usage": None, "include_obfuscation": False}},
        {"stream": False, "stream_options": {}},
        *({"logprobs": on, "top_logprobs": n} for on in (True, False, None) for n in (0, 20, 21, None)),
    ],
)
def test_fields_that_belong_together(changes: Body, deepseek_check: Check) -> None:
    agree(body(**changes), deepseek_check)


@pytest.mark.parametrize(
    "messages",
    [
        [{"role": "user", "content": "as JSON please"}],
        [{"role": "system", "content": "jSoN"}, USER],
        [{"role": "user", "content": [{"type": "text", "text": "json"}]}],
        [{"role": "user", "content": [{"type": "text", "text": "js"}, {"type": "text", "text": "on"}]}],
        [USER, {"role": "assistant", "content": "json"}, USER],
        [USER, {"role": "assistant", "content": "x", "reasoning_content": "json"}, USER],
    ],
)
def test_json_mode_wants_the_word(messages: list[Body], deepseek_check: Check) -> None:
    agree(body(messages=messages, response_format={"type": "json_object"}), deepseek_check)


def test_the_word_json_in_a_tool_is_not_enough(deepseek_check: Check) -> None:
    given = body(response_format={"type": "json_object"}, tools=[tool(name="json", description="json")])
    agree(given, deepseek_check)


# -- tools ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["a.b", "a b", "", "x" * 128, "x" * 129, "x" * 129 + ".", "1a", "-", "é", "a/b", "a\n", None, 3]
)
def test_tool_names(name: Any, deepseek_check: Check) -> None:
    agree(body(tools=[tool(name=name)]), deepseek_check)


@pytest.mark.parametrize(
    "tools",
    [
        [tool(), tool()],
        [tool(), tool(name="g")],
        [tool(name=f"f{i}") for i in range(300)],
        [{"type": "function", "name": "f", "parameters": {}}],
        [{"type": "function", "function": None}],
        [{"type": "function", "function": {}}],
        [{"function": {"name": "f"}}],
        [{"type": "web_search"}],
        [tool(description=None, defer_loading=True, x=1)],
        [tool(description=3)],
        [tool(strict="x")],
        [tool(strict=None), tool(strict=False, name="g")],
        [tool(strict=True), tool(name="g")],
        [tool(strict=True), tool(strict=True, name="g")],
    ],
)
def test_tools(tools: list[Body], deepseek_check: Check) -> None:
    agree(body(tools=tools), deepseek_check)


CHOICES: list[Any] = [
    *("none", "auto", "required", "any", "", None, 3, {}, [], True),
    {"type": "function", "function": {"name": "f"}},
    {"type": "function", "function": {"name": "zz"}},
    {"type": "function", "name": "f"},
    {"type": "function", "function": {}},
    {"type": "function", "function": {"name": None}},
    {"type": "auto"},
    {"type": "allowed_tools", "allowed_tools": {}},
    {"function": {"name": "f"}},
]


@pytest.mark.parametrize("choice", CHOICES)
@pytest.mark.parametrize("tools", [None, [], [tool(), tool(name="g")]])
@pytest.mark.parametrize("mode", [{}, OFF])
def test_tool_choice(choice: Any, tools: Any, mode: Body, deepseek_check: Check) -> None:
    agree(body(tool_choice=choice, tools=tools, **mode), deepseek_check)


# -- what comes first -----------------------------------------------------------------------------


def call(*ids: str, **changes: Any) -> Body:
    calls = [{"id": i, "type": "function", "function": {"name": "f", "arguments": "{}"}} for i in ids]
    return {"role": "assistant", "content": "", "reasoning_content": "r", "tool_calls": calls, **changes}


def result(call_id: str) -> Body:
    return {"role": "tool", "tool_call_id": call_id, "content": "x"}


def bad_schema(**schema: Any) -> list[Body]:
    return [tool(name=f"s{len(schema)}", parameters=schema)]


VIOLATIONS: dict[str, Body] = {
    "model": {"model": "gpt"},
    "max_tokens": {"max_tokens": 0},
    "temperature": {"temperature": 3},
    "top_p": {"top_p": 2},
    "presence": {"presence_penalty": 3},
    "frequency": {"frequency_penalty": 3},
    "n": {"n": 2},
    "stop": {"stop": ""},
    "stream_options": {"stream_options": {}},
    "top_logprobs": {"top_logprobs": 3},
    "json word": {"response_format": {"type": "json_object"}},
    "tool name": {"tools": [tool(name="a.b")]},
    "tool names": {"tools": [tool(name="q"), tool(name="q")]},
    "schema root": {"tools": bad_schema()},
    "schema type": {"tools": bad_schema(type="object", properties={"a": {"type": "wat"}})},
    "schema reference": {"tools": bad_schema(type="object", a=1, properties={"a": {"$ref": "#/x"}})},
    "strict together": {"tools": [tool(name="st", strict=True), tool(name="nst")]},
    "strict schema": {
        "tools": [tool(name="sb", strict=True, parameters={"type": "object", "properties": {"a": {}}})]
    },
    "forced": {"tools": [tool(name="ok")], "tool_choice": "required"},
    "forced unknown": {
        "tools": [tool(name="ok2")],
        "tool_choice": {"type": "function", "function": {"name": "zz"}},
    },
    "no content": {"messages": [{"role": "assistant", "content": None, "reasoning_content": "r"}]},
    "no calls": {"messages": [call()]},
    "image": {
        "messages": [
            {
                "role": "assistant",
                "reasoning_content": "r",
                "content": [{"type": "image_url", "image_url": {"url": "http://x"}}],
            }
        ]
    },
    "file": {"messages": [{"role": "user", "content": [{"type": "file"}]}]},
    "unanswered": {"messages": [call("i1")]},
    "orphan": {"messages": [result("o1")]},
    "unknown id": {"messages": [call("u1"), result("u2")]},
    "call twice": {"messages": [call("d1", "d1"), result("d1")]},
    "result twice": {"messages": [call("e1", "e2"), result("e1"), result("e1")]},
    "no reasoning": {"messages": [call("n1", reasoning_content=None), result("n1")]},
    "prefix": {
        "messages": [
            {"role": "assistant", "content": "x", "reasoning_content": "r", "prefix": True},
            {"role": "system", "content": "x"},
        ]
    },
}


def violating(*names: str) -> Body:
    given = body(messages=[USER])
    for name in names:
        for key, value in copy.deepcopy(VIOLATIONS[name]).items():
            given[key] = [*given.get(key, []), *value] if isinstance(value, list) else value
    return given


@pytest.mark.parametrize("first", VIOLATIONS)
def test_the_first_of_two_violations(first: str, deepseek_check: Check) -> None:
    for second in VIOLATIONS:
        given = violating(*dict.fromkeys((first, second)))
        status, words = expected(*deepseek_check(given))
        assert (status, second) == (400, second)
        assert words in verdict(json.dumps(given).encode())[1], second


# -- bytes ----------------------------------------------------------------------------------------


def good(content: str) -> str:
    return '{"model":"deepseek-flash","messages":[{"role":"user","content":"' + content + '"}]}'


@pytest.mark.parametrize(
    "raw",
    [
        '{"model":',
        "",
        "null",
        '"x"',
        "3",
        "hello",
        "{'a':1}",
        '{"model":"deepseek-flash",}',
        good("\\ud800"),
        good("\\udc00"),
        good("\\x"),
        good("a\nb"),
        good("x") + " x",
        '{"temperature":NaN,' + good("x")[1:],
        '{"x":1e999,' + good("x")[1:],
        '{"model":"deepseek-flash",' + good("x")[1:],
        *('{"x":' + "[" * depth + "]" * depth + "," + good("x")[1:] for depth in (126, 127, 2000)),
    ],
)
def test_bodies_that_are_not_json(raw: str) -> None:
    try:
        recipe.ChatCompletionRequest(raw)
    except ValueError as problem:
        status, words = expected(422, str(problem))
    else:
        status, words = 200, ""
    ours = verdict(raw.encode())
    assert ours[0] == status
    assert words in ours[1]


def test_a_body_that_is_not_text() -> None:
    status, message = verdict(good("x").encode().replace(b'"x"', b'"\xff"'))
    assert (status, "invalid unicode code point" in message) == (422, True)


def test_a_list_is_no_request(deepseek_check: Check) -> None:
    assert verdict(b"[]")[0] == 422
    assert verdict(b'{"messages":[[]],"model":"x"}')[0] == 422


# -- where the service differs from the converter -------------------------------------------------


@pytest.mark.parametrize("name", ["deepseek-v4-flash", "deepseek-v4-flash-vision-exp", "deepseek-v4-pro"])
def test_model_names_and_aliases(name: str) -> None:
    assert verdict(json.dumps(body(model=name)).encode()) == (200, "")


@pytest.mark.parametrize("name", ["deepseek-chat", "deepseek-reasoner", "deepseek-v3"])
def test_retired_model_names(name: str) -> None:
    status, message = verdict(json.dumps(body(model=name)).encode())
    assert status == 400
    assert message == (
        f"The supported API model names are deepseek-flash, deepseek-v4-pro, but you passed {name}."
    )


def test_json_schema_is_not_available() -> None:
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}}
    raw = json.dumps(body(response_format=wanted)).encode()
    assert verdict(raw) == (400, "This response_format type is unavailable now")
    assert rules.check(raw, json_schema=True)["response_format"] == wanted


def test_the_path_of_a_wrong_type_is_told() -> None:
    given = body(messages=[USER, {"role": "developer", "content": "x"}])
    assert verdict(json.dumps(given).encode())[1].startswith(
        "Failed to deserialize the JSON body into the target type: messages[1]: unknown variant `developer`"
    )
    assert (
        "reasoning_effort: unknown variant `bogus`"
        in verdict(json.dumps(body(reasoning_effort="bogus")).encode())[1]
    )


# -- who may ask ----------------------------------------------------------------------------------


def test_keys() -> None:
    assert rules.authorise("Bearer sk-anything") == "sk-anything"
    assert rules.authorise("bearer  sk-anything ") == "sk-anything"
    assert rules.is_broke(rules.BROKE_KEY + "-2")
    assert not rules.is_broke("sk-anything")


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer ", "Basic abc", "sk-anything"])
def test_no_key(header: str | None) -> None:
    with pytest.raises(Refusal, match="auth header format should be Bearer") as caught:
        rules.authorise(header)
    assert caught.value.status == 401


def test_a_wrong_key() -> None:
    with pytest.raises(Refusal, match=r"Your api key: \*\*\*\*e78f is invalid") as caught:
        rules.authorise(f"Bearer {rules.INVALID_KEY}-e78f")
    assert caught.value.status == 401
