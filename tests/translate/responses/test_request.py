from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson
import pytest
from harness.histories import PNG
from harness.machines import context, seal

from deepseek_proxy.errors import InvalidRequest, ModelNotFound
from deepseek_proxy.models import FLASH, PRO, resolve
from deepseek_proxy.translate import schema
from deepseek_proxy.translate.responses import compaction
from deepseek_proxy.translate.responses.request import ResponsesRequest, parse
from deepseek_proxy.translate.sealed import Purpose
from deepseek_proxy.translate.tools import STUB_DESCRIPTION

TOOL = {"type": "function", "name": "read", "parameters": {"type": "object", "properties": {}}}
CALLED = [
    {"role": "user", "content": "Read it."},
    {"type": "function_call", "call_id": "c", "name": "read", "arguments": "{}"},
    {"type": "function_call_output", "call_id": "c", "output": "text"},
]
ON = {"thinking": {"type": "enabled"}, "reasoning_effort": "high"}
OFF = {"thinking": {"type": "disabled"}}


def read(body: dict[str, Any], **changes: Any) -> ResponsesRequest:
    return parse({"model": "deepseek-flash", "input": "Hi", **body}, context(**changes))


def upstream(**body: Any) -> dict[str, Any]:
    return read(body).upstream


def system(**body: Any) -> str | None:
    """The text of the leading system message, if there is one."""
    first = upstream(**body)["messages"][0]
    return first["content"] if first["role"] == "system" else None


def refusal(body: dict[str, Any]) -> tuple[str, str | None, str | None]:
    """(message, param, code) of the error."""
    with pytest.raises((InvalidRequest, ModelNotFound)) as caught:
        read(body)
    return caught.value.message, caught.value.param, caught.value.code


# -- the whole body -------------------------------------------------------------------------------


def test_the_smallest_request() -> None:
    request = read({})
    assert request.upstream == {
        "model": "deepseek-flash",
        "messages": [{"role": "user", "content": "Hi"}],
        **ON,
        "stream": False,
    }
    assert (request.stream, request.obfuscate, request.parallel_tool_calls) == (False, False, True)
    assert (request.structured, request.compacted_texts) == (None, None)
    assert (dict(request.notes), request.unknown_fields) == ({}, ())
    assert request.permitted("anything")


def test_everything_has_its_place_and_its_order() -> None:
    """The order of keys is part of the bytes."""
    body = upstream(
        model="deepseek-v4-pro",
        instructions="Be brief.",
        input=[{"role": "developer", "content": "And kind."}, {"role": "user", "content": "Hi"}],
        reasoning={"effort": "max"},
        tools=[TOOL],
        tool_choice="none",
        text={"format": {"type": "json_object"}, "verbosity": "low"},
        max_output_tokens=100,
        temperature=0.5,
        stream=True,
        user="me",
    )
    hints = f"Keep answers short: only what was asked for.\n\n{schema.JSON_INSTRUCTION}"
    assert orjson.dumps(body) == orjson.dumps(
        {
            "model": "deepseek-v4-pro",
            "messages": [
                {"role": "system", "content": f"Be brief.\n\nAnd kind.\n\n{hints}"},
                {"role": "user", "content": "Hi"},
            ],
            "thinking": {"type": "enabled"},
            "reasoning_effort": "max",
            "tools": [{"type": "function", "function": {"name": "read", "parameters": TOOL["parameters"]}}],
            "tool_choice": "none",
            "response_format": {"type": "json_object"},
            "max_tokens": 100,
            "temperature": 0.5,
            "user_id": body["user_id"],
            "stream": True,
            "stream_options": {"include_usage": True},
        }
    )


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("client_metadata", {"anything": 1}),
        ("service_tier", "flex"),
        ("store", True),
        ("context_management", [{"type": "compaction", "compact_threshold": 1000}]),
        ("prompt_cache_key", "thread-1"),
        ("truncation", "auto"),
    ],
)
def test_fields_without_meaning_here_change_nothing(key: str, value: Any) -> None:
    request = read({key: value})
    assert request.upstream == read({}).upstream
    assert request.unknown_fields == ()


def test_unknown_fields_are_ignored_and_named() -> None:
    request = read({"frobnicate": 1, "image": {"x": 1}})
    assert request.upstream == read({}).upstream
    assert request.unknown_fields == ("frobnicate", "image")


