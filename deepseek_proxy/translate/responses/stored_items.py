"""The `input` of a request -> items as they are stored, and shown by `input_items` and conversations.

Clients may leave out what OpenAI's item objects must have: an id, a type, a status, content as a list of
parts. Here that is filled in once, so that a stored item reads the same in every later turn. Refuses to know
what an item means (`items` does) and where items are kept.

Source: the types `ResponseItem` and `ConversationItem` of openai-python 3.52, as its strict validation wants
them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from deepseek_proxy.errors import InvalidRequest
from deepseek_proxy.translate import fields, ids, jsontext

MAX_ID_CHARACTERS: Final = 128

_PREFIXES: Final[Mapping[str, str]] = {
    "message": ids.MESSAGE,
    "reasoning": ids.REASONING,
    "function_call": ids.FUNCTION_CALL,
    "function_call_output": "fco",
    "custom_tool_call": ids.CUSTOM_TOOL_CALL,
    "custom_tool_call_output": "ctco",
    "tool_search_call": ids.TOOL_SEARCH_CALL,
    "tool_search_output": "tso",
    "local_shell_call": ids.LOCAL_SHELL_CALL,
    "local_shell_call_output": "lsho",
    "shell_call": ids.SHELL_CALL,
    "shell_call_output": "sho",
    "apply_patch_call": ids.APPLY_PATCH_CALL,
    "apply_patch_call_output": "apco",
    "web_search_call": ids.WEB_SEARCH_CALL,
    "file_search_call": "fs",
    "code_interpreter_call": "ci",
    "computer_call": "cu",
    "computer_call_output": "cuo",
    "image_generation_call": "ig",
    "mcp_call": "mcp",
    "mcp_list_tools": "mcpl",
    "mcp_approval_request": "mcpr",
    "mcp_approval_response": "mcpa",
    "compaction": ids.COMPACTION,
    "additional_tools": "at",
}
_UNKNOWN_PREFIX: Final = "item"
_WITHOUT_STATUS: Final = frozenset(
    "reasoning compaction context_compaction additional_tools agent_message configuration_update program "
    "mcp_list_tools mcp_approval_request mcp_approval_response".split()
)
_NOT_KEPT: Final = "compaction_trigger"
"""Asks for something to be done in this one turn: not a part of what was said."""


def stored_items(value: object, new_id: ids.NewId, param: str = "input") -> list[tuple[str, dict[str, Any]]]:
    """The items of `value` (a string, or a list of items, at `param`): each whole, and the id it is known by.

    An id that is made here is not written into the item: the same item, sent again, is the same bytes again.
    References must have been resolved before. What cannot be read is kept as it is: refusing it is for the
    reader of items. Raises `InvalidRequest` where these are no items, or two have the same id.
    """
    if isinstance(value, str):
        value = [{"role": "user", "content": value}]
    if not isinstance(value, list):
        raise fields.invalid_type(param, "a string or an array of items", value)
    items = []
    seen: set[str] = set()
    for index, given in enumerate(value):
        if not isinstance(given, dict):
            raise fields.invalid_type(f"{param}[{index}]", "an object", given)
        if given.get("type") == _NOT_KEPT:
            continue
        if given.get("type") is None and "role" not in given:
            raise fields.missing(f"{param}[{index}].type")
        item = _whole(given)
        known = item.get("id") or new_id(_PREFIXES.get(item["type"], _UNKNOWN_PREFIX))
        if known in seen:
            raise duplicate(known, param)
        seen.add(known)
        items.append((known, item))
    return items


def duplicate(id: str, param: str) -> InvalidRequest:
    """OpenAI's words for an item that is there twice."""
    return InvalidRequest(
        f"Duplicate item found with id {id}. Remove duplicate items from your input and try again.",
        param=param,
    )


def shown(id: str, item: bytes) -> bytes:
    """The JSON of a stored item with its id in it."""
    if b'"id":' in item[:6]:  # where `stored_items` and output items have it
        return item
    return b'{"id":' + jsontext.dumps(id) + b"," + item[1:]


def _whole(given: Mapping[str, Any]) -> dict[str, Any]:
    item = {key: value for key, value in given.items() if value is not None}
    kind = str(item.pop("type", "message"))
    if kind == "local_shell_call_output" and "call_id" not in item and "id" in item:
        item["call_id"] = item.pop("id")  # OpenAI's type has no other field for the call
    known = item.pop("id", None)
    own = {"id": known} if isinstance(known, str) and 0 < len(known) <= MAX_ID_CHARACTERS else {}
    item = {**own, "type": kind, **item}
    if kind not in _WITHOUT_STATUS:
        item.setdefault("status", "completed")
    if kind == "message":
        item["content"] = _parts(item.get("content"), is_answer=item.get("role") == "assistant")
    elif isinstance(item.get("output"), list):
        item["output"] = _parts(item["output"], is_answer=False)
    elif kind == "reasoning":
        item.setdefault("summary", [])
    elif kind in ("tool_search_call", "tool_search_output"):
        item.setdefault("execution", "client")
    return item


def _parts(content: object, *, is_answer: bool) -> object:
    if content is None:
        return []
    if isinstance(content, str):
        return [_text(content, is_answer)]
    return [_part(part, is_answer) for part in content] if isinstance(content, list) else content


def _part(part: object, is_answer: bool) -> object:
    if isinstance(part, str):
        return _text(part, is_answer)
    if isinstance(part, dict):
        if part.get("type") == "output_text":
            return {
                **part,
                "annotations": part.get("annotations") or [],
                "logprobs": part.get("logprobs") or [],
            }
        if part.get("type") == "input_image":
            return {**part, "detail": part.get("detail") or "auto"}
    return part


def _text(text: str, is_answer: bool) -> dict[str, Any]:
    if is_answer:
        return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
    return {"type": "input_text", "text": text}
