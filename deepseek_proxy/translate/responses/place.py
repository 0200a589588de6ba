"""Where a request stands: what was said before it, and what shall become of its answer.

A request may go on from an earlier response, from a conversation, or from nothing. Whoever keeps those finds
the items; reading them is the same for all. Refuses to know where anything is kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Item = Mapping[str, Any]
"""One input or output item, as it was sent."""


@dataclass(frozen=True, slots=True)
class Place:
    """`earlier` are the items before the request's own, the oldest first. The rest is what the Response says
    of it: `store` is the truth, and not what was asked for."""

    earlier: Sequence[Item] = ()
    previous_response_id: str | None = None
    conversation: str | None = None
    store: bool = False
    background: bool = False


NOWHERE = Place()
"""A request that says everything itself, and is forgotten."""
