"""How many tokens the prompt of a request to DeepSeek has.

`prompt_tokens` follows the layout that DeepSeek's models are given: special tokens between messages, tools
and effort in front, calls as markup. The fixed texts of that layout stand here as their numbers of tokens
alone; they were measured with deepseek-recipe 0.2.0, which the tests compare with. Refuses to know a
tokenizer: whoever asks brings the function that counts a text.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from deepseek_proxy import models
from deepseek_proxy.translate.history import (
    BLANK_LINE,
    Entry,
    Part,
    TextPart,
    ToolCall,
    ToolResult,
    UserMessage,
)
from deepseek_proxy.translate.images import image_tokens

Count = Callable[[str], int]
"""The number of tokens in a text that holds no special token."""


@dataclass(frozen=True, slots=True)
class _Layout:
    """The fixed parts of one model's prompt, in tokens."""

    system_opening: int
    effort: Mapping[str, int]
    tools: int
    json_format: int
    forced_call: int
    gap: str
    calls: str


_LAYOUTS: Final = {
    models.FLASH.id: _Layout(
        system_opening=1,
        effort={"low": 25, "high": 25, "max": 25},
        tools=211,
        json_format=22,
        forced_call=5,
        gap=" ",
        calls=" calls",
    ),
    models.PRO.id: _Layout(
        system_opening=0,
        effort={"low": 0, "high": 79, "max": 92},
        tools=221,
        json_format=21,
        forced_call=7,
        gap="",
        calls="tool_calls",
    ),
}

# Of one entry, on average: tags and special tokens.
_MESSAGE_MARKUP: Final = 3
_CALL_MARKUP: Final = 45
_RESULT_MARKUP: Final = 10
_FRONT: Final = 512  # effort, instructions for tools, form of the answer


