"""The types of a request body: what DeepSeek cannot even deserialise.

A few readers (`string`, `struct`, `tagged`, …) and, made of them, the shape of a Chat Completions request.
The words are those of DeepSeek's deserialiser, measured with `deepseek-recipe` 0.2.0. Refuses to know what
values mean; a body that fits here may still break the rules. Keys that are not listed are ignored, as they
are live.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, Final

Reader = Callable[[Any, str], None]
"""Checks one value; the second argument is its path. Raises `Mistyped`."""


class Mistyped(Exception):
    """A value that does not fit its type; the message is the path and the reason."""

    def __init__(self, reason: str, path: str) -> None:
        super().__init__(f"{path}: {reason}" if path else reason)
        self.reason = reason


# -- the readers ----------------------------------------------------------------------------------


def _seen(value: object) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return f"boolean `{str(value).lower()}`"
        case int():
            return f"integer `{value}`"
        case float():
            return f"floating point `{value}`"
        case str():
            return f"string {json.dumps(value, ensure_ascii=False)}"
        case list():
            return "sequence"
    return "map"


def _wrong(value: object, expected: str, path: str) -> Mistyped:
    return Mistyped(f"invalid type: {_seen(value)}, expected {expected}", path)


def ignored(value: Any, path: str) -> None:
    """Anything at all."""


def string(value: Any, path: str) -> None:
    if not isinstance(value, str):
        raise _wrong(value, "a string", path)


def boolean(value: Any, path: str) -> None:
    if not isinstance(value, bool):
        raise _wrong(value, "a boolean", path)


def number(value: Any, path: str) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise _wrong(value, "f32", path)


def unsigned(bits: int) -> Reader:
    def read(value: Any, path: str) -> None:
        if isinstance(value, bool) or not isinstance(value, int):
            raise _wrong(value, f"u{bits}", path)
        if not 0 <= value < 2**bits:
            raise Mistyped(f"invalid value: {_seen(value)}, expected u{bits}", path)

    return read


def optional(reader: Reader) -> Reader:
    """Null, or what `reader` takes."""

    def read(value: Any, path: str) -> None:
        if value is not None:
            reader(value, path)

    return read


def sequence(reader: Reader) -> Reader:
    def read(value: Any, path: str) -> None:
        if not isinstance(value, list):
            raise _wrong(value, "a sequence", path)
        for i, element in enumerate(value):
            reader(element, f"{path}[{i}]")

    return read


def struct(name: str, /, **fields: Reader) -> Reader:
    """An object. Fields are required, except those whose reader came from `optional`."""
    required = [key for key, reader in fields.items() if reader.__qualname__ != _OPTIONAL]

    def read(value: Any, path: str) -> None:
        if not isinstance(value, dict):
            raise _wrong(value, f"struct {name}", path)
        for key, element in value.items():
            fields.get(key, ignored)(element, f"{path}.{key}".lstrip("."))
        for key in required:
            if key not in value:
                raise Mistyped(f"missing field `{key}`", path)

    return read


_OPTIONAL: Final = optional(ignored).__qualname__


def _unknown(value: str, variants: tuple[str, ...], path: str) -> Mistyped:
    names = ", ".join(f"`{variant}`" for variant in variants)
    return Mistyped(
        f"unknown variant `{value}`, expected {'one of ' if len(variants) > 1 else ''}{names}", path
    )


def one_of(*variants: str) -> Reader:
    def read(value: Any, path: str) -> None:
        if not isinstance(value, str):
            raise _wrong(value, "string or map", path)
        if value not in variants:
            raise _unknown(value, variants, path)

    return read


def tagged(name: str, tag: str, variants: Mapping[str, Reader]) -> Reader:
    """An object whose key `tag` says which of `variants` it is."""

    def read(value: Any, path: str) -> None:
        if not isinstance(value, dict):
            raise _wrong(value, f"internally tagged enum {name}", path)
        if tag not in value:
            raise Mistyped(f"missing field `{tag}`", path)
        variant = value[tag]
        if not isinstance(variant, str):
            raise _wrong(variant, "variant identifier", path)
        if variant not in variants:
            raise _unknown(variant, tuple(variants), path)
        variants[variant](value, path)

    return read


# -- the request ----------------------------------------------------------------------------------


def _unlocated(reader: Reader) -> Reader:
    """Errors inside keep the path of the whole: DeepSeek buffers messages before it reads them."""

    def read(value: Any, path: str) -> None:
        try:
            reader(value, "")
        except Mistyped as problem:
            raise Mistyped(problem.reason, path) from None

    return read


_PART: Final = tagged(
    "ChatCompletionRequestContentBlock",
    "type",
    {
        "text": struct("Text", text=string),
        "image_url": struct(
            "ImageUrl",
            image_url=struct(
                "ChatCompletionImageUrl",
                url=string,
                detail=optional(one_of("low", "high", "original", "auto")),
            ),
        ),
        "file": struct(
            "File", file_id=optional(string), file_data=optional(string), filename=optional(string)
        ),
    },
)


def _content(value: Any, path: str) -> None:
    if isinstance(value, list):
        sequence(_PART)(value, path)
    elif not isinstance(value, str):
        raise Mistyped("content should be a string or a list", path)


_TOOL_CALL: Final = struct(
    "ChatCompletionMessageToolCall",
    id=string,
    type=one_of("function"),
    function=struct("ChatCompletionFunctionCall", name=string, arguments=string),
)

_MESSAGE: Final = tagged(
    "ChatCompletionRequestMessage",
    "role",
    {
        "system": struct("System", content=_content, name=optional(string)),
        "user": struct("User", content=_content, name=optional(string)),
        "assistant": struct(
            "Assistant",
            content=optional(_content),
            name=optional(string),
            reasoning_content=optional(string),
            tool_calls=optional(sequence(_TOOL_CALL)),
            prefix=optional(boolean),
        ),
        "tool": struct("Tool", content=_content, tool_call_id=string),
        "latest_reminder": struct("LatestReminder", content=string),
    },
)

_TOOL: Final = struct(
    "ChatCompletionTool",
    type=one_of("function"),
    function=struct(
        "ChatCompletionFunctionDefinition",
        name=string,
        description=optional(string),
        parameters=optional(ignored),
        strict=optional(boolean),
    ),
)


def _tool_choice(value: Any, path: str) -> None:
    if value in ("none", "auto", "required"):
        return
    if not isinstance(value, dict) or not isinstance(value.get("type"), str):
        raise Mistyped("expected one of `none`, `auto`, `required` or a tool", path)
    for key, reader in (
        ("type", one_of("function")),
        ("function", struct("ChatCompletionToolChoiceFunction", name=string)),
    ):
        try:
            reader(value.get(key), "")
        except Mistyped as problem:
            raise Mistyped(f"field `{key}`: {problem.reason}", path) from None


_STOP_SEQUENCE: Final = sequence(string)


def _stop(value: Any, path: str) -> None:
    if isinstance(value, list):
        _STOP_SEQUENCE(value, path)
    elif not isinstance(value, str):
        raise Mistyped("expected a string or a list", path)


_SAMPLING: Final[Mapping[str, Reader]] = {
    "max_tokens": optional(unsigned(32)),
    "temperature": optional(number),
    "top_p": optional(number),
    "frequency_penalty": optional(number),
    "presence_penalty": optional(number),
    "stop": optional(_stop),
    "stream": optional(boolean),
    "stream_options": optional(struct("ChatCompletionStreamOptions", include_usage=optional(boolean))),
}

COMPLETION_REQUEST: Final = struct(
    "CompletionRequest",
    model=string,
    prompt=string,
    suffix=optional(string),
    echo=optional(boolean),
    logprobs=optional(unsigned(8)),
    **_SAMPLING,
)
"""The body of `POST /beta/completions`."""

REQUEST: Final = struct(
    "ChatCompletionRequest",
    messages=sequence(_unlocated(_MESSAGE)),
    model=string,
    thinking=optional(
        struct(
            "ChatCompletionThinking",
            type=one_of("adaptive", "enabled", "disabled"),
            budget_tokens=optional(unsigned(64)),
        )
    ),
    reasoning_effort=optional(one_of("none", "minimal", "low", "medium", "high", "xhigh", "ultra", "max")),
    **_SAMPLING,
    n=optional(unsigned(8)),
    logprobs=optional(boolean),
    top_logprobs=optional(unsigned(8)),
    response_format=optional(
        tagged(
            "ChatCompletionResponseFormat",
            "type",
            {
                "json_object": struct("JsonObject"),
                "json_schema": struct("JsonSchema", json_schema=struct("JsonSchemaFormat", schema=ignored)),
                "regex": struct("Regex", regex=string),
                "text": struct("Text"),
            },
        )
    ),
    tools=optional(sequence(_TOOL)),
    tool_choice=optional(_tool_choice),
    parallel_tool_calls=optional(boolean),
    seed=optional(unsigned(64)),
)
"""The body of `POST /chat/completions`."""
