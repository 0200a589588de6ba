"""What the machine of one response needs from outside. Refuses to know what it does with that."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from deepseek_proxy.errors import ProxyError
from deepseek_proxy.translate import ids
from deepseek_proxy.translate.responses.output import ReasoningOutput
from deepseek_proxy.translate.responses.search import citations
from deepseek_proxy.translate.sealed import Seal
from deepseek_proxy.translate.search import Session
from deepseek_proxy.translate.tools import ToolTable


@dataclass(frozen=True, slots=True)
class StreamOptions:
    """Ids, clocks and choices.

    `seal` makes `encrypted_content`; `remember(call_id, thinking)` keeps thinking for clients that do not
    send it back; `now` is Unix time in seconds; for `padding` see `Emitter`.
    """

    tools: ToolTable
    new_id: ids.NewId
    seal: Seal
    remember: Callable[[str, str], None]
    now: Callable[[], int]
    reasoning_output: ReasoningOutput = "summary"
    parallel_tool_calls: bool = True
    permitted: Callable[[str], bool] = lambda _name: True
    """Whether a call of this upstream name may be shown: `tool_choice` is a hard constraint."""
    padding: Callable[[int], str] | None = None
    search: Session = field(default_factory=Session)
    cites: bool = True
    """Whether the text may cite what was found. In JSON, [1] is an array."""
    shows_sources: bool = False
    """Whether searches show all that they found, as `include` asks."""
    totals_last_turn: bool = False
    """Whether `total_tokens` is that of the last turn alone, where an answer takes several."""
    filtered_is_failed: bool = False
    """Whether an answer that the content filter cut off has failed, in place of being incomplete."""
    queued: bool = False
    """Whether the answer is begun before the upstream is asked, and waits for that for its turn."""
    told: Callable[[ProxyError], ProxyError] = lambda error: error
    """The form in which the client understands a failure."""

    def cite(self, text: str) -> list[dict[str, Any]]:
        """The annotations of a text that is whole."""
        return citations(text, self.search.sources) if self.cites else []
