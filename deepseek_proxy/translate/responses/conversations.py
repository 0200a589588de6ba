"""The Conversation object, and what requests say of one: its items, its metadata, its id.

Refuses to know where conversations are kept, and HTTP. Source: openai-python 3.52, `types/conversations`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import orjson

from deepseek_proxy.errors import InvalidRequest, NotFound
from deepseek_proxy.translate import fields, jsontext
from deepseek_proxy.translate.responses import parameters

ID_PREFIX: Final = "conv"
MAX_NEW_ITEMS: Final = 20


def shown(id: str, created_at: int, metadata: bytes) -> bytes:
    """The Conversation object; `metadata` is the JSON of an object."""
    return jsontext.dumps(
        {
            "id": id,
            "object": "conversation",
            "created_at": created_at,
            "metadata": orjson.Fragment(metadata),
        }
    )


def deleted(id: str) -> bytes:
    """What is said of a conversation that is gone."""
    return jsontext.dumps({"id": id, "object": "conversation.deleted", "deleted": True})


def not_found(id: str, param: str | None = None) -> NotFound:
    return NotFound(f"Conversation with id '{id[:200]}' not found.", param=param)


def item_not_found(id: str, conversation: str) -> NotFound:
    return NotFound(f"Item with id '{id[:200]}' not found in conversation '{conversation[:200]}'.")


def named(body: Mapping[str, Any]) -> str | None:
    """The id in a response request's `conversation`, a string or an object with an `id`; None without one.

    Raises `InvalidRequest`, also where the request goes on from a response as well.
    """
    value = body.get("conversation")
    if value is None:
        return None
    if isinstance(value, dict):
        id = fields.required_string(value, "id", "conversation")
    elif isinstance(value, str):
        id = value
    else:
        raise fields.invalid_type("conversation", "a string or an object", value)
    if body.get("previous_response_id") is not None:
        raise InvalidRequest(
            "Mutually exclusive parameters: 'previous_response_id' and 'conversation'. "
            "Ensure you are only providing one of them.",
            param="previous_response_id",
            code="mutually_exclusive_parameters",
        )
    return id


def new_items(body: Mapping[str, Any], *, required: bool) -> list[Any]:
    """The `items` of a request, as they came. Raises `InvalidRequest` where they are missing or too many."""
    items = fields.array(body, "items")
    if required and body.get("items") is None:
        raise fields.missing("items")
    if len(items) > MAX_NEW_ITEMS:
        raise InvalidRequest(
            f"Invalid 'items': array too long. Expected an array with maximum length {MAX_NEW_ITEMS}, "
            f"but got an array with length {len(items)} instead.",
            param="items",
            code="array_above_max_length",
        )
    return list(items)


def metadata(body: Mapping[str, Any], *, required: bool = False) -> bytes:
    """The `metadata` of a request as JSON. Raises `InvalidRequest` where they are missing or too large."""
    if required and "metadata" not in body:
        raise fields.missing("metadata")
    return jsontext.dumps(parameters.metadata(body))
