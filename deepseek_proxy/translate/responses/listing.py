"""Lists of stored items, as `input_items` and conversations show them: which page, and its JSON.

Refuses to know where items are kept. Source: the query parameters and list objects of openai-python 3.52.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from deepseek_proxy.errors import InvalidRequest
from deepseek_proxy.translate import fields, jsontext
from deepseek_proxy.translate.responses.stored_items import shown

DEFAULT_LIMIT: Final = 20
MAX_LIMIT: Final = 100


@dataclass(frozen=True, slots=True)
class Page:
    """The part of a list that is asked for: at most `limit` items behind the one with the id `after`."""

    after: str | None = None
    limit: int = DEFAULT_LIMIT
    newest_first: bool = True


def page(query: Mapping[str, str]) -> Page:
    """Reads `after`, `limit` and `order`. Raises `InvalidRequest` with the parameter's name."""
    given = {key: query[key] for key in ("after", "order") if query.get(key)}
    order = fields.choice(given, "order", ("asc", "desc"))
    limit = fields.integer({"limit": _integer(query.get("limit"))}, "limit", low=1, high=MAX_LIMIT)
    return Page(given.get("after"), limit or DEFAULT_LIMIT, order != "asc")


def listing(items: Sequence[tuple[str, bytes]], *, has_more: bool) -> bytes:
    """The list object of stored `items`, each an id and JSON, in the order in which they are shown."""
    return jsontext.dumps(
        {
            "object": "list",
            "data": [orjson.Fragment(shown(id, item)) for id, item in items],
            "first_id": items[0][0] if items else None,
            "last_id": items[-1][0] if items else None,
            "has_more": has_more,
        }
    )


def part(items: Sequence[tuple[str, bytes]], page: Page) -> tuple[Sequence[tuple[str, bytes]], bool]:
    """The page of a whole list, the oldest first, and whether there is more. Raises `InvalidRequest`."""
    ordered = items[::-1] if page.newest_first else items
    start = 0
    if page.after is not None:
        place = next((at for at, (id, _) in enumerate(ordered) if id == page.after), None)
        if place is None:
            raise unknown_after(page.after)
        start = place + 1
    end = start + page.limit
    return ordered[start:end], end < len(ordered)


def unknown_after(after: str) -> InvalidRequest:
    return InvalidRequest(f"No item with id '{after[:200]}' is in this list.", param="after")


def _integer(text: str | None) -> Any:
    """The number a query parameter stands for; what is none is left for the reader to refuse."""
    try:
        return int(text) if text else None
    except ValueError:
        return text
