"""The thinking switch: what a client asked for -> DeepSeek's `thinking` and `reasoning_effort`.

Refuses to know how a dialect spells the wish, and where earlier reasoning goes (`history.py`). Source:
DeepSeek "Thinking Mode" (docs of Nov 2026): thinking is on unless switched off, and three efforts exist.

Precedence, highest first:

1. A forced tool choice switches thinking off: DeepSeek answers 400 to the two together.
2. The client's switch (DeepSeek's own `thinking`): off is off, and on is on also with the effort `none`.
3. The client's effort. It also wins over the mode a model name stands for (`deepseek-chat` with effort
   `high` thinks): a request says what is wanted now, a name in a configuration file what once was.
4. The mode of the model name.
5. The model's default effort, with thinking on.

An effort nobody knows is treated as no effort: it is never forwarded, and never an error.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

EFFORTS: Final[Mapping[str, str | None]] = MappingProxyType(
    {
        "none": None,
        "minimal": "low",
        "low": "low",
        "medium": "high",
        "high": "high",
        "xhigh": "high",
        "max": "max",
        "ultra": "max",
    }
)
"""A client's effort -> DeepSeek's; None switches thinking off."""


@dataclass(frozen=True, slots=True)
class ThinkingMode:
    """Whether one request thinks, and how hard. `effort` is `low`, `high` or `max`; None is off."""

    effort: str | None

    @property
    def enabled(self) -> bool:
        return self.effort is not None

    def fields(self) -> dict[str, Any]:
        """The fields of the upstream request. The switch is always explicit: DeepSeek's default is on."""
        if self.effort is None:
            return {"thinking": {"type": "disabled"}}
        return {"thinking": {"type": "enabled"}, "reasoning_effort": self.effort}


OFF: Final = ThinkingMode(None)


def choose(
    effort: str | None,
    *,
    alias: bool | None,
    forced_tool: bool,
    default_effort: str,
    switch: bool | None = None,
) -> ThinkingMode:
    """The mode of one request.

    `effort` and `switch` are the client's words, None where it said nothing; `alias` is
    `models.Resolved.thinking`; `forced_tool` says that the tool choice is `required` or names a tool;
    `default_effort` is the model's.
    """
    if forced_tool or switch is False:
        return OFF
    if effort is not None and effort in EFFORTS:
        return ThinkingMode(EFFORTS[effort] or (default_effort if switch else None))
    return OFF if alias is False and not switch else ThinkingMode(default_effort)
