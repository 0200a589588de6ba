"""What the exchanges of Responses hold: a stream and a whole answer that agree, in OpenAI's types."""

from __future__ import annotations

import json

import pytest
from goldens.replay import Golden, goldens
from harness.machines import events_of, judged
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

CASES = goldens()
EVENTS: TypeAdapter[ResponseStreamEvent] = TypeAdapter(ResponseStreamEvent)
every_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


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
