"""The values that pass between the simulator's parts: what the model says in one turn, and how it is sent.

A `Turn` comes from a script, a directive or the brain; `wire` makes chunks of it, `faults` breaks it. Refuses
to know who asked for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

FINISH_REASONS = ("stop", "length", "tool_calls", "content_filter", "insufficient_system_resource", "aborted")


class Call(NamedTuple):
    """A tool call. `arguments` is sent as it stands, valid JSON or not."""

    name: str
    arguments: str


class Fault(NamedTuple):
    """A named fault and its options, already checked against the table in `faults.py`."""

    name: str
    options: tuple[tuple[str, float | str], ...] = ()

    def number(self, option: str) -> float:
        """The value of a numeric option."""
        return float(dict(self.options)[option])

    def text(self, option: str) -> str:
        """The value of a textual option."""
        return str(dict(self.options)[option])


@dataclass(frozen=True, slots=True)
class Turn:
    """What the model says in one turn.

    `finish` None means the reason that follows from the content. `chunk_characters` and `token_seconds` None
    mean the simulator's own.
    """

    reasoning: str = ""
    text: str = ""
    calls: tuple[Call, ...] = ()
    finish: str | None = None
    faults: tuple[Fault, ...] = ()
    chunk_characters: int | None = None
    token_seconds: float | None = None
