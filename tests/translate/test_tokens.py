"""The count of a prompt, compared with the prompt that DeepSeek's own package makes and encodes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
from harness import oracle
from harness.histories import m_assistant, m_call, m_image, m_text, m_tool, m_user
from harness.machines import context
from hypothesis import given, settings
from hypothesis import strategies as st

from deepseek_proxy.tokenizer.encoding import Counter
from deepseek_proxy.translate.images import MAX_IMAGE_TOKENS
from deepseek_proxy.translate.responses.request import parse
from deepseek_proxy.translate.tokens import prompt_tokens, size_in_bytes

MODELS = ["deepseek-flash", "deepseek-v4-pro"]
FEW = 3
"""By how many tokens a count may be off, where texts that are counted apart meet in the prompt."""


def function(name: str, description: str = "", **properties: Any) -> dict[str, Any]:
    parameters = {"type": "object", "properties": properties}
    return {
        "type": "function",
        "function": {"name": name, "description": description, "parameters": parameters},
    }


TOOLS = [
    function("shell", "Runs a command, and waits for it.", command={"type": "string"}, é={"enum": [1, 2.5]}),
    function("read_file", path={"type": "string", "description": "Absolute."}, lines={"type": "integer"}),
]
TALK = [
    {"role": "system", "content": "You are a careful programmer.\nAnswer in JSON."},
    m_user("What is in the folder?"),
    m_assistant(
        "I look.",
        "The user wants to know the files.",
        m_call("c1", "shell", json.dumps({"command": "ls -la\n", "é": {"deep": [1, None, True, "ü"]}})),
        m_call("c2", "read_file", '{"path": "README.md", "lines": 10}'),
        m_call("c3", "shell", "not json"),
        m_call("c4", "shell", "[1, 2]"),
        m_call("c5", "shell", "{}"),
    ),
    *(m_tool(f"c{n}", f"output {n}\nof several lines\n") for n in range(1, 5)),
    m_tool("c5", ""),
    m_assistant("There are two files.", ""),
    m_user("你好，世界"),
    m_user("and what else?"),
    m_assistant("Nothing.", " "),
    m_user("Thanks."),
]
OFF: dict[str, Any] = {"thinking": {"type": "disabled"}}
REQUESTS: dict[str, dict[str, Any]] = {
    "no thinking": OFF,
    **{
        f"effort {effort}": {"thinking": {"type": "enabled"}, "reasoning_effort": effort}
        for effort in ("low", "high", "max")
    },
    "tools": {"thinking": {"type": "enabled"}, "reasoning_effort": "high", "tools": TOOLS},
    "tools, no thinking": {**OFF, "tools": TOOLS},
    "tools not to be used": {**OFF, "tools": TOOLS, "tool_choice": "none"},
    "a tool to be used": {**OFF, "tools": TOOLS, "tool_choice": "required"},
    "one tool": {**OFF, "tools": TOOLS, "tool_choice": {"type": "function", "function": {"name": "shell"}}},
    "JSON": {**OFF, "response_format": {"type": "json_object"}},
    "JSON and tools": {
        "thinking": {"type": "enabled"},
        "reasoning_effort": "low",
        "tools": TOOLS,
        "response_format": {"type": "json_object"},
    },
}


def assert_counted(body: Mapping[str, Any]) -> None:
    assert prompt_tokens(body, Counter()) == pytest.approx(oracle.prompt_tokens(body), abs=FEW)
    assert prompt_tokens(body, size_in_bytes) >= oracle.prompt_tokens(body)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("fields", REQUESTS.values(), ids=REQUESTS.keys())
def test_a_conversation_is_counted_as_deepseek_counts_it(model: str, fields: dict[str, Any]) -> None:
    assert_counted({"model": model, "messages": TALK, **fields})
    assert_counted({"model": model, "messages": [m_user("Say it in json.")], **fields})


@pytest.mark.parametrize("model", MODELS)
def test_the_shortest_prompt_is_exact(model: str) -> None:
    body = {"model": model, "messages": [m_user("Hi")], **OFF}
    assert prompt_tokens(body, Counter()) == oracle.prompt_tokens(body) == 5


@pytest.mark.parametrize("model", MODELS)
def test_a_coding_agents_session_is_counted_within_a_thousandth(model: str) -> None:
    """Forty turns of calls with their results."""
    messages: list[dict[str, Any]] = [{"role": "system", "content": "Work.\n" * 300}, m_user("Build it.")]
    for n in range(40):
        call = m_call(f"c{n}", "shell", json.dumps({"command": f"sed -n {n},99p file_{n}.py | head"}))
        messages += [
            m_assistant("", f"Step {n}: read on.", call),
            m_tool(f"c{n}", "def f(x): return x\n" * 30),
        ]
    body = {"model": model, "messages": messages, **REQUESTS["tools"]}
    expected = oracle.prompt_tokens(body)
    assert expected > 10_000
    assert prompt_tokens(body, Counter()) == pytest.approx(expected, rel=1e-3)


TEXTS = st.text(st.sampled_from('ab \n.,1é中の<>"{}|'), max_size=30)
VALUES = st.none() | st.integers(-(2**63), 2**63) | TEXTS
CALLS = st.builds(
    lambda arguments: [m_call(f"c{n}", "shell", text) for n, text in enumerate(arguments)],
    st.lists(st.dictionaries(TEXTS, VALUES, max_size=3).map(json.dumps), max_size=3),
)


@settings(max_examples=200)
@given(
    system=TEXTS,
    turns=st.lists(st.tuples(TEXTS, TEXTS, TEXTS, CALLS), max_size=6),
    model=st.sampled_from(MODELS),
    fields=st.sampled_from(list(REQUESTS.values())),
)
def test_no_conversation_is_miscounted(
    system: str, turns: list[tuple[str, str, str, list[Any]]], model: str, fields: dict[str, Any]
) -> None:
    """A token or so may get lost at each of the seams."""
    messages: list[dict[str, Any]] = [{"role": "system", "content": f"json {system}"}, m_user("go")]
    for asked, thought, said, calls in turns:
        messages += [m_user(asked), m_assistant(said, thought, *calls)]
        messages += [m_tool(call["id"], "done") for call in calls]
    body = {"model": model, "messages": messages, **fields}
    assert prompt_tokens(body, Counter()) == pytest.approx(oracle.prompt_tokens(body), abs=FEW)
    assert prompt_tokens(body, size_in_bytes) >= oracle.prompt_tokens(body)


def test_an_image_is_counted_by_its_size() -> None:
    parts = [m_text("What is this?"), m_image("https://example.com/a.png"), m_text("And this?")]
    body = {"model": "deepseek-flash", "messages": [m_user(parts)], **OFF}
    assert prompt_tokens(body, Counter()) == pytest.approx(
        oracle.prompt_tokens(body) - 1 + MAX_IMAGE_TOKENS, abs=FEW
    )


def test_deep_arguments_are_counted_as_text() -> None:
    call = m_call("c1", "shell", "[" * 100_000)
    body = {"model": "deepseek-flash", "messages": [m_user("x"), m_assistant("", "", call)], **OFF}
    assert prompt_tokens(body, Counter()) > 1_000


def test_bytes_are_never_too_few() -> None:
    for text in ("abc", "é", "中文", "😀", "\ud800"):
        assert size_in_bytes(text) >= Counter()(text)


def test_a_request_is_counted_as_it_is_sent() -> None:
    """Thinking that is not sent back costs its placeholder, and a hint of the gateway costs what it has."""
    asked = {
        "model": "deepseek-flash",
        "instructions": "Be kind.",
        "tools": [{"type": "function", "name": "shell", "parameters": {"type": "object", "properties": {}}}],
        "text": {"verbosity": "low"},
        "input": [
            {"role": "user", "content": "list"},
            {"type": "function_call", "call_id": "c1", "name": "shell", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c1", "output": "a\nb"},
        ],
    }
    assert_counted(parse(asked, context()).upstream)
