from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from harness import chats
from harness import machines as responses_machines

from deepseek_proxy import models
from deepseek_proxy.errors import InvalidRequest, ModelNotFound
from deepseek_proxy.translate import jsontext
from deepseek_proxy.translate.chat.request import ChatRequest, parse
from deepseek_proxy.translate.responses.request import parse as parse_responses
from deepseek_proxy.translate.search import Limits, Session

NAMELESS = {"type": "json_schema", "json_schema": {"schema": {}}}
CALLS = [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
Check = Callable[[Any], tuple[int, str | None]]

ASKED = [{"role": "user", "content": "Hi"}]
F = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}


def read(context: Any = None, **fields: Any) -> ChatRequest:
    return parse({"model": "deepseek-flash", "messages": ASKED, **fields}, context or chats.context())


def refused(context: Any = None, **fields: Any) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        read(context, **fields)
    return caught.value


def searching() -> Any:
    return chats.context(search=Session(Limits(8, 16, 60)))


def test_what_needs_no_repair_is_sent_as_it_is(deepseek_check: Check) -> None:
    body = {
        "model": "deepseek-v4-pro",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Hi"},
            {
                "role": "assistant",
                "content": "",
                "reasoning_content": "Hm",
                "tool_calls": CALLS,
            },
            {"role": "tool", "content": "done", "tool_call_id": "c"},
            {"role": "assistant", "content": "Done.", "reasoning_content": ""},
            {"role": "user", "content": "Thanks"},
        ],
        "thinking": {"type": "enabled"},
        "reasoning_effort": "high",
        "tools": [F],
        "max_tokens": 100,
        "temperature": 1,
        "stop": ["END"],
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    request = parse(body, chats.context())
    assert jsontext.dumps(request.upstream) == jsontext.dumps(body)
    assert (request.notes, request.unknown_fields) == ({}, ())
    assert deepseek_check(request.upstream) == (200, None)


def test_what_openai_takes_is_made_fit_for_deepseek(deepseek_check: Check) -> None:
    request = read(
        messages=[
            {"role": "developer", "content": [{"type": "text", "text": "Be brief."}]},
            {"role": "user", "content": "Hi", "name": "Ann"},
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {"id": "a", "type": "function", "function": {"name": "fs.read", "arguments": "{}"}},
                    {"id": "b", "type": "function", "function": {"name": "fs.read", "arguments": "{}"}},
                ],
            },
            {"role": "user", "content": "Quick!"},
            {"role": "tool", "tool_call_id": "b", "content": "B"},
            {"role": "tool", "tool_call_id": "a", "content": None},
        ],
        tools=[{"type": "function", "function": {"name": "fs.read", "parameters": {}, "strict": True}}],
        max_completion_tokens=50,
        reasoning_effort="xhigh",
        seed=7,
    )
    sent = request.upstream
    assert deepseek_check(sent) == (200, None)
    assert [message["role"] for message in sent["messages"]] == [
        *("system", "user", "assistant", "tool", "tool", "user")
    ]
    assert [message.get("tool_call_id") for message in sent["messages"][3:5]] == ["a", "b"]
    assert sent["messages"][2]["content"] == ""
    assert sent["messages"][2]["reasoning_content"] == " "
    assert "strict" not in sent["tools"][0]["function"]
    assert (sent["max_tokens"], sent["reasoning_effort"]) == (50, "high")
    assert request.unknown_fields == ("seed",)
    assert request.notes["reordered_results"] == request.notes["moved_message"] == 1


@pytest.mark.parametrize(
    ("model", "fields", "thinks"),
    [
        ("deepseek-flash", {}, True),
        ("deepseek-chat", {}, False),
        ("deepseek-v3", {}, False),
        ("deepseek-reasoner", {}, True),
        ("deepseek-r1", {}, True),
        ("deepseek-chat", {"reasoning_effort": "high"}, True),
        ("deepseek-chat", {"thinking": {"type": "enabled"}}, True),
        ("deepseek-r1", {"thinking": {"type": "disabled"}, "reasoning_effort": "max"}, False),
        ("deepseek-r1", {"tools": [F], "tool_choice": "required"}, False),
    ],
)
def test_who_thinks(model: str, fields: dict[str, Any], thinks: bool, deepseek_check: Check) -> None:
    request = read(model=model, **fields)
    assert (request.upstream["thinking"]["type"] == "enabled") is thinks
    assert request.upstream["model"] == "deepseek-flash"
    assert request.resolved.requested == model
    assert deepseek_check(request.upstream) == (200, None)


def test_missing_thinking_is_recalled() -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    messages = [
        *ASKED,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c", "content": "x"},
    ]
    request = read(chats.context({"c": "Hm"}.get), messages=messages, tools=[F])
    assert request.upstream["messages"][1]["reasoning_content"] == "Hm"
    assert request.notes == {"recalled_reasoning": 1}


