"""What the machine of one chat completion needs from outside. Refuses to know what it does with that."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from deepseek_proxy.translate import ids
from deepseek_proxy.translate.search import Session
from deepseek_proxy.translate.tools import ToolTable


@dataclass(frozen=True, slots=True)
class StreamOptions:
    """Ids and choices.

    `remember(key, text)` keeps what a client does not send back: the thinking of a call, the searches of an
    answer. For `tells_usage` and `padding` see `Emitter`.
    """

    tools: ToolTable
    new_id: ids.NewId
    remember: Callable[[str, str], None]
    tells_usage: bool = False
    parallel_tool_calls: bool = True
    legacy_functions: bool = False
    """Whether a call is shown as `function_call`, as the request's `functions` want it."""
    permitted: Callable[[str], bool] = lambda _name: True
    """Whether a call of this upstream name may be shown: `tool_choice` is a hard constraint."""
    padding: Callable[[int], str] | None = None
    search: Session = field(default_factory=Session)
    cites: bool = True
    """Whether the text may cite what was found. In JSON, [1] is an array."""
