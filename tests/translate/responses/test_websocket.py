"""Messages of WebSocket mode: what a client may send, and what it is told without a response."""

from __future__ import annotations

import json
from typing import Any

import pytest

from deepseek_proxy import errors
from deepseek_proxy.errors import InvalidRequest
from deepseek_proxy.translate.responses import websocket

MESSAGE = {"type": "response.create", "model": "deepseek-flash", "input": "hi"}


def test_a_message_is_the_body_of_a_stream() -> None:
    sent = {**MESSAGE, "stream": False, "stream_id": "a", "background": False, "generate": True}
    create = websocket.read(sent)
    assert create.body == {"model": "deepseek-flash", "input": "hi", "background": False, "stream": True}
    assert create.generate


def test_a_warm_up_generates_nothing() -> None:
    assert not websocket.read({**MESSAGE, "generate": False}).generate


@pytest.mark.parametrize(
    ("changes", "param", "code"),
    [
        ({"type": None}, "type", "missing_required_parameter"),
        ({"type": "response.cancel"}, "type", "invalid_value"),
        ({"type": 1}, "type", "invalid_type"),
        ({"background": True}, "background", "unsupported_parameter"),
        ({"generate": "no"}, "generate", "invalid_type"),
    ],
)
def test_what_cannot_be_meant_is_refused(changes: dict[str, Any], param: str, code: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        websocket.read({**MESSAGE, **changes})
    assert (refused.value.param, refused.value.code) == (param, code)


def test_a_lane_is_a_short_text() -> None:
    assert websocket.lane_of(MESSAGE) is None
    assert websocket.lane_of({"stream_id": "a"}) == "a"
    for wrong in (7, "a" * 257):
        with pytest.raises(InvalidRequest):
            websocket.lane_of({"stream_id": wrong})


def test_events_name_their_lane() -> None:
    events = [b'{"type":"a","delta":"}"}', b'{"type":"b"}']
    assert [json.loads(event) for event in websocket.on_lane(events, 'ü"')] == [
        {"type": "a", "delta": "}", "stream_id": 'ü"'},
        {"type": "b", "stream_id": 'ü"'},
    ]


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (
            InvalidRequest("No.", param="input[0]"),
            {
                "status": 400,
                "code": "invalid_request_error",
                "type": "invalid_request_error",
                "param": "input[0]",
            },
        ),
        (
            errors.ModelNotFound("No.", param="model"),
            {"status": 404, "code": "model_not_found", "type": "invalid_request_error", "param": "model"},
        ),
        (
            errors.QuotaExhausted("No."),
            {"status": 429, "code": "insufficient_quota", "type": "insufficient_quota", "param": None},
        ),
        (
            errors.Draining("No.", retry_after=3),
            {"status": 503, "code": "server_error", "type": "server_error", "param": None},
        ),
    ],
)
def test_a_failure_has_a_status_and_always_a_code(error: errors.ProxyError, expected: dict[str, Any]) -> None:
    told = json.loads(websocket.failure(error))
    assert told["type"] == "error"
    found = {"status": told["status"], **{key: told["error"][key] for key in ("code", "type", "param")}}
    assert found == expected
    assert told["error"]["message"] == "No."


def test_a_failure_says_when_to_try_again() -> None:
    told = json.loads(websocket.failure(errors.RateLimited("Too many.", retry_after=7)))["error"]
    assert told["headers"] == {"Retry-After": "7"}
    assert "try again in 7s" in told["message"]


def test_steering_fails_with_what_was_sent() -> None:
    told = json.loads(websocket.steering_failed({"previous_response_id": "resp_1", "input": "left!"}))
    assert told["type"] == "response.steer.failed"
    assert told["error"]["code"] == "steering_not_supported"
    assert told["steer"] == {"previous_response_id": "resp_1", "input": "left!"}
