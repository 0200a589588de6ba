"""Whole exchanges, byte for byte: whatever the split of DeepSeek's answer, the client gets the same."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from goldens.replay import Golden, goldens
from harness.machines import cut, events_of, judged
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

CASES = goldens()
EVENTS: TypeAdapter[ResponseStreamEvent] = TypeAdapter(ResponseStreamEvent)
every_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


@every_case
def test_deepseek_gets_the_same_body(case: Golden) -> None:
    """To the byte, and so in the same order: the upstream cache matches bytes."""
    sent = json.dumps(case.request().upstream, ensure_ascii=False)
    assert sent == json.dumps(json.loads(case.expected("upstream_request.json")), ensure_ascii=False)


@every_case
def test_deepseek_accepts_the_body(
    case: Golden, deepseek_check: Callable[[Any], tuple[int, str | None]]
) -> None:
    assert deepseek_check(json.loads(case.expected("upstream_request.json"))) == (200, None)


@every_case
def test_in_one_piece(case: Golden) -> None:
    assert case.streamed([case.upstream]) == case.expected("expected.sse")


@every_case
def test_byte_by_byte(case: Golden) -> None:
    pieces = (case.upstream[i : i + 1] for i in range(len(case.upstream)))
    assert case.streamed(pieces) == case.expected("expected.sse")


@settings(max_examples=60)
@given(st.sampled_from(CASES), st.lists(st.integers(0, 20_000), max_size=30))
def test_at_any_split(case: Golden, cuts: list[int]) -> None:
    assert case.streamed(cut(case.upstream, cuts)) == case.expected("expected.sse")


@every_case
def test_without_stream(case: Golden) -> None:
    assert case.whole() == json.loads(case.expected("expected.json"))


@every_case
def test_stream_and_whole_answer_say_the_same(case: Golden) -> None:
    final = judged(case.expected("expected.sse"))
    whole = json.loads(case.expected("expected.json"))
    if final["status"] == "failed":
        assert whole["error"]["code"] == final["error"]["code"]
    else:
        assert whole == final


@every_case
def test_openais_types_take_every_event(case: Golden) -> None:
    for event in events_of(case.expected("expected.sse")):
        if not event["type"].startswith("response.reasoning."):  # Open Responses' names, by setting alone
            EVENTS.validate_python(event, strict=True)
    whole = json.loads(case.expected("expected.json"))
    if "error" not in whole or whole["error"] is None:
        Response.model_validate(whole, strict=True)


def test_there_are_enough_of_them() -> None:
    assert len(CASES) >= 15
    assert {judged(case.expected("expected.sse"))["status"] for case in CASES} == {
        *("completed", "incomplete", "failed"),
    }
