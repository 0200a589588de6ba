"""`item_reference`: items of a request that stand for items which are stored.

Refuses to know where they are stored. An item without a type that has an id and no role is a reference, too
(`ItemReference` of openai-python 3.52).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from deepseek_proxy.errors import InvalidRequest
from deepseek_proxy.translate.responses.stored_items import duplicate


def referenced(value: object) -> list[str]:
    """The ids that the items of an `input` refer to."""
    items = value if isinstance(value, list) else ()
    return [str(item.get("id")) for item in items if _is_reference(item)]


def resolved(items: Sequence[Any], found: Mapping[str, Mapping[str, Any]], param: str = "input") -> list[Any]:
    """The items that a client sent at `param`, with those in place that they refer to.

    Raises `InvalidRequest` for a reference to what is not `found`, and for a second one to the same item:
    a short request could become a prompt of any length.
    """
    seen: set[str] = set()
    for id in referenced(items):
        if id in seen:
            raise duplicate(id, param)
        seen.add(id)
    return [_resolved(item, found, param) if _is_reference(item) else item for item in items]


def not_found(id: object, param: str = "input") -> InvalidRequest:
    """OpenAI's words for a reference to nothing."""
    return InvalidRequest(
        f"Item with id '{id}' not found. Items are not persisted when `store` is set to false. Try again "
        "with `store` set to true, or remove this item from your input.",
        param=param,
    )


def _resolved(
    reference: Mapping[str, Any], found: Mapping[str, Mapping[str, Any]], param: str
) -> Mapping[str, Any]:
    id = reference.get("id")
    item = found.get(str(id))
    if item is None:
        raise not_found(id, param)
    return item


def _is_reference(item: object) -> bool:
    if not isinstance(item, dict):
        return False
    kind = item.get("type")
    return kind == "item_reference" or (kind is None and "role" not in item and "id" in item)
