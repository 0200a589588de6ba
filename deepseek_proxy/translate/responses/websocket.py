"""What travels in WebSocket mode besides the events of a response: a client's messages, and failures.

A message asks for one response, with the body of a `POST /v1/responses`. Its events are those of the stream,
one message each. Refuses to know connections, and how a body is answered.

Source: the client and server events of OpenAI's WebSocket mode (openai-python 3.52), Open Responses of
2026-04-24.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from deepseek_proxy.errors import InvalidRequest, ProxyError
from deepseek_proxy.translate import fields, jsontext, openai_errors
from deepseek_proxy.translate.responses import errors

CREATE: Final = "response.create"
STEER: Final = "response.steer"
_ENVELOPE: Final = ("type", "generate", "stream", "stream_id")
_MAX_LANE_CHARACTERS: Final = 256


@dataclass(frozen=True, slots=True)
class Create:
    """`body` is that of a streamed POST. `generate` is false for a warm-up: the response says nothing, and
    others can go on from it."""

    body: Mapping[str, Any]
    generate: bool


def read(message: Mapping[str, Any]) -> Create:
    """Reads a message of the type `response.create`. Raises `InvalidRequest`."""
    if fields.choice(message, "type", (CREATE,)) is None:
        raise fields.missing("type")
    if fields.boolean(message, "background", False):
        raise InvalidRequest(
            "Background responses are not available over WebSocket: use POST.",
            param="background",
            code="unsupported_parameter",
        )
    body = {name: value for name, value in message.items() if name not in _ENVELOPE}
    return Create({**body, "stream": True}, fields.boolean(message, "generate", True))


def lane_of(message: Mapping[str, Any]) -> str | None:
    """The lane on which a message is to be answered. Raises `InvalidRequest`."""
    lane = fields.string(message, "stream_id")
    if lane is not None and len(lane) > _MAX_LANE_CHARACTERS:
        raise fields.invalid_value(
            "stream_id", f"too long. Expected at most {_MAX_LANE_CHARACTERS} characters."
        )
    return lane


def on_lane(events: Iterable[bytes], lane: str) -> list[bytes]:
    """`events`, which are JSON objects, with the lane that they belong to."""
    tail = b',"stream_id":' + jsontext.dumps(lane) + b"}"
    return [event[:-1] + tail for event in events]


def failure(error: ProxyError) -> bytes:
    """The message for a request that got no response. The connection stays open."""
    told = errors.stream_fields(error)
    if error.code is None:
        told["code"] = told["type"]
    told["headers"] = openai_errors.http_headers(error)
    return jsontext.dumps({"type": "error", "status": openai_errors.http_status(error), "error": told})


def steering_failed(message: Mapping[str, Any]) -> bytes:
    """The answer to a message of the type `response.steer`: DeepSeek takes no word while it answers."""
    return jsontext.dumps(
        {
            "type": "response.steer.failed",
            "sequence_number": 0,
            "error": {
                "type": "invalid_request_error",
                "code": "steering_not_supported",
                "message": "DeepSeek's models cannot be steered. Send the input with a 'response.create'.",
            },
            "steer": {name: message.get(name) for name in ("previous_response_id", "input")},
        }
    )