def size_in_bytes(text: str) -> int:
    """A `Count` that is never too low, and knows no vocabulary: a token has a byte at least."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "replace"))


def prompt_tokens(body: Mapping[str, Any], count: Count) -> int:
    """Tokens of the prompt that DeepSeek makes of a request `body`."""
    prompt = _Prompt(_LAYOUTS[body["model"]], count)
    choice = body.get("tool_choice")
    tools = () if choice == "none" else _chosen(body.get("tools") or (), choice)
    thinks = body["thinking"]["type"] == "enabled"
    messages: Sequence[Mapping[str, Any]] = body["messages"]
    prompt.lead(
        thinks=body.get("reasoning_effort", "high") if thinks else None,
        tools=tools,
        is_json=(body.get("response_format") or {}).get("type") == "json_object",
        has_system=messages[0]["role"] == "system" and bool(messages[0]["content"]),
    )
    for message in messages:
        prompt.message(message, shows_thinking=thinks and bool(tools))
    prompt.special(2)  # the answer begins: <Assistant> and <think>, or </think>
    if tools and (choice == "required" or isinstance(choice, dict)):
        prompt.fixed(prompt.layout.forced_call)
    return prompt.tokens


def tools_tokens(tools: Sequence[Mapping[str, Any]], count: Count) -> int:
    """About what the declarations of a request take, with all else in front of a conversation."""
    return _FRONT + count(_json_text(tools))


def entry_tokens(entry: Entry, count: Count) -> int:
    """About what one entry of a conversation adds to a prompt, whatever stands before and behind it."""
    match entry:
        case ToolCall(name=name, arguments=arguments):
            return _CALL_MARKUP + count(name) + count(arguments)
        case UserMessage(parts=parts):
            return _MESSAGE_MARKUP + _parts_tokens(parts, count)
        case ToolResult(parts=parts):
            return _RESULT_MARKUP + _parts_tokens(parts, count)
        case _:
            return _MESSAGE_MARKUP + count(entry.text)


def _parts_tokens(parts: Sequence[Part], count: Count) -> int:
    return sum(
        count(part.text) if isinstance(part, TextPart) else image_tokens(part.url, part.detail)
        for part in parts
    )


def exceeds(body: Mapping[str, Any], tokens: int, count: Count) -> bool:
    """Whether a prompt has more than `tokens`; counted only where its bytes do not show that it has not."""
    return prompt_tokens(body, size_in_bytes) > tokens and prompt_tokens(body, count) > tokens


def _chosen(tools: Sequence[Mapping[str, Any]], choice: object) -> Sequence[Mapping[str, Any]]:
    """The tools in the prompt: one alone, where it is named."""
    if not isinstance(choice, dict):
        return tools
    name = choice["function"]["name"]
    return [tool for tool in tools if tool["function"]["name"] == name]


class _Prompt:
    """The prompt as far as it has been counted: text gathers until a special token ends it."""

    def __init__(self, layout: _Layout, count: Count) -> None:
        self.layout = layout
        self._count = count
        self._tokens = 1  # the beginning of the sentence
        self._text: list[str] = []
        self._in_user_turn = False

    @property
    def tokens(self) -> int:
        self.special(0)
        return self._tokens

    def fixed(self, tokens: int) -> None:
        self.special(tokens)

    def special(self, number: int = 1) -> None:
        if self._text:
            self._tokens += self._count("".join(self._text))
            self._text.clear()
        self._tokens += number

    # -- the front --------------------------------------------------------------------------------

    def lead(
        self, *, thinks: str | None, tools: Sequence[Mapping[str, Any]], is_json: bool, has_system: bool
    ) -> None:
        """What stands in front of the conversation, but for the system text itself."""
        effort = self.layout.effort.get(thinks, 0) if thinks else 0
        if effort or tools or is_json or has_system:
            self.special(self.layout.system_opening)
        self.fixed(effort)
        if tools:
            self.fixed(self.layout.tools)
        for tool in tools:
            function = tool["function"]
            line = {
                "name": function["name"],
                "description": function.get("description") or "",
                "parameters": function.get("parameters") or {},
            }
            self._text.append(_json_text(line) + "\n")
        if is_json:
            self.fixed(self.layout.json_format)
        self.special(0)

    # -- messages ---------------------------------------------------------------------------------

    def message(self, message: Mapping[str, Any], *, shows_thinking: bool) -> None:
        match message["role"]:
            case "user":
                self._user_turn()
                self._content(message["content"])
            case "tool":
                self._user_turn()
                self._text.append("<tool_result>")
                self._content(message["content"])
                self._text.append("</tool_result>")
            case "assistant":
                self._assistant(message, shows_thinking)
            case _:
                self._in_user_turn = False
                self._content(message["content"])
                self.special(0)

    def _user_turn(self) -> None:
        """Messages of the user and of tools follow each other within one turn, a blank line between them."""
        if self._in_user_turn:
            self._text.append(BLANK_LINE)
        else:
            self.special()
        self._in_user_turn = True

    def _content(self, content: str | Sequence[Mapping[str, Any]]) -> None:
        if isinstance(content, str):
            self._text.append(content)
            return
        for index, part in enumerate(content):
            if index:
                self._text.append(BLANK_LINE)
            if part["type"] == "text":
                self._text.append(part["text"])
            else:
                image = part["image_url"]
                self.special(image_tokens(image["url"], image.get("detail")))

    def _assistant(self, message: Mapping[str, Any], shows_thinking: bool) -> None:
        self._in_user_turn = False
        self.special()
        thinking = message.get("reasoning_content")
        if shows_thinking and thinking is not None:
            self.special()
            self._text.append(thinking)
        self.special()
        self._text.append(message["content"] or "")
        if calls := message.get("tool_calls"):
            self._calls(calls)
        self.special()

    def _calls(self, calls: Sequence[Mapping[str, Any]]) -> None:
        gap = self.layout.gap
        self._markup("\n\n<", self.layout.calls + ">")
        for call in calls:
            function = call["function"]
            self._markup("\n<", f'{gap}invoke name="{function["name"]}">')
            for name, value in _arguments(function["arguments"]):
                is_text = isinstance(value, str)
                self._markup("\n<", f'{gap}parameter name="{name}" string="{str(is_text).lower()}">')
                self._text.append(value if is_text else _json_text(value))
                self._markup("</", f"{gap}parameter>")
            self._markup("\n</", f"{gap}invoke>")
        self._markup("\n</", self.layout.calls + ">")

    def _markup(self, before: str, behind: str) -> None:
        """A tag, in which the name of the markup is a special token."""
        self._text.append(before)
        self.special()
        self._text.append(behind)


def _arguments(text: str) -> Sequence[tuple[str, Any]]:
    """A call's arguments as the model wrote them: one by one, or all of it where it is no object."""
    try:
        arguments = json.loads(text)
    except (ValueError, RecursionError):
        arguments = None
    return tuple(arguments.items()) if isinstance(arguments, dict) else (("arguments", text),)


def _json_text(value: object) -> str:
    """JSON as DeepSeek's prompts have it, with spaces between."""
    return json.dumps(value, ensure_ascii=False)