# -- models ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "model", "fields"),
    [
        ("deepseek-flash", FLASH, ON),
        ("deepseek-v4-pro", PRO, ON),
        ("deepseek-v4-flash", FLASH, ON),
        ("deepseek-chat", FLASH, OFF),
        ("deepseek-reasoner", FLASH, ON),
        ("deepseek-v3", FLASH, OFF),
        ("deepseek-r1", FLASH, ON),
    ],
)
def test_a_name_stands_for_a_model_and_its_mode(name: str, model: Any, fields: dict[str, Any]) -> None:
    request = read({"model": name})
    assert request.upstream["model"] == model.id
    assert request.upstream.items() >= fields.items()
    assert request.resolved.requested == name


def test_an_unknown_name_is_not_found_unless_the_operator_maps_it() -> None:
    assert refusal({"model": "gpt-9"}) == (
        "The requested model 'gpt-9' does not exist.",
        "model",
        "model_not_found",
    )
    mapped = read({"model": "gpt-9"}, resolve=lambda name: resolve(name, {}, "deepseek-v4-pro"))
    assert mapped.upstream["model"] == "deepseek-v4-pro"


# -- thinking -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("effort", "fields", "echoed"),
    [
        (None, ON, "high"),
        ("none", OFF, "none"),
        ("minimal", {**ON, "reasoning_effort": "low"}, "minimal"),
        ("low", {**ON, "reasoning_effort": "low"}, "low"),
        ("medium", ON, "medium"),
        ("high", ON, "high"),
        ("xhigh", ON, "xhigh"),
        ("max", {**ON, "reasoning_effort": "max"}, "max"),
        ("ultra", {**ON, "reasoning_effort": "max"}, "ultra"),
        ("heroic", ON, "heroic"),
    ],
)
def test_effort_is_mapped_and_the_clients_word_repeated(
    effort: str | None, fields: dict[str, Any], echoed: str
) -> None:
    request = read({"reasoning": {"effort": effort, "summary": "auto"}})
    assert {key: value for key, value in request.upstream.items() if key in ON} == fields
    assert request.echo["reasoning"].items() >= {"effort": echoed, "summary": "auto"}.items()


@pytest.mark.parametrize("choice", ["required", {"type": "function", "name": "read"}])
def test_a_forced_call_and_thinking_exclude_each_other(choice: Any) -> None:
    request = read({"tools": [TOOL], "tool_choice": choice, "reasoning": {"effort": "high"}})
    assert request.upstream.items() >= OFF.items()
    assert "reasoning_effort" not in request.upstream


# -- tools ----------------------------------------------------------------------------------------


def test_tool_choice_is_a_hard_constraint() -> None:
    both = [TOOL, {**TOOL, "name": "write"}]
    for choice, permitted in (
        ("auto", ["read", "write"]),
        ("none", []),
        ({"type": "function", "name": "write"}, ["write"]),
        ({"type": "allowed_tools", "mode": "auto", "tools": [TOOL]}, ["read"]),
    ):
        request = read({"tools": both, "tool_choice": choice})
        assert [name for name in ("read", "write") if request.permitted(name)] == permitted


def test_without_tools_no_tool_fields_are_sent() -> None:
    for body in (
        {},
        {"tools": []},
        {"tools": None},
        {"tools": [{"type": "file_search"}]},
        {"tool_choice": "none"},
    ):
        assert upstream(**body).keys() == upstream().keys()


def test_tools_that_only_the_history_knows_are_declared_as_gone() -> None:
    """Without any declaration the model writes raw tool markup."""
    declared = upstream(input=CALLED)["tools"]
    assert [(entry["function"]["name"], entry["function"]["description"]) for entry in declared] == [
        ("read", STUB_DESCRIPTION)
    ]
    assert (
        upstream(input=CALLED, tools=[{**TOOL, "name": "write"}])["tools"][0]["function"]["name"] == "write"
    )
    assert len(upstream(input=CALLED, tools=[TOOL])["tools"]) == 1


