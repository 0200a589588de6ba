"""FIM completions (`POST /beta/completions`): what is accepted, and how an answer is worded.

The model behind them is that of the chat, which reads the prompt as a user's message and does not think; the
suffix is checked, and not read. Refuses to answer. Fields and limits: DeepSeek's "FIM Completion", docs of
Nov 2026; the words of refusals are those of the chat.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from deepseek_proxy.simulator import rules, shapes
from deepseek_proxy.simulator.request import ChatRequest

MAX_OUTPUT_TOKENS: Final = 4096
_CHAT_FIELDS: Final = ("model", "stop", "stream", "stream_options")


def check(raw: bytes) -> Mapping[str, Any]:
    """The body, when DeepSeek accepts it. Raises `Refusal`."""
    body = rules.read(raw, shapes.COMPLETION_REQUEST)
    for rule in (
        *rules.COMMON,
        rules.within("max_tokens", 1, MAX_OUTPUT_TOKENS),
        rules.within("logprobs", 0, 20),
    ):
        rule(body)
    return body


def as_chat(body: Mapping[str, Any], key: str) -> ChatRequest:
    """The chat to which the model answers the same."""
    fields = {name: body[name] for name in _CHAT_FIELDS if name in body}
    limit = body.get("max_tokens") or MAX_OUTPUT_TOKENS
    messages = [{"role": "user", "content": body["prompt"]}]
    thinking = {"type": "disabled"}
    return ChatRequest({**fields, "messages": messages, "max_tokens": limit, "thinking": thinking}, key)


def as_text(answer: dict[str, Any]) -> dict[str, Any]:
    """A chunk or a whole answer of the chat, as a `text_completion`."""
    choices = [
        {
            "index": 0,
            "text": (choice.get("delta") or choice.get("message") or {}).get("content") or "",
            "logprobs": None,
            "finish_reason": choice["finish_reason"],
        }
        for choice in answer["choices"]
    ]
    return {**answer, "object": "text_completion", "choices": choices}
