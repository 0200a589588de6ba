"""Short spellings of history entries and of the messages they become; and DeepSeek's word on both."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import orjson

from deepseek_proxy.translate.history import (
    Entry,
    History,
    Part,
    TextPart,
    ToolCall,
    ToolResult,
    UserMessage,
    build,
)

Check = Callable[[dict[str, Any]], tuple[int, str | None]]
Compile = Callable[..., History]

PNG = "data:image/png;base64,iVBORw0KGgo="


def user(*parts: str | Part) -> UserMessage:
    return UserMessage(_parts(parts))


def call(call_id: str, name: str = "shell", arguments: str = "{}") -> ToolCall:
    return ToolCall(call_id, name, arguments)


def result(call_id: str | None, *parts: str | Part, name: str | None = None) -> ToolResult:
    return ToolResult(call_id, name, _parts(parts))


def _parts(parts: Sequence[str | Part]) -> tuple[Part, ...]:
    return tuple(TextPart(part) if isinstance(part, str) else part for part in parts)


def m_user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


def m_reminder(text: str) -> dict[str, Any]:
    return m_user(f"<system-reminder>\n{text}\n</system-reminder>")


def m_assistant(content: str = "", reasoning: str | None = " ", *calls: dict[str, Any]) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": content}
    if reasoning is not None:
        message["reasoning_content"] = reasoning
    if calls:
        message["tool_calls"] = list(calls)
    return message


def m_call(call_id: str, name: str = "shell", arguments: str = "{}") -> dict[str, Any]:
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


def m_tool(call_id: str, content: str) -> dict[str, Any]:
    return {"role": "tool", "content": content, "tool_call_id": call_id}


def m_image(url: str, **detail: str) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url, **detail}}


def m_text(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


SHELL = {
    "type": "function",
    "function": {"name": "shell", "parameters": {"type": "object", "properties": {}}},
}


def body_of(history: History, *, vision: bool, thinking: bool) -> dict[str, Any]:
    return {
        "model": "deepseek-flash" if vision else "deepseek-v4-pro",
        "messages": history.messages,
        "thinking": {"type": "enabled" if thinking else "disabled"},
        "tools": [SHELL],
    }


def compile_accepted(
    check: Check,
    entries: Sequence[Entry],
    *,
    vision: bool = True,
    thinking: bool = True,
    cache: Mapping[str, str] | None = None,
) -> History:
    """`build()`, whose outcome DeepSeek has accepted, with tools and without."""
    history = build(entries, vision=vision, thinking=thinking, recall=(cache or {}).get)
    body = body_of(history, vision=vision, thinking=thinking)
    assert check(body) == (200, None)
    del body["tools"]
    assert check(body) == (200, None)
    return history


def assert_messages(history: History, expected: list[dict[str, Any]], **repairs: int) -> None:
    """Same messages, same bytes (so the same order of keys), and exactly these repairs."""
    assert history.messages == expected
    assert orjson.dumps(history.messages) == orjson.dumps(expected)
    assert dict(history.repairs) == repairs
