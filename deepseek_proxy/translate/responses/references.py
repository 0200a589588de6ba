"""Items that are only named (`item_reference`): the items themselves in their place.

Refuses to know where items are kept.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import orjson

from deepseek_proxy.errors import InvalidRequest
from deepseek_proxy.translate.responses.stored_items import shown

Find = Callable[[Sequence[str]], Mapping[str, bytes]]
"""The stored JSON of those of the items with these ids that are kept."""

_TYPE: Final = "item_reference"


def resolve(value: object, find: Find, param: str = "input") -> Any:
    """`value` (what a client sent at `param`) with no reference left in it. Without one, `find` is not asked.

    Raises `InvalidRequest` where a named item is not kept.
    """
    if not isinstance(value, list):
        return value
    named = [item["id"] for item in value if _is_reference(item)]
    if not named:
        return value
    known = find(named)
    return [_found(item["id"], known, param) if _is_reference(item) else item for item in value]


def _is_reference(item: object) -> bool:
    """The type may be left out: nothing but an id is a reference."""
    if not isinstance(item, dict) or not isinstance(item.get("id"), str):
        return False
    kind = item.get("type")
    return kind == _TYPE or (kind is None and "role" not in item)


def _found(id: str, known: Mapping[str, bytes], param: str) -> Any:
    if id not in known:
        raise InvalidRequest(
            f"Item with id '{id[:200]}' not found. Items are not persisted when `store` is set to false. "
            "Try again with `store` set to true, or remove this item from your input.",
            param=param,
        )
    return orjson.loads(shown(id, known[id]))