def test_elder_functions(deepseek_check: Check) -> None:
    messages = [
        *ASKED,
        {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": "{}"}},
        {"role": "function", "name": "f", "content": "x"},
    ]
    request = read(messages=messages, functions=[F["function"]], function_call="auto")
    assert request.legacy_functions
    assert not request.parallel_tool_calls
    sent = request.upstream["messages"]
    assert sent[1]["tool_calls"][0]["id"] == sent[2]["tool_call_id"]
    assert deepseek_check(request.upstream) == (200, None)


def test_an_answer_bound_to_a_schema() -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}}
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    request = read(response_format=wanted)
    assert request.upstream["response_format"] == {"type": "json_object"}
    assert '"integer"' in request.upstream["messages"][0]["content"]
    assert request.structured is not None
    assert request.is_json


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"model": None}, "model"),
        ({"messages": []}, "messages"),
        ({"response_format": {"x": 1}}, "response_format.type"),
        ({"response_format": {"type": "xml"}}, "response_format.type"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        ({"response_format": NAMELESS}, "response_format.json_schema.name"),
        ({"verbosity": "some"}, "verbosity"),
        ({"reasoning_effort": 5}, "reasoning_effort"),
        ({"stream": "yes"}, "stream"),
        ({"n": 3}, "n"),
        ({"web_search_options": 5}, "web_search_options"),
    ],
)
def test_a_wrong_field_is_refused_with_its_path(fields: dict[str, Any], param: str) -> None:
    assert refused(**fields).param == param


def test_an_unknown_model_does_not_exist() -> None:
    with pytest.raises(ModelNotFound):
        read(model="gpt-9")


def test_the_model_goes_on_with_its_own_last_message(deepseek_check: Check) -> None:
    begun = {"role": "assistant", "content": "```python\n", "prefix": True}
    request = read(messages=[*ASKED, begun], stop="```")
    assert request.continues
    assert request.upstream["messages"][-1] == begun
    assert deepseek_check(request.upstream) == (200, None)
    thought = {**begun, "reasoning_content": "Hm"}
    assert read(messages=[*ASKED, thought]).upstream["messages"][-1]["reasoning_content"] == "Hm"


@pytest.mark.parametrize("last", [{"role": "user", "content": "x"}, {"role": "assistant", "content": "x"}])
def test_no_other_message_is_gone_on_with(last: dict[str, Any]) -> None:
    begun = {"role": "assistant", "content": "a", "prefix": True}
    request = read(messages=[*ASKED, begun, last])
    assert not request.continues
    assert "prefix" not in str(request.upstream)


@pytest.mark.parametrize(
    ("last", "code"),
    [
        ({"role": "user", "content": "x", "prefix": True}, "invalid_value"),
        ({"role": "assistant", "content": "x", "tool_calls": CALLS, "prefix": True}, "invalid_value"),
        ({"role": "assistant", "content": "x", "prefix": "yes"}, "invalid_type"),
    ],
)
def test_what_cannot_be_gone_on_with_is_refused(last: dict[str, Any], code: str) -> None:
    error = refused(messages=[*ASKED, last])
    assert (error.param, error.code) == ("messages[1].prefix", code)


# -- searches -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"model": "deepseek-chat-search"}, "model"),
        ({"web_search_options": {}}, "web_search_options"),
        ({"tools": [{"type": "web_search"}]}, "tools"),
    ],
)
def test_a_search_is_offered_or_refused(fields: dict[str, Any], param: str) -> None:
    error = refused(**fields)
    assert (error.param, error.code, error.status) == (param, "web_search_off", 400)
    request = read(searching(), **fields)
    names = [tool["function"]["name"] for tool in request.upstream["tools"]]
    assert names == ["web_search", "open_page"]
    assert request.next_turn is not None


def test_without_a_wish_to_search_nothing_is_offered() -> None:
    request = read(searching(), web_search_options=None)
    assert "tools" not in request.upstream
    assert request.next_turn is None


def test_a_field_says_how_much_a_search_finds() -> None:
    request = read(searching(), model="deepseek-r1-search", web_search_options={"search_context_size": "low"})
    assert "5 where left out" in str(request.upstream["tools"][0])


def test_responses_knows_the_names_that_search_too() -> None:
    body = {"model": "deepseek-chat-search", "input": "Hi"}
    with pytest.raises(InvalidRequest):
        parse_responses(body, responses_machines.context())
    request = parse_responses(body, responses_machines.context(search=Session(Limits(8, 16, 60))))
    assert request.search.is_offered
    assert request.upstream["thinking"] == {"type": "disabled"}


def test_every_listed_name_is_known() -> None:
    for name in models.LISTED_ALIASES:
        assert read(model=name).resolved.model is models.FLASH
