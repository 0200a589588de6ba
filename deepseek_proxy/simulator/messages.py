"""DeepSeek's rules for the messages of a request: each one for itself, their order, and the thinking in them.

Each public function is a rule: it raises the `Refusal` that DeepSeek answers with. Words and behaviour:
measured with `deepseek-recipe` 0.2.0, and recorded from the service. Where those differ (`file_id`), the
service wins. Refuses to know the rest of the request, except the model's eyes, the tools' presence and the
mode.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from deepseek_proxy import models
from deepseek_proxy.simulator.errors import invalid
from deepseek_proxy.simulator.request import thinks

Body = Mapping[str, Any]

MAX_IMAGE_URL: Final = 8192  # characters

_DATA_URL: Final = re.compile(r"data:([\w.+-]+/[\w.+-]+)(?:;[^,;]*)*;base64,")
_IMAGE_TYPES: Final = ("image/webp", "image/png", "image/jpeg", "image/jpg", "image/gif")
_IMAGE_ADVICE: Final = (
    "Please make sure your {} is valid and has one of the following formats: webp, png, jpeg, and gif."
)
_UNANSWERED: Final = (
    "An assistant message with 'tool_calls' must be followed by tool messages "
    "responding to each 'tool_call_id'"
)


def present(body: Body) -> None:
    if not body["messages"]:
        raise invalid("Empty input messages")


def sound(body: Body) -> None:
    """Each message for itself, and its place: every call is answered directly after its message, once."""
    name = body["model"]
    sees = (models.MODELS.get(name) or models.ALIASES[name].model).vision
    messages = body["messages"]
    answered_up_to = 0
    for i, message in enumerate(messages):
        if message["role"] == "assistant":
            _assistant_sound(message, i)
        if sees and isinstance(message.get("content"), list):
            _parts_sound(message, i)
        if message["role"] == "tool" and i >= answered_up_to:
            raise invalid(
                "Messages with role 'tool' must be a response to a preceding message with 'tool_calls'"
            )
        if calls := message.get("tool_calls"):
            _answered([call["id"] for call in calls], messages, i)
            answered_up_to = i + 1 + len(calls)


def _parts_sound(message: Body, i: int) -> None:
    parts = message["content"]
    images = [(n, part["image_url"]["url"]) for n, part in enumerate(parts) if part["type"] == "image_url"]
    files = [part for part in parts if part["type"] == "file"]
    for n, url in images:
        if _is_link(url) and len(url) > MAX_IMAGE_URL:
            raise invalid(
                f".messages[{i}].image_url.url[{n}]: image_url.url external link length {len(url)} too long, "
                f"max link length {MAX_IMAGE_URL}. Consider passing file data directly with base64 data url "
                "instead."
            )
    for part in files:
        _file_sound(part, i)
    if message["role"] == "assistant" and (images or files):
        raise invalid("Image in assistant message is not supported")
    for _, url in images:
        _image_sound(url, i)


def _assistant_sound(message: Body, i: int) -> None:
    calls = message.get("tool_calls")
    if message.get("content") is None and calls is None:
        raise invalid("Invalid assistant message: content or tool_calls must be set")
    if calls == []:
        raise invalid(
            f"Invalid 'messages[{i}].tool_calls': empty array. Expected an array with minimum length 1, "
            "but got an empty array instead."
        )


def _is_link(url: str) -> bool:
    return url.startswith(("http://", "https://"))


def _image_sound(url: str, i: int) -> None:
    if _is_link(url):
        return
    if not (found := _DATA_URL.match(url)):
        raise invalid(f".messages[{i}]: Unsupported image_url format")
    if found[1] not in _IMAGE_TYPES:
        raise invalid(
            f".messages[{i}]: You have uploaded an unsupported image. {_IMAGE_ADVICE.format('image')}"
        )
    if not _is_base64(url[found.end() :]):
        raise invalid(f".messages[{i}]: Invalid base64 data")


def _file_sound(part: Body, i: int) -> None:
    data, identity = part.get("file_data"), part.get("file_id")
    if data is None and identity is None:
        raise invalid(f".messages[{i}]: file must have a file_id or file_data")
    if data is not None and identity is not None:
        raise invalid(f".messages[{i}]: file cannot have both file_id and file_data")
    if data is None:
        return
    if not (found := _DATA_URL.match(data)):
        raise invalid(f".messages[{i}]: file_data is not a valid base64 data url")
    if found[1] not in _IMAGE_TYPES:
        raise invalid(
            f".messages[{i}]: You have uploaded an unsupported file. {_IMAGE_ADVICE.format('file')}"
        )


def _is_base64(text: str) -> bool:
    try:
        base64.b64decode(text, validate=True)
    except ValueError:
        return False
    return True


def _answered(ids: Sequence[str], messages: Sequence[Body], i: int) -> None:
    if (twice := _repeated(ids)) is not None:
        raise invalid(f"Duplicate value for 'tool_call_id' of {ids[twice]} in message[{i}]")
    answered: list[str] = []
    for result in messages[i + 1 : i + 1 + len(ids)]:
        if result["role"] != "tool":
            break
        answer = result["tool_call_id"]
        if answer not in ids:
            raise invalid(
                f"{_UNANSWERED}, The following tool_call_ids did not have response messages: {answer}"
            )
        if answer in answered:
            raise invalid(
                f"Duplicate value for 'tool_call_id' of {answer} in message[{i + 1 + len(answered)}]"
            )
        answered.append(answer)
    if len(answered) < len(ids):
        raise invalid(f"{_UNANSWERED}. (insufficient tool messages following tool_calls message)")


def _repeated(ids: Sequence[str]) -> int | None:
    """The position of the first id that was there before."""
    return next((i for i, identity in enumerate(ids) if identity in ids[:i]), None)


def reasoning_passed_back(body: Body) -> None:
    """Since the last user message: with every assistant message that has calls; with all where tools are
    declared."""
    if not thinks(body):
        return
    for message in reversed(body["messages"]):
        if message["role"] == "user":
            return
        if message["role"] != "assistant" or message.get("reasoning_content") is not None:
            continue
        if body.get("tools") or message.get("tool_calls"):
            raise invalid("The `reasoning_content` in the thinking mode must be passed back to the API.")


def prefix_last(body: Body) -> None:
    if any(message.get("prefix") for message in body["messages"][:-1]):
        raise invalid(
            "Invalid completion message: prefix set true with message which is not final message or message "
            "role is not assistant"
        )
