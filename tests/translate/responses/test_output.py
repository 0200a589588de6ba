from __future__ import annotations

from functools import partial
from typing import Any

import pytest
from harness.machines import events_of, numbered_ids, seal
from openai.types.responses import ResponseOutputMessage, ResponseReasoningItem
from openai.types.responses.response_compaction_item import ResponseCompactionItem

from deepseek_proxy.translate.responses.emitter import Emitter
from deepseek_proxy.translate.responses.output import (
    CompactionItem,
    MessageItem,
    ReasoningItem,
    ReasoningOutput,
)
from deepseek_proxy.translate.sealed import Purpose

LOGPROB = {"token": "Hi", "logprob": -0.5, "bytes": [72, 105], "top_logprobs": []}


def message() -> MessageItem:
    return MessageItem(Emitter(), 2, numbered_ids())


def reasoning(form: ReasoningOutput = "summary") -> ReasoningItem:
    return ReasoningItem(Emitter(), 0, numbered_ids(), form, partial(seal, Purpose.REASONING))


def told(data: bytes) -> list[dict[str, Any]]:
    """The events without the keys that are the same in each."""
    common = ("item_id", "output_index", "sequence_number")
    return [{key: value for key, value in event.items() if key not in common} for event in events_of(data)]


# -- messages -------------------------------------------------------------------------------------


def test_a_message_from_added_to_done() -> None:
    item = message()
    data = item.open() + item.text(b'"Hel"') + item.text(b'"lo"') + item.close("completed")
    where = {"item_id": "msg_1", "output_index": 2}
    assert all(event.items() >= where.items() for event in events_of(data)[1:-1])
    shell = {"id": "msg_1", "type": "message", "role": "assistant"}
    part = {"type": "output_text", "text": "Hello", "annotations": [], "logprobs": []}
    assert told(data) == [
        {"type": "response.output_item.added", "item": {**shell, "status": "in_progress", "content": []}},
        {"type": "response.content_part.added", "content_index": 0, "part": {**part, "text": ""}},
        {"type": "response.output_text.delta", "content_index": 0, "delta": "Hel", "logprobs": []},
        {"type": "response.output_text.delta", "content_index": 0, "delta": "lo", "logprobs": []},
        {"type": "response.output_text.done", "content_index": 0, "text": "Hello", "logprobs": []},
        {"type": "response.content_part.done", "content_index": 0, "part": part},
        {"type": "response.output_item.done", "item": {**shell, "status": "completed", "content": [part]}},
    ]


def test_a_refusal_is_a_part_of_its_own() -> None:
    item = message()
    item.open()
    data = item.text(b'"Well"') + item.refusal(b'"No"') + item.refusal(b'"."') + item.close("completed")
    text = {"type": "output_text", "text": "Well", "annotations": [], "logprobs": []}
    no = {"type": "refusal", "refusal": "No."}
    assert told(data)[3:] == [
        {"type": "response.content_part.done", "content_index": 0, "part": text},
        {
            "type": "response.content_part.added",
            "content_index": 1,
            "part": {"type": "refusal", "refusal": ""},
        },
        {"type": "response.refusal.delta", "content_index": 1, "delta": "No"},
        {"type": "response.refusal.delta", "content_index": 1, "delta": "."},
        {"type": "response.refusal.done", "content_index": 1, "refusal": "No."},
        {"type": "response.content_part.done", "content_index": 1, "part": no},
        {
            "type": "response.output_item.done",
            "item": {
                "id": "msg_1",
                "type": "message",
                "status": "completed",
                "role": "assistant",
                "content": [text, no],
            },
        },
    ]


def test_logprobs_go_with_their_delta_and_are_gathered() -> None:
    item = message()
    item.open()
    data = item.text(b'"Hi"', [LOGPROB]) + item.text(b'"!"') + item.text(b'"?"', [LOGPROB])
    data += item.close("completed")
    events = told(data)
    assert [event["logprobs"] for event in events if event["type"].endswith("delta")] == [
        [LOGPROB],
        [],
        [LOGPROB],
    ]
    assert [event["delta"] for event in events if event["type"].endswith("delta")] == ["Hi", "!", "?"]
    assert events[-3]["logprobs"] == events[-2]["part"]["logprobs"] == [LOGPROB, LOGPROB]


