from __future__ import annotations

import json

import pytest
from harness.machines import events_of

from deepseek_proxy.translate.responses.emitter import DeltaTemplate, Emitter

WHERE = {"item_id": "msg_1", "output_index": 0, "content_index": 0}


def test_events_are_numbered_from_zero_without_gaps() -> None:
    emit = Emitter()
    template = DeltaTemplate("response.refusal.delta", WHERE)
    data = emit.event("a", {"x": 1}) + emit.lifecycle("b", b'{"id":"resp_1"}')
    data += emit.delta(template, b'"Hi"') + emit.event("c", {})
    assert events_of(data) == [
        {"type": "a", "sequence_number": 0, "x": 1},
        {"type": "b", "sequence_number": 1, "response": {"id": "resp_1"}},
        {"type": "response.refusal.delta", **WHERE, "delta": "Hi", "sequence_number": 2},
        {"type": "c", "sequence_number": 3},
    ]


def test_a_frame_is_two_lines_and_a_blank_one() -> None:
    assert Emitter().event("a", {"x": "\n"}) == (
        b'event: a\ndata: {"type":"a","sequence_number":0,"x":"\\n"}\n\n'
    )
    assert Emitter().lifecycle("b", b"{}") == (
        b'event: b\ndata: {"type":"b","sequence_number":0,"response":{}}\n\n'
    )


@pytest.mark.parametrize("trailing", [None, {"logprobs": []}])
def test_a_delta_is_the_template_and_a_string(trailing: dict[str, object] | None) -> None:
    template = DeltaTemplate("response.output_text.delta", WHERE, trailing)
    text = '"quoted"\n\\ ü 😀 \x00'
    (event,) = events_of(Emitter().delta(template, json.dumps(text, ensure_ascii=False).encode()))
    assert event == {
        "type": "response.output_text.delta",
        **WHERE,
        "delta": text,
        **(trailing or {}),
        "sequence_number": 0,
    }


@pytest.mark.parametrize("length", range(40))
def test_padding_makes_every_delta_a_multiple_of_sixteen(length: int) -> None:
    emit = Emitter(lambda size: "x" * size)
    template = DeltaTemplate("response.output_text.delta", WHERE, {"logprobs": []})
    literal = b'"' + b"a" * length + b'"'
    (event,) = events_of(emit.delta(template, literal))
    assert event["delta"] == "a" * length
    assert event["obfuscation"] == "x" * len(event["obfuscation"])
    assert event["obfuscation"]
    assert (len(literal) + len(event["obfuscation"])) % 16 == 0
