"""A compaction in front of an answer: when it comes, what is asked, and what the next request brings."""

from __future__ import annotations

from typing import Any

import pytest
from harness.machines import context, seal

from deepseek_proxy.errors import InvalidRequest
from deepseek_proxy.translate.history import ToolCall
from deepseek_proxy.translate.responses.compaction import PROMPT, Compaction
from deepseek_proxy.translate.responses.request import ResponsesRequest, parse
from deepseek_proxy.translate.sealed import Purpose

LONG = "some words that are read and soon forgotten " * 60
MANAGED = [{"type": "compaction", "compact_threshold": 1_000}]
TOOL = {"type": "function", "name": "shell", "parameters": {"type": "object", "properties": {}}}
WORK: list[dict[str, Any]] = [
    {"role": "developer", "content": "Be careful."},
    {"role": "user", "content": "Look around."},
    {"type": "function_call", "call_id": "c1", "name": "shell", "arguments": "{}"},
    {"type": "function_call_output", "call_id": "c1", "output": LONG},
    {"role": "assistant", "content": LONG},
    {"role": "user", "content": "Now fix it."},
]


def ask(items: list[dict[str, Any]] = WORK, **fields: Any) -> ResponsesRequest:
    body = {
        "model": "deepseek-flash",
        "instructions": "Work.",
        "tools": [TOOL],
        "input": items,
        "context_management": MANAGED,
        **fields,
    }
    return parse(body, context())


def answer_body(parsed: ResponsesRequest, summary: str) -> dict[str, Any]:
    """What is sent once the summary is there."""
    assert parsed.next_turn is not None
    assert parsed.compacted_texts is not None
    assert parsed.kept_texts is not None
    return parsed.next_turn(Compaction(summary, parsed.compacted_texts).expand(parsed.kept_texts), 500)


def test_a_short_conversation_is_answered_as_ever() -> None:
    parsed = ask(WORK[:2])
    assert (parsed.compacted_texts, parsed.kept_texts, parsed.next_turn) == (None, None, None)
    assert parsed.upstream == ask(WORK[:2], context_management=None).upstream


@pytest.mark.parametrize("threshold", [100_000, None])
def test_a_high_threshold_is_not_reached(threshold: int | None) -> None:
    managed = [{"type": "compaction", "compact_threshold": threshold}]
    assert ask(context_management=managed).upstream == ask(context_management=None).upstream


def test_above_the_threshold_the_model_writes_a_summary_first() -> None:
    plain, parsed = ask(context_management=None), ask()
    assert parsed.upstream["messages"] == [*plain.upstream["messages"], {"role": "user", "content": PROMPT}]
    assert {name: parsed.upstream[name] for name in ("tools", "model", "thinking")} == {
        name: plain.upstream[name] for name in ("tools", "model", "thinking")
    }


def test_the_answer_goes_on_from_the_summary() -> None:
    body = answer_body(ask(), "They looked around.")
    assert [message["role"] for message in body["messages"]] == ["system", "user", "user", "user"]
    assert body["messages"][0]["content"] == "Work.\n\nBe careful."
    assert [message["content"] for message in body["messages"][1:3]] == ["Look around.", "Now fix it."]
    assert body["messages"][3]["content"].endswith("They looked around.")


def test_limits_and_forms_of_the_answer_are_not_the_summarys() -> None:
    parsed = ask(
        max_output_tokens=50,
        top_logprobs=3,
        tool_choice="required",
        text={"format": {"type": "json_object"}},
    )
    wanted = {
        "max_tokens": 50,
        "top_logprobs": 3,
        "logprobs": True,
        "tool_choice": "required",
        "response_format": {"type": "json_object"},
    }
    assert not wanted.keys() & parsed.upstream.keys()
    body = answer_body(parsed, "Done.")
    assert {name: body[name] for name in wanted} == wanted
    assert parsed.next_turn is not None
    assert "tool_choice" not in parsed.next_turn([ToolCall("c9", "shell", "{}")], 0)


def test_tools_that_must_not_be_used_are_still_not_to_be_used() -> None:
    parsed = ask(tool_choice="none")
    assert parsed.next_turn is not None
    assert parsed.next_turn([ToolCall("c9", "shell", "{}")], 0)["tool_choice"] == "none"


def test_what_is_sent_for_the_next_request_begins_with_the_same_bytes() -> None:
    """Be it that the client keeps the whole conversation beside the item, or the user's messages alone."""
    parsed = ask()
    assert parsed.compacted_texts is not None
    sealed = seal(Purpose.COMPACTION, Compaction("They looked around.", parsed.compacted_texts).pack())
    before = answer_body(parsed, "They looked around.")["messages"]
    output = [
        {"type": "compaction", "id": "cmp_1", "encrypted_content": sealed},
        {"role": "assistant", "content": "Fixed."},
    ]
    asked = {"role": "user", "content": "Thanks."}
    users = [item for item in WORK if item.get("role") in ("user", "developer")]
    for items in (WORK, users):
        after = ask([*items, *output, asked])
        assert after.upstream["messages"][: len(before)] == before
        assert after.kept_texts is None, "it is short again"


def test_a_compaction_is_compacted_in_its_turn() -> None:
    first = ask()
    assert first.compacted_texts is not None
    sealed = seal(Purpose.COMPACTION, Compaction("First summary.", first.compacted_texts).pack())
    later = [
        {"type": "compaction", "encrypted_content": sealed},
        {"role": "assistant", "content": LONG * 2},
        {"role": "user", "content": "And now?"},
    ]
    second = ask([*WORK, *later])
    assert second.compacted_texts == ("Look around.", "Now fix it.", "And now?")
    body = answer_body(second, "Second summary.")
    texts = " ".join(message["content"] for message in body["messages"])
    assert "First summary." not in texts
    assert texts.count("Look around.") == 1
    pruned = ask(later)
    assert pruned.compacted_texts == ("Look around.", "Now fix it.", "And now?")
    texts = " ".join(message["content"] for message in answer_body(pruned, "Second summary.")["messages"])
    assert all(texts.count(text) == 1 for text in ("Look around.", "Now fix it.", "And now?"))


def test_an_item_that_does_not_open_replaces_nothing() -> None:
    items = [*WORK, {"type": "compaction", "encrypted_content": "foreign"}]
    parsed = ask(items, context_management=None)
    assert parsed.upstream["messages"] == ask(context_management=None).upstream["messages"]


REFUSED: list[tuple[Any, str]] = [
    ("compaction", "context_management"),
    (["compaction"], "context_management[0]"),
    ([{}], "context_management[0].type"),
    ([{"type": "clear"}], "context_management[0].type"),
    ([{"type": "compaction", "compact_threshold": 999}], "context_management[0].compact_threshold"),
    ([{"type": "compaction", "compact_threshold": "many"}], "context_management[0].compact_threshold"),
]


@pytest.mark.parametrize(("value", "param"), REFUSED)
def test_what_means_nothing_is_refused(value: Any, param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        ask(context_management=value)
    assert caught.value.param == param
