"""A whole chat completion: every key of OpenAI's wire object that DeepSeek can fill, in one place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from deepseek_proxy.translate.chat.emitter import Envelope
from deepseek_proxy.translate.hub import Usage
from deepseek_proxy.translate.usage import chat_usage


def message(
    *,
    content: str | None,
    refusal: str | None,
    reasoning: str | None,
    annotations: Sequence[Mapping[str, Any]],
    calls: Sequence[Mapping[str, Any]],
    legacy_call: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """The assistant's message. `reasoning_content` is DeepSeek's own key, there where a turn thought."""
    made: dict[str, Any] = {"role": "assistant", "content": content, "refusal": refusal}
    if reasoning is not None:
        made["reasoning_content"] = reasoning
    if annotations:
        made["annotations"] = list(annotations)
    if calls:
        made["tool_calls"] = list(calls)
    if legacy_call is not None:
        made["function_call"] = legacy_call
    return made


def completion(
    envelope: Envelope,
    fingerprint: str | None,
    *,
    message: Mapping[str, Any],
    logprobs: Sequence[Mapping[str, Any]],
    finish_reason: str,
    usage: Usage,
) -> dict[str, Any]:
    """The whole answer."""
    choice = {
        "index": 0,
        "message": message,
        "logprobs": {"content": list(logprobs), "refusal": None} if logprobs else None,
        "finish_reason": finish_reason,
    }
    return {
        **envelope.fields("chat.completion", fingerprint),
        "choices": [choice],
        "usage": chat_usage(usage),
    }