def test_tools_inside_items_are_declared_and_may_be_chosen() -> None:
    item = {"type": "additional_tools", "role": "developer", "tools": [TOOL]}
    body = upstream(input=[item, {"role": "user", "content": "Hi"}], tool_choice=TOOL)
    assert [entry["function"]["name"] for entry in body["tools"]] == ["read"]
    assert body["tool_choice"] == {"type": "function", "function": {"name": "read"}}
    assert body["messages"] == [{"role": "user", "content": "Hi"}]


def test_an_errand_needs_neither_thinking_nor_tools() -> None:
    body = {"tools": [TOOL], "tool_choice": "required", "reasoning": {"effort": "high"}}
    request = read(body, errand=True)
    assert request.upstream == {**upstream(reasoning={"effort": "none"})}
    assert request.echo["reasoning"]["effort"] == "high"


# -- how the answer shall look --------------------------------------------------------------------

SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}}
JSON_SCHEMA = {"type": "json_schema", "name": "reply", "schema": SCHEMA, "strict": True}


@pytest.mark.parametrize(
    ("opening", "told"),
    [
        ({"input": "Hi"}, True),
        ({"input": "Hi", "instructions": "Be brief."}, True),
        ({"input": "Answer in JSON."}, False),
        ({"input": "Hi", "instructions": "Write json"}, False),
        ({"input": [{"role": "system", "content": "JSON!"}, {"role": "user", "content": "Hi"}]}, False),
        ({"input": [{"role": "assistant", "content": "json"}, {"role": "user", "content": "Hi"}]}, True),
    ],
)
def test_json_mode_has_the_word_json_in_the_prompt(opening: dict[str, Any], told: bool) -> None:
    body = upstream(**opening, text={"format": {"type": "json_object"}})
    assert body["response_format"] == {"type": "json_object"}
    first = body["messages"][0]
    assert (first["role"] == "system" and first["content"].endswith(schema.JSON_INSTRUCTION)) is told


def test_the_word_json_later_on_does_not_change_the_beginning() -> None:
    """The hint must not go away when somebody says the word: every cached message is behind it."""
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "{}"}]
    later = [*turns, {"role": "user", "content": "JSON again, please"}]
    before, after = (
        upstream(input=items, text={"format": {"type": "json_object"}})["messages"]
        for items in (turns, later)
    )
    assert after[: len(before)] == before


def test_a_schema_is_told_to_the_model_and_kept_to_check_the_answer() -> None:
    request = read({"text": {"format": JSON_SCHEMA}, "tools": [TOOL], "instructions": "Be brief."})
    assert request.structured is not None
    assert request.structured.schema == SCHEMA
    assert request.upstream["response_format"] == {"type": "json_object"}
    assert "tools" in request.upstream
    told = request.upstream["messages"][0]["content"]
    assert told == f"Be brief.\n\n{request.structured.instruction}"


@pytest.mark.parametrize("verbosity", ["low", "medium", "high", None])
def test_verbosity_is_a_sentence_behind_the_system_text(verbosity: str | None) -> None:
    told = system(instructions="Be kind.", text={"verbosity": verbosity})
    assert told is not None
    assert told.startswith("Be kind.")
    assert (told != "Be kind.") is (verbosity in ("low", "high"))


def test_a_hint_stands_alone_where_there_is_no_system_text() -> None:
    assert system() is None
    assert system(text={"verbosity": "low"}) == "Keep answers short: only what was asked for."


# -- what the conversation is built of ------------------------------------------------------------


def test_repairs_and_omissions_are_counted() -> None:
    items = [*CALLED[:2], {"type": "file_search_call"}, {"role": "user", "content": "Well?"}]
    assert dict(read({"input": items, "tools": [{"type": "file_search"}]}).notes) == {
        "item_left_out": 1,
        "missing_reasoning": 1,
        "missing_result": 1,
        "tool_left_out": 1,
    }


@pytest.mark.parametrize(
    ("thinking", "reasoning"),
    [
        (
            [{"type": "reasoning", "summary": [], "encrypted_content": seal(Purpose.REASONING, "Sealed.")}],
            "Sealed.",
        ),
        ([], "Recalled."),
    ],
)
def test_thinking_is_found_where_it_can_be(thinking: list[Any], reasoning: str) -> None:
    items = [CALLED[0], *thinking, *CALLED[1:]]
    request = read({"input": items}, recall={"c": "Recalled."}.get)
    assert request.upstream["messages"][1]["reasoning_content"] == reasoning


