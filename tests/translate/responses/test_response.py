from __future__ import annotations

import tracemalloc
from typing import Any

import pytest
from harness.machines import COMPLETED, CREATED
from harness.responses_grammar import NEVER_NULL, RESPONSE_KEYS
from openai.types.responses import Response

from deepseek_proxy.translate import jsontext
from deepseek_proxy.translate.hub import Usage
from deepseek_proxy.translate.responses import parameters
from deepseek_proxy.translate.responses.response import Envelope, Status
from deepseek_proxy.translate.usage import responses_usage

ECHO = parameters.echo({}, "high", parallel=True)
MESSAGE = {
    "id": "msg_1",
    "type": "message",
    "status": "completed",
    "role": "assistant",
    "content": [{"type": "output_text", "text": "Hi", "annotations": [], "logprobs": []}],
}
STATES: list[tuple[Status, dict[str, Any]]] = [
    ("in_progress", {}),
    ("completed", {"completed_at": COMPLETED, "usage": responses_usage(Usage(40, 32, 9, 4))}),
    ("incomplete", {"incomplete_reason": "max_output_tokens"}),
    ("failed", {"error": {"code": "server_error", "message": "Gone."}}),
]


def snapshot(status: Status, **state: Any) -> dict[str, Any]:
    return Envelope("resp_1", CREATED, "gpt-x", ECHO).snapshot(status, [MESSAGE], **state)


@pytest.mark.parametrize(("status", "state"), STATES)
def test_every_key_is_there_in_every_state(status: Status, state: dict[str, Any]) -> None:
    response = snapshot(status, **state)
    assert response.keys() == RESPONSE_KEYS
    assert [key for key in NEVER_NULL if response[key] is None] == []
    assert (response["id"], response["created_at"], response["model"]) == ("resp_1", CREATED, "gpt-x")
    assert (response["status"], response["output"]) == (status, [MESSAGE])
    Response.model_validate(response, strict=True)


def test_each_state_says_what_is_its_own() -> None:
    shown = {status: snapshot(status, **state) for status, state in STATES}
    assert [(status, shown[status]["completed_at"]) for status, _ in STATES] == [
        *(("in_progress", None), ("completed", COMPLETED), ("incomplete", None), ("failed", None)),
    ]
    assert shown["incomplete"]["incomplete_details"] == {"reason": "max_output_tokens"}
    assert shown["completed"]["incomplete_details"] is None
    assert shown["failed"]["error"] == {"code": "server_error", "message": "Gone."}
    assert shown["completed"]["error"] is None


def test_the_tier_is_what_was_asked_for_and_then_what_served() -> None:
    assert [snapshot(status, **state)["service_tier"] for status, state in STATES] == [
        *("auto", "default", "default", "default"),
    ]


def test_output_is_copied() -> None:
    items: list[dict[str, Any]] = []
    response = Envelope("resp_1", CREATED, "gpt-x", ECHO).snapshot("in_progress", items)
    items.append(MESSAGE)
    assert response["output"] == []


def test_a_waiting_stream_holds_no_more_than_the_json_of_its_echo() -> None:
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        envelopes = [Envelope(f"resp_{n}", CREATED, "deepseek-v4-flash", ECHO) for n in range(100)]
        held = (tracemalloc.get_traced_memory()[0] - before) / len(envelopes)
    finally:
        tracemalloc.stop()
    assert held < len(jsontext.dumps(ECHO)) + 500
