"""A request that passed the rules, as the simulator's other parts want to see it.

Reads the body's well-formed keys; refuses to judge them (that is `rules`), and to answer (that is `brain`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from deepseek_proxy import models

_BLOCK = re.compile(r"\s*<([A-Za-z][\w-]*)[^>]*>.*</\1>\s*", re.DOTALL)


@dataclass(frozen=True)
class ChatRequest:
    """A Chat Completions request. `key` is the client's credential."""

    body: Mapping[str, Any]
    key: str

    @property
    def messages(self) -> Sequence[Mapping[str, Any]]:
        messages: Sequence[Mapping[str, Any]] = self.body["messages"]
        return messages

    @property
    def model(self) -> models.Model:
        """The model that serves the request, whichever alias it was asked by."""
        name = self.body["model"]
        return models.MODELS[name] if name in models.MODELS else models.ALIASES[name].model

    @property
    def thinking(self) -> bool:
        return thinks(self.body)

    @property
    def effort(self) -> str:
        """`low`, `high` or `max`: the levels that lead to different prompts."""
        effort = self.body.get("reasoning_effort")
        return {"minimal": "low", "low": "low", "ultra": "max", "max": "max"}.get(effort or "", "high")

    @property
    def stream(self) -> bool:
        return bool(self.body.get("stream"))

    @property
    def include_usage(self) -> bool:
        return bool((self.body.get("stream_options") or {}).get("include_usage"))

    @property
    def json_mode(self) -> bool:
        return (self.body.get("response_format") or {}).get("type") in ("json_object", "json_schema")

    @property
    def max_tokens(self) -> int:
        """The limit asked for, or DeepSeek's default for the mode."""
        if (asked := self.body.get("max_tokens")) is not None:
            return int(asked)
        if not self.thinking:
            return 8_192
        return 131_072 if self.effort == "max" else 65_536

    @property
    def stop(self) -> Sequence[str]:
        stop = self.body.get("stop")
        return [stop] if isinstance(stop, str) else (stop or [])

    @property
    def forced_tool(self) -> str | None:
        """The name that `tool_choice` demands, None where it demands none in particular."""
        choice = self.body.get("tool_choice")
        return choice["function"]["name"] if isinstance(choice, dict) else None

    @property
    def must_call(self) -> bool:
        """Whether `tool_choice` demands a call; without tools it has no effect."""
        forced = self.forced_tool is not None or self.body.get("tool_choice") == "required"
        return forced and bool(self.tools)

    @cached_property
    def tools(self) -> Sequence[Mapping[str, Any]]:
        """The functions the model may call: all of them, the one that is forced, or none."""
        if self.body.get("tool_choice") == "none":
            return []
        functions = [tool["function"] for tool in self.body.get("tools") or []]
        if self.forced_tool is not None:
            functions = [function for function in functions if function["name"] == self.forced_tool]
        return functions

    @cached_property
    def prompt_position(self) -> int:
        """Where the message stands that the user typed last; -1 where there is none.

        Clients put further user messages after it: context in XML-like blocks, images of tool results.
        """
        users = [i for i, message in enumerate(self.messages) if message["role"] == "user"]
        for i in reversed(users):
            text = text_of(self.messages[i])
            if text.strip() and not _BLOCK.fullmatch(text):
                return i
        return users[-1] if users else -1

    @property
    def prompt(self) -> str:
        """The text that the user typed last."""
        return text_of(self.messages[self.prompt_position]) if self.prompt_position >= 0 else ""

    @property
    def since_prompt(self) -> Sequence[Mapping[str, Any]]:
        """The messages after it: what the model did about it so far."""
        return self.messages[self.prompt_position + 1 :]

    @property
    def turn_number(self) -> int:
        """How many turns the model already took since the user's last message."""
        return sum(message["role"] == "assistant" for message in self.since_prompt)


def thinks(body: Mapping[str, Any]) -> bool:
    """Whether the model thinks: by default it does; `thinking.type` wins over the effort `none`."""
    kind = (body.get("thinking") or {}).get("type")
    if kind is None:
        return body.get("reasoning_effort") != "none"
    return bool(kind != "disabled")


def text_of(message: Mapping[str, Any]) -> str:
    """A message's text: parts are joined by a blank line, as DeepSeek does."""
    content = message.get("content")
    if isinstance(content, str):
        return content
    return "\n\n".join(part["text"] for part in content or () if part.get("type") == "text")


def image_count(message: Mapping[str, Any]) -> int:
    content = message.get("content")
    return sum(part.get("type") == "image_url" for part in content) if isinstance(content, list) else 0
