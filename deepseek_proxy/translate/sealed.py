"""What is sealed into a client's `encrypted_content`, and the two functions that do it.

The functions come from outside (`sealing.Sealer`, bound to one tenant). A token opens only for the
purpose it was made for.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum


class Purpose(StrEnum):
    REASONING = "reasoning"
    """The model's thinking, as plain text."""
    COMPACTION = "compaction"
    """A packed `responses.compaction.Compaction`."""
    SEARCHES = "searches"
    """A packed `rounds.Round`, with the thinking that followed it."""


Seal = Callable[[Purpose, str], str]
"""Makes the token of a text."""

Unseal = Callable[[Purpose, str], str | None]
"""Opens a token; None for whatever does not open."""
