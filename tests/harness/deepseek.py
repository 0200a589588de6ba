"""The bytes DeepSeek sends: chunks, whole answers and error bodies, and the handlers that behave well.

Shapes: "Create Chat Completion" and "Error Codes" of DeepSeek's docs, Nov 2026, and recorded streams; the
error texts are the service's own. Refuses to know the gateway.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any, Final

from harness.wire import Handler, Request, Wire

DONE: Final = b"data: [DONE]\n\n"
KEEP_ALIVE: Final = b": keep-alive\n\n"
USAGE: Final = {
    "prompt_tokens": 40,
    "completion_tokens": 9,
    "total_tokens": 49,
    "prompt_tokens_details": {"cached_tokens": 32},
    "completion_tokens_details": {"reasoning_tokens": 4},
    "prompt_cache_hit_tokens": 32,
    "prompt_cache_miss_tokens": 8,
}


def event(payload: Any) -> bytes:
    """One frame of the stream."""
    return b"data: " + json.dumps(payload, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n"


def chunk(
    delta: dict[str, Any], *, finish: str | None = None, usage: dict[str, Any] | None = None
) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
    return {
        "id": "9e2c1c9a-7f55-4b9a-9d51-0f6f2f8e5a11",
        "object": "chat.completion.chunk",
        "created": 1_795_000_000,
        "model": "deepseek-flash",
        "system_fingerprint": "fp_test",
        "choices": [choice],
        "usage": usage,
    }


def opening() -> bytes:
    """The first frame: a role and an empty piece of thinking."""
    return event(chunk({"role": "assistant", "content": None, "reasoning_content": ""}))


def thinking(text: str) -> bytes:
    return event(chunk({"content": None, "reasoning_content": text}))


def text(content: str) -> bytes:
    return event(chunk({"content": content, "reasoning_content": None}))


def call(index: int, call_id: str, name: str) -> bytes:
    function = {"name": name, "arguments": ""}
    return event(
        chunk({"tool_calls": [{"index": index, "id": call_id, "type": "function", "function": function}]})
    )


def arguments(index: int, fragment: str) -> bytes:
    return event(chunk({"tool_calls": [{"index": index, "function": {"arguments": fragment}}]}))


def last(reason: str = "stop") -> bytes:
    """The frame with the finish reason and the usage."""
    return event(chunk({"content": "", "reasoning_content": None}, finish=reason, usage=USAGE))


def frames(
    content: Sequence[str] = ("Hel", "lo"), thoughts: Sequence[str] = (), reason: str = "stop"
) -> list[bytes]:
    """A whole good stream, frame by frame."""
    middle = [*map(thinking, thoughts), *map(text, content)]
    return [opening(), *middle, last(reason), DONE]


def completion(content: str = "Hello", thoughts: str = "", reason: str = "stop") -> bytes:
    """A whole answer that is not streamed."""
    message: dict[str, Any] = {"role": "assistant", "content": content}
    if thoughts:
        message["reasoning_content"] = thoughts
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": reason}
    body = {
        "id": "9e2c1c9a-7f55-4b9a-9d51-0f6f2f8e5a11",
        "object": "chat.completion",
        "created": 1_795_000_000,
        "model": "deepseek-flash",
        "system_fingerprint": "fp_test",
        "choices": [choice],
        "usage": USAGE,
    }
    return json.dumps(body, ensure_ascii=False).encode()


def answers(content: Sequence[str] = ("Hel", "lo"), thoughts: Sequence[str] = ()) -> Handler:
    """The handler that behaves well: a stream where one was asked for, else a whole answer."""

    def handler(request: Request, wire: Wire) -> None:
        if not request.json().get("stream"):
            wire.respond(200, completion("".join(content), "".join(thoughts)))
            return
        streams(frames(content, thoughts))(request, wire)

    return handler


def streams(said: Iterable[bytes]) -> Handler:
    """The handler that says this and ends the stream, whatever it is asked for."""

    def handler(_: Request, wire: Wire) -> None:
        wire.start_stream()
        for piece in said:
            wire.chunk(piece)
        wire.end()

    return handler


def refuses(status: int, body: bytes, headers: dict[str, str] | None = None) -> Handler:
    """The handler that answers with one of the error bodies below."""

    def handler(_: Request, wire: Wire) -> None:
        wire.respond(status, body, headers)

    return handler


def error(message: str, kind: str, code: str = "invalid_request_error") -> bytes:
    return json.dumps({"error": {"message": message, "type": kind, "param": None, "code": code}}).encode()


# DeepSeek's own bodies by status. `code` is no help: it is the same on most of them.
INVALID: Final = error(
    "Invalid temperature value, the valid range of temperature is [0, 2]", "invalid_request_error"
)
TOO_LONG: Final = error(
    "This model's maximum context length is 1048576 tokens. However, you requested 1049647 tokens (985647 in "
    "the messages, 64000 in the completion). Please reduce the length of the messages or completion. "
    "(request_id: 7d3c4c5e-90f5-4b57-8a06-8d1b8c9d3a54)",
    "invalid_request_error",
)
RISKY: Final = error("Content Exists Risk", "invalid_request_error")
BAD_KEY: Final = error("Authentication Fails, Your api key: ****e78f is invalid", "authentication_error")
NO_BALANCE: Final = error("Insufficient Balance", "unknown_error")
UNPROCESSABLE: Final = error(
    "Failed to deserialize the JSON body into the target type: reasoning_effort: unknown variant `bogus`, "
    "expected one of `none`, `minimal`, `low`, `medium`, `high`, `xhigh`, `ultra`, `max`",
    "invalid_request_error",
)
TOO_MANY: Final = error(
    "Too many requests. Your current concurrency is 26, which exceeds your concurrency limit of 25 based on "
    "your remaining balance. Please top up your balance to restore your concurrency.",
    "rate_limit_error",
)
BUSY: Final = error(
    "Service is too busy. We advise users to temporarily switch to alternative LLM API service providers.",
    "service_unavailable_error",
    "service_unavailable_error",
)
