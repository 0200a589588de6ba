"""Messages are accepted and refused as by DeepSeek's own converter: content, order, thinking passed back."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepseek_proxy.simulator import rules
from deepseek_proxy.simulator.errors import Refusal

Message = dict[str, Any]
Check = Callable[[Mapping[str, Any]], tuple[int, str | None]]

USER: Message = {"role": "user", "content": "hi"}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
PNG = "data:image/png;base64,iVBORw0KGgo="
THINKING: list[dict[str, Any]] = [
    {},
    {"thinking": {"type": "enabled"}},
    {"thinking": {"type": "adaptive"}},
    {"thinking": {"type": "disabled"}},
    {"reasoning_effort": "none"},
    {"reasoning_effort": "none", "thinking": {"type": "enabled"}},
    {"reasoning_effort": "high", "thinking": {"type": "disabled"}},
]


def call(*ids: str, **changes: Any) -> Message:
    calls = [{"id": i, "type": "function", "function": {"name": "f", "arguments": "{}"}} for i in ids]
    return {"role": "assistant", "content": "", "reasoning_content": "r", "tool_calls": calls, **changes}


def result(call_id: str, content: Any = "x") -> Message:
    return {"role": "tool", "tool_call_id": call_id, "content": content}


def agree(check: Check, messages: list[Message], **changes: Any) -> int:
    """The simulator says what the converter says. Gives the status."""
    body = {"model": "deepseek-flash", "messages": messages, **changes}
    status, message = check(body)
    ours, words = 200, ""
    try:
        rules.check(json.dumps(body).encode())
    except Refusal as refusal:
        ours, words = refusal.status, json.loads(refusal.body)["error"]["message"]
    assert ours == status, message
    assert (message or "").removeprefix("invalid request body: ") in words
    return status


def image(url: Any, **more: Any) -> list[Message]:
    return [{"type": "image_url", "image_url": {"url": url, **more}}]


CONTENTS: dict[str, Any] = {
    "empty": "",
    "null": None,
    "no parts": [],
    "number": 3,
    "object": {},
    "parts": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}],
    "string part": ["a"],
    "null part": [None],
    "input_text": [{"type": "input_text", "text": "a"}],
    "no type": [{"text": "a"}],
    "no text": [{"type": "text"}],
    "null text": [{"type": "text", "text": None}],
    "image": image("http://example.com/a.png", detail="original"),
    "image inline": image(PNG),
    "image as string": [{"type": "image_url", "image_url": "http://x"}],
    "image without url": [{"type": "image_url", "image_url": {}}],
    "image missing": [{"type": "image_url"}],
    "image detail": image("http://x", detail="zz"),
    "image address": image("zz"),
    "image of a file": image("file:///x"),
    "image type": image("data:image/bmp;base64,eA=="),
    "image not base64": image("data:image/png;base64,!!!"),
    "image without base64": image("data:image/png,abc"),
    "image long": image("http://x/" + "a" * 9000),
    "file": [{"type": "file", "filename": "a.png", "file_data": PNG}],
    "file type": [{"type": "file", "filename": "a.txt", "file_data": "data:text/plain;base64,eA=="}],
    "file not a url": [{"type": "file", "filename": "a.png", "file_data": "iVBORw0KGgo="}],
    "file empty": [{"type": "file", "file": {"file_id": "x"}}],
    "file twice": [{"type": "file", "file_id": "file-api-1", "file_data": PNG}],
}


@pytest.mark.parametrize("role", ["system", "user", "assistant", "tool", "latest_reminder", "developer"])
@pytest.mark.parametrize("content", CONTENTS.values(), ids=CONTENTS)
@pytest.mark.parametrize("model", ["deepseek-flash", "deepseek-v4-pro"])
def test_content(role: str, content: Any, model: str, deepseek_check: Check) -> None:
    if role == "tool":
        agree(deepseek_check, [USER, call("1"), result("1", content)], model=model)
    else:
        agree(deepseek_check, [{"role": role, "content": content}], model=model)


@pytest.mark.parametrize("role", ["system", "user", "assistant", "tool"])
def test_content_missing(role: str, deepseek_check: Check) -> None:
    messages = (
        [USER, call("1"), {"role": "tool", "tool_call_id": "1"}] if role == "tool" else [{"role": role}]
    )
    assert agree(deepseek_check, messages) in (400, 422)


def test_uploaded_files_are_accepted() -> None:
    # The converter cannot look them up; the service can.
    part = {"type": "file", "file_id": "file-api-1"}
    rules.check(
        json.dumps({"model": "deepseek-flash", "messages": [{"role": "user", "content": [part]}]}).encode()
    )


def function(**changes: Any) -> list[Message]:
    one = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}, **changes}
    return [{key: value for key, value in one.items() if value != "absent"}]


@pytest.mark.parametrize(
    "message",
    [
        {"content": None, "reasoning_content": "x"},
        {"content": "x", "tool_calls": []},
        {"tool_calls": []},
        {"content": "x", "tool_calls": None},
        {"content": "x", "reasoning_content": 3},
        {"content": "x", "prefix": True},
        {"content": "x", "prefix": "x"},
        {"content": "x", "name": 3},
        {"content": "x", "refusal": None, "annotations": [], "audio": None, "function_call": None},
        *({"tool_calls": function(**{key: "absent"})} for key in ("id", "type", "function")),
        {"tool_calls": function(id=None)},
        {"tool_calls": function(id=3)},
        {"tool_calls": function(type="custom")},
        {"tool_calls": function(function={"name": "f", "arguments": {}})},
        {"tool_calls": function(function={"name": "f", "arguments": None})},
        {"tool_calls": function(function={"name": "f"})},
        {"tool_calls": function(function={"arguments": "{}"})},
    ],
)
def test_assistant_messages(message: Message, deepseek_check: Check) -> None:
    agree(deepseek_check, [USER, {"role": "assistant", **message}])


@pytest.mark.parametrize("arguments", ["{bad", "[1]", "", "null"])
@pytest.mark.parametrize("name", ["a.b c", "", "f"])
def test_calls_in_the_history_may_say_anything(arguments: str, name: str, deepseek_check: Check) -> None:
    said = call("1", tool_calls=function(function={"name": name, "arguments": arguments}))
    assert agree(deepseek_check, [USER, said, result("1")]) == 200


@pytest.mark.parametrize("message", [{"content": "x"}, {"content": "x", "tool_call_id": None}])
def test_results_name_their_call(message: Message, deepseek_check: Check) -> None:
    assert agree(deepseek_check, [USER, call("1"), {"role": "tool", **message}]) == 422


SYSTEM: Message = {"role": "system", "content": "s"}
REMINDER: Message = {"role": "latest_reminder", "content": "s"}
SAID: Message = {"role": "assistant", "content": "x", "reasoning_content": "r"}


@pytest.mark.parametrize(
    ("status", "messages"),
    [
        (200, [USER, call("1", "2"), result("2"), result("1")]),
        (200, [USER, call(""), result("")]),
        (200, [USER, call("1"), result("1"), call("1"), result("1")]),
        (200, [SYSTEM]),
        (200, [SAID]),
        (200, [USER, SAID]),
        (200, [USER, SAID, SAID, SYSTEM]),
        (400, [USER, call("1")]),
        (400, [USER, call("1"), USER]),
        (400, [USER, call("1", "2"), result("1")]),
        (400, [USER, call("1", "2"), result("1"), USER, result("2")]),
        (400, [USER, call("1"), SYSTEM, result("1")]),
        (400, [USER, call("1"), REMINDER, result("1")]),
        (400, [USER, call("1"), SAID, result("1")]),
        (400, [USER, call("1"), call("2"), result("1"), result("2")]),
        (400, [USER, call("1"), result("9")]),
        (400, [USER, call("1", "2"), result("9"), USER]),
        (400, [USER, call("1", "2"), result("1"), result("9")]),
        (400, [USER, result("1")]),
        (400, [result("1"), USER]),
        (400, [USER, call("1"), result("1"), result("2")]),
        (400, [USER, call("1"), result("1"), result("1")]),
        (400, [USER, call("1"), result("1"), USER, result("1")]),
        (400, [USER, call("1", "2"), result("1"), result("1")]),
        (400, [USER, call("1", "1"), result("1")]),
    ],
)
def test_order(status: int, messages: list[Message], deepseek_check: Check) -> None:
    assert agree(deepseek_check, messages) == status


IDS = st.sampled_from(["1", "2", "3"])
REASONING = st.sampled_from(
    [{}, {"reasoning_content": None}, {"reasoning_content": ""}, {"reasoning_content": "r"}]
)
ANSWERED = st.lists(IDS, min_size=1, max_size=3, unique=True).flatmap(
    lambda ids: st.permutations(ids).map(lambda order: [call(*ids), *map(result, order)])
)
PIECE = st.one_of(
    st.just([USER]),
    st.sampled_from([[SYSTEM], [REMINDER]]),
    ANSWERED,
    ANSWERED.map(lambda messages: messages[:-1]),
    IDS.map(lambda call_id: [result(call_id)]),
    st.lists(IDS, min_size=1, max_size=3).map(lambda ids: [call(*ids)]),
    st.sampled_from(["x", "", None]).map(lambda content: [{"role": "assistant", "content": content}]),
    st.sampled_from([image("http://x"), image("zz"), [{"type": "file"}]]).flatmap(
        lambda parts: st.sampled_from(["user", "assistant", "system"]).map(
            lambda role: [{"role": role, "content": parts}]
        )
    ),
)


def _with_reasoning(message: Message, reasoning: Message) -> Message:
    if message["role"] != "assistant":
        return message
    bare = {key: value for key, value in message.items() if key != "reasoning_content"}
    return {**bare, **reasoning}


@given(
    pieces=st.lists(PIECE, min_size=1, max_size=5),
    reasoning=st.lists(REASONING, min_size=16, max_size=16),
    mode=st.sampled_from(THINKING),
    tools=st.sampled_from([{}, {"tools": []}, {"tools": [TOOL]}, {"tools": [TOOL], "tool_choice": "none"}]),
    model=st.sampled_from(["deepseek-flash", "deepseek-v4-pro"]),
)
@settings(max_examples=400)
def test_any_history(
    pieces: list[list[Message]],
    reasoning: list[Message],
    mode: dict[str, Any],
    tools: dict[str, Any],
    model: str,
    deepseek_check: Check,
) -> None:
    messages = [message for piece in pieces for message in piece]
    messages = [_with_reasoning(m, reasoning[i % len(reasoning)]) for i, m in enumerate(messages)]
    agree(deepseek_check, messages, model=model, **mode, **tools)


@given(
    turns=st.lists(
        st.tuples(st.sampled_from("user call text system".split()), REASONING), min_size=1, max_size=6
    ),
    mode=st.sampled_from(THINKING),
    tools=st.sampled_from([{}, {"tools": [TOOL]}]),
)
@settings(max_examples=300)
def test_thinking_passed_back(
    turns: list[tuple[str, Message]], mode: dict[str, Any], tools: dict[str, Any], deepseek_check: Check
) -> None:
    """Only well-ordered histories, so that nothing hides this rule."""
    messages: list[Message] = []
    for i, (kind, reasoning) in enumerate(turns):
        if kind == "call":
            messages += [_with_reasoning(call(str(i)), reasoning), result(str(i))]
        elif kind == "text":
            messages.append(_with_reasoning(SAID, reasoning))
        else:
            messages.append({"role": kind, "content": "x"})
    agree(deepseek_check, messages, **mode, **tools)