@pytest.mark.parametrize("status", ["in_progress", "completed", "incomplete"])
def test_openais_model_takes_a_message(status: Any) -> None:
    item = message()
    item.text(b'"Hi"', [LOGPROB])
    item.refusal(b'"No."')
    ResponseOutputMessage.model_validate(item.current(status), strict=True)


# -- thinking -------------------------------------------------------------------------------------


def test_thinking_as_a_summary() -> None:
    item = reasoning()
    data = item.open() + item.text(b'"Hm"') + item.text(b'"m"') + item.close("completed")
    part = {"type": "summary_text", "text": "Hmm"}
    assert told(data) == [
        {"type": "response.output_item.added", "item": {"id": "rs_1", "type": "reasoning", "summary": []}},
        {"type": "response.reasoning_summary_part.added", "summary_index": 0, "part": {**part, "text": ""}},
        {"type": "response.reasoning_summary_text.delta", "summary_index": 0, "delta": "Hm"},
        {"type": "response.reasoning_summary_text.delta", "summary_index": 0, "delta": "m"},
        {"type": "response.reasoning_summary_text.done", "summary_index": 0, "text": "Hmm"},
        {"type": "response.reasoning_summary_part.done", "summary_index": 0, "part": part},
        {
            "type": "response.output_item.done",
            "item": {
                "id": "rs_1",
                "type": "reasoning",
                "summary": [part],
                "encrypted_content": "sealed reasoning: Hmm",
            },
        },
    ]
    assert item.plaintext == "Hmm"


@pytest.mark.parametrize(
    ("form", "event"),
    [("text", "response.reasoning_text"), ("openresponses", "response.reasoning")],
)
def test_thinking_as_text(form: ReasoningOutput, event: str) -> None:
    item = reasoning(form)
    data = item.open() + item.text(b'"Hm"') + item.close("completed")
    part = {"type": "reasoning_text", "text": "Hm"}
    assert told(data)[1:] == [
        {"type": "response.content_part.added", "content_index": 0, "part": {**part, "text": ""}},
        {"type": f"{event}.delta", "content_index": 0, "delta": "Hm"},
        {"type": f"{event}.done", "content_index": 0, "text": "Hm"},
        {"type": "response.content_part.done", "content_index": 0, "part": part},
        {
            "type": "response.output_item.done",
            "item": {
                "id": "rs_1",
                "type": "reasoning",
                "summary": [],
                "content": [part],
                "encrypted_content": "sealed reasoning: Hm",
            },
        },
    ]


def test_hidden_thinking_is_sealed_all_the_same() -> None:
    item = reasoning("hidden")
    data = item.open() + item.text(b'"Hm"') + item.close("completed")
    assert [event["type"] for event in told(data)] == [
        "response.output_item.added",
        "response.output_item.done",
    ]
    assert item.current("completed") == {
        "id": "rs_1",
        "type": "reasoning",
        "summary": [],
        "encrypted_content": "sealed reasoning: Hm",
    }


@pytest.mark.parametrize("form", ["summary", "text", "openresponses", "hidden"])
def test_empty_thinking_has_no_part(form: ReasoningOutput) -> None:
    item = reasoning(form)
    assert len(events_of(item.open() + item.close("completed"))) == 2
    assert item.current("completed")["encrypted_content"] == "sealed reasoning: "


@pytest.mark.parametrize("form", ["summary", "text", "hidden"])
def test_openais_model_takes_thinking(form: ReasoningOutput) -> None:
    item = reasoning(form)
    for data in (item.open(), item.text(b'"Hm"'), item.close("completed")):
        assert data or form == "hidden"
        ResponseReasoningItem.model_validate(item.current("completed"), strict=True)


# -- compactions ----------------------------------------------------------------------------------


def test_a_compaction_is_whole_from_the_start() -> None:
    item = CompactionItem(Emitter(), numbered_ids(), "token")
    events = events_of(item.open() + item.close("completed"))
    shown = {"id": "cmp_1", "type": "compaction", "encrypted_content": "token"}
    assert [(event["type"], event["output_index"]) for event in events] == [
        ("response.output_item.added", 0),
        ("response.output_item.done", 0),
    ]
    assert all(event["item"].items() >= shown.items() for event in events)
    ResponseCompactionItem.model_validate(item.current("completed"), strict=True)
