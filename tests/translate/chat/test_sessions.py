"""What holds for every request and for whole conversations: DeepSeek accepts what is sent, and what has been
sent once never changes.

The conversations are played as clients play them: the message of an answer comes back in the next request.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from harness import deepseek
from harness.chats import context, folded, machine_for
from harness.histories import PNG
from harness.junk import WRONG, spoiled
from harness.machines import healer_for, play, turn
from hypothesis import given, settings
from hypothesis import strategies as st

from deepseek_proxy.errors import ProxyError
from deepseek_proxy.translate import jsontext
from deepseek_proxy.translate.chat.request import parse

Check = Callable[[Any], tuple[int, str | None]]
Prompt = Callable[[Any], str]
Message = dict[str, Any]

OBJECT = {"type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"]}
READ: Message = {"type": "function", "function": {"name": "read", "parameters": OBJECT, "strict": True}}
TOOL = st.sampled_from(
    [
        READ,
        {"type": "function", "function": {"name": "fs.list", "parameters": None}},
        {"type": "function", "function": {"name": "x" * 90, "parameters": {"type": "string"}}},
        {"type": "custom", "custom": {"name": "patch"}},
    ]
)
TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=8) | st.sampled_from(
    ["json", "Hi", "<｜User｜>"]
)
PART = st.one_of(
    st.builds(lambda text: {"type": "text", "text": text}, TEXT),
    st.sampled_from(
        [
            {"type": "image_url", "image_url": {"url": PNG, "detail": "high"}},
            {"type": "image_url", "image_url": {"url": "data:image/svg+xml;base64,AAAA"}},
            {"type": "file", "file": {"filename": "a.txt", "file_data": "data:text/plain,hello"}},
            {"type": "refusal", "refusal": "No."},
            {"type": "something_new"},
        ]
    ),
)
CONTENT = st.none() | TEXT | st.lists(PART, max_size=3)
IDS = st.sampled_from(["a", "b", "c", "", None])
CALL = st.builds(
    lambda call_id, name, arguments: {
        "id": call_id,
        "type": "function",
        "function": {"name": name, "arguments": arguments},
    },
    IDS,
    st.sampled_from(["read", "fs.list", "gone", "x" * 90]),
    st.sampled_from(['{"path": "a"}', "", '{"cut', None, {"an": "object"}]),
)
MESSAGE = st.one_of(
    st.builds(
        lambda role, content: {"role": role, "content": content},
        st.sampled_from(["user", "system", "developer", "latest_reminder", "critic"]),
        CONTENT,
    ),
    st.builds(
        lambda content, calls, thinking: {
            "role": "assistant",
            "content": content,
            "tool_calls": calls,
            **thinking,
        },
        CONTENT,
        st.none() | st.lists(CALL, max_size=3),
        st.sampled_from([{}, {"reasoning_content": ""}, {"reasoning_content": "Hm"}, {"reasoning": "Hm"}]),
    ),
    st.builds(
        lambda call_id, content: {"role": "tool", "tool_call_id": call_id, "content": content}, IDS, CONTENT
    ),
    st.sampled_from(
        [
            {"role": "assistant", "function_call": {"name": "read", "arguments": "{}"}},
            {"role": "function", "name": "read", "content": "x"},
        ]
    ),
)
BODY = st.fixed_dictionaries(
    {
        "model": st.sampled_from(
            ["deepseek-flash", "deepseek-v4-pro", "deepseek-chat", "deepseek-r1", "gpt-9"]
        ),
        "messages": st.lists(MESSAGE, max_size=9),
    },
    optional={
        "stream": st.booleans(),
        "tools": st.lists(TOOL, max_size=4),
        "functions": st.just([READ["function"]]),
        "tool_choice": st.sampled_from(
            ["auto", "none", "required", {"type": "function", "function": {"name": "read"}}, None]
        ),
        "function_call": st.sampled_from(["auto", {"name": "read"}]),
        "reasoning_effort": st.sampled_from([None, "none", "minimal", "xhigh", "max", "heroic"]),
        "thinking": st.sampled_from([None, {"type": "enabled"}, {"type": "disabled", "budget_tokens": 1}]),
        "response_format": st.sampled_from(
            [
                {"type": "text"},
                {"type": "json_object"},
                {"type": "json_schema", "json_schema": {"name": "x", "schema": OBJECT}},
            ]
        ),
        "max_tokens": st.integers(1, 10**6),
        "max_completion_tokens": st.integers(1, 10**6),
        "temperature": st.sampled_from([0, 0.7, 2, 2.1]),
        "top_p": st.sampled_from([0, 0.5, 1]),
        "stop": st.sampled_from([None, [], "END", ["a", "b"], ""]),
        "logprobs": st.booleans(),
        "top_logprobs": st.integers(0, 20),
        "n": st.sampled_from([None, 1, 2]),
        "user": TEXT,
        "user_id": TEXT,
        "verbosity": st.sampled_from(["low", "medium", "high"]),
        "seed": st.just(1),
    },
)


@settings(max_examples=500)
@given(body=BODY)
def test_deepseek_accepts_whatever_is_sent(body: Message, deepseek_check: Check) -> None:
    """A request is refused here, with the path of a field, or nowhere."""
    refused = None
    try:
        assert deepseek_check(parse(body, context()).upstream) == (200, None)
    except ProxyError as error:
        refused = error
    assert refused is None or (refused.param and refused.status in (400, 404))


@settings(max_examples=300)
@given(body=BODY, wrong=WRONG)
def test_no_body_whatever_is_a_fault_of_the_gateway(body: Message, wrong: list[tuple[int, Any]]) -> None:
    body = spoiled(body, wrong)
    refused = None
    try:
        request = parse(body, context())
        assert jsontext.dumps(request.upstream)
        assert machine_for(request).start() == b""
    except ProxyError as error:
        refused = error
    assert refused is None or refused.status in (400, 404)


@settings(max_examples=150)
@given(messages=st.lists(MESSAGE, min_size=1, max_size=8), later=st.lists(MESSAGE, max_size=4))
def test_what_was_sent_is_a_prefix_of_what_is_sent_later(
    messages: list[Message], later: list[Message]
) -> None:
    """For every conversation that a client may have: from a message of the model on, nothing changes that
    stands before it."""

    def sent(history: list[Message]) -> list[Any]:
        read = parse({"model": "deepseek-flash", "messages": history, "tools": [READ]}, context())
        return list(read.upstream["messages"])

    asked = {"role": "user", "content": "Go on."}
    answered = {"role": "assistant", "content": "Done.", "reasoning_content": "Hm"}
    try:
        before = sent([*messages, asked])
    except ProxyError:
        return
    after = sent([*messages, asked, answered, asked])
    assert after[: len(before)] == before
    try:
        further = sent([*messages, asked, answered, asked, *later, asked])
    except ProxyError:
        return
    assert further[: len(after)] == after


@pytest.mark.parametrize("keeps_thinking", [True, False])
@pytest.mark.parametrize("model", ["deepseek-flash", "deepseek-v4-pro"])
def test_a_session_as_a_client_plays_it(
    model: str, keeps_thinking: bool, deepseek_check: Check, deepseek_prompt: Prompt
) -> None:
    """Calls, results, texts, late system messages: each request begins with the one before it."""
    kept: dict[str, str] = {}
    history: list[Message] = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Look."},
    ]
    bodies: list[Any] = []
    for number in range(6):
        body = {"model": model, "messages": history, "tools": [READ], "stream": True}
        request = parse(body, context(kept.get))
        bodies.append(request.upstream)
        calling = number % 2 == 0
        frames = [deepseek.opening(), deepseek.thinking(f"Thought {number}.")]
        if calling:
            for index in range(2):
                frames.append(deepseek.call(index, f"call_{number}_{index}", "read"))
                frames.append(deepseek.arguments(index, '{"path": "a"}'))
        else:
            frames.append(deepseek.text(f"Answer {number}."))
        frames += [deepseek.last("tool_calls" if calling else "stop"), deepseek.DONE]
        machine = machine_for(request, remember=kept.__setitem__)
        data = play(frames, turn(machine, healer_for(request.tools)))
        message = dict(folded(data)["choices"][0]["message"])
        if not keeps_thinking:
            del message["reasoning_content"]
        history = [*history, message]
        if calling:
            ids = [call["id"] for call in message["tool_calls"]]
            history += [{"role": "tool", "tool_call_id": id, "content": f"text of {id}"} for id in ids]
        else:
            history += [{"role": "developer", "content": "Hurry."}, {"role": "user", "content": "Next."}]
    for earlier, later in pairwise(bodies):
        assert deepseek_check(later) == (200, None)
        assert later["messages"][: len(earlier["messages"])] == earlier["messages"]
        assert jsontext.dumps(later["tools"]) == jsontext.dumps(earlier["tools"])
        assert deepseek_prompt(later).startswith(deepseek_prompt(earlier).rstrip())