@pytest.mark.parametrize(("model", "sees"), [("deepseek-flash", True), ("deepseek-v4-pro", False)])
def test_images_go_to_the_model_that_sees(model: str, sees: bool) -> None:
    items = [{"role": "user", "content": [{"type": "input_image", "image_url": PNG}]}]
    content = upstream(model=model, input=items)["messages"][0]["content"]
    assert (content == [{"type": "image_url", "image_url": {"url": PNG}}]) is sees
    assert PNG not in str(content) or sees


@pytest.mark.parametrize("by_item", [True, False])
def test_a_compaction_is_the_conversation_and_a_last_wish(by_item: bool) -> None:
    trigger = [{"type": "compaction_trigger"}] if by_item else []
    body = {"model": "deepseek-flash", "input": [*CALLED, *trigger]}
    request = parse(body, context(), compact=not by_item)
    assert request.compacted_texts == ("Read it.",)
    messages = request.upstream["messages"]
    assert messages[:-1] == upstream(input=CALLED)["messages"]
    assert messages[-1] == {"role": "user", "content": compaction.PROMPT}


# -- refusals -------------------------------------------------------------------------------------

MISSING = "missing_required_parameter"


@pytest.mark.parametrize(
    ("body", "param", "code"),
    [
        ({"model": None}, "model", MISSING),
        ({"model": 5}, "model", "invalid_type"),
        ({"input": None}, "input", MISSING),
        ({"input": []}, "input", MISSING),
        ({"input": {}}, "input", "invalid_type"),
        ({"instructions": ["Be brief."]}, "instructions", "invalid_type"),
        ({"stream": "yes"}, "stream", "invalid_type"),
        ({"stream_options": True}, "stream_options", "invalid_type"),
        (
            {"stream_options": {"include_obfuscation": 1}},
            "stream_options.include_obfuscation",
            "invalid_type",
        ),
        ({"parallel_tool_calls": "no"}, "parallel_tool_calls", "invalid_type"),
        ({"reasoning": "high"}, "reasoning", "invalid_type"),
        ({"reasoning": {"effort": 3}}, "reasoning.effort", "invalid_type"),
        ({"text": "json"}, "text", "invalid_type"),
        ({"text": {"format": "json"}}, "text.format", "invalid_type"),
        ({"text": {"format": {"name": "x"}}}, "text.format.type", MISSING),
        ({"text": {"format": {"type": "xml"}}}, "text.format.type", "invalid_value"),
        ({"text": {"verbosity": "chatty"}}, "text.verbosity", "invalid_value"),
        ({"text": {"format": {**JSON_SCHEMA, "name": None}}}, "text.format.name", MISSING),
        ({"text": {"format": {**JSON_SCHEMA, "strict": "yes"}}}, "text.format.strict", "invalid_type"),
        ({"text": {"format": {**JSON_SCHEMA, "schema": []}}}, "text.format.schema", "invalid_json_schema"),
        ({"tools": {}}, "tools", "invalid_type"),
        ({"tool_choice": "always"}, "tool_choice", "invalid_value"),
        ({"tool_choice": "required"}, "tool_choice", None),
        ({"prompt": {"id": "pmpt_1"}}, "prompt", "unsupported_parameter"),
        ({"temperature": 3}, "temperature", "decimal_above_max_value"),
        ({"metadata": {"a": 1}}, "metadata.a", "invalid_type"),
    ],
)
def test_a_refusal_names_the_field(body: dict[str, Any], param: str, code: str | None) -> None:
    message, where, reason = refusal(body)
    assert (where, reason) == (param, code)
    assert message


def test_instructions_alone_are_a_conversation(
    deepseek_check: Callable[[Any], tuple[int, str | None]],
) -> None:
    body = upstream(input=[], instructions="Say hello.")
    assert body["messages"] == [{"role": "system", "content": "Say hello."}]
    assert deepseek_check(body) == (200, None)


def test_obfuscation_is_only_for_who_asks() -> None:
    assert read({"stream_options": {"include_obfuscation": True}}).obfuscate
    assert not read({"stream": True, "stream_options": {"include_obfuscation": False}}).obfuscate
