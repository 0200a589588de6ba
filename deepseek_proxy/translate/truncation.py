"""Makes a conversation fit by leaving out its oldest turns, where the client has asked for that.

What is left out depends on the conversation's beginning alone: it is as if the conversation were seen
growing, entry by entry, and each time it gets too long, turns go until a quarter of the room is free again.
So the next request leaves out the same turns, and what is sent for it begins with the same bytes, until that
quarter is used up. Refuses to know how a client asks, and what a token is.

Never left out: system texts, and the turn that is under way. A call and its result are never parted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

from deepseek_proxy.models import Model
from deepseek_proxy.translate import history
from deepseek_proxy.translate.history import Entry, SystemText, UserMessage
from deepseek_proxy.translate.reasoning import ThinkingMode
from deepseek_proxy.translate.tokens import Count, entry_tokens, size_in_bytes

_KEPT: Final = 0.75
_LARGEST_DEFAULT: Final = 0.25  # of the window; DeepSeek lowers its defaults to what is left of it

# What DeepSeek lets an answer have that names no limit (docs of Oct 2026).
_DEFAULT_OUTPUT_TOKENS: Final = 8_192
_DEFAULT_OUTPUT_TOKENS_THINKING: Final = 65_536
_DEFAULT_OUTPUT_TOKENS_AT_MOST_EFFORT: Final = 131_072


def room(model: Model, mode: ThinkingMode, max_tokens: int | None) -> int:
    """Tokens that are left for a prompt beside its answer."""
    if max_tokens is not None:
        return model.context_window - max_tokens
    answer = _DEFAULT_OUTPUT_TOKENS
    if mode.enabled:
        most = mode.effort == "max"
        answer = _DEFAULT_OUTPUT_TOKENS_AT_MOST_EFFORT if most else _DEFAULT_OUTPUT_TOKENS_THINKING
    return model.context_window - min(answer, int(model.context_window * _LARGEST_DEFAULT))


def shorten(entries: Sequence[Entry], tokens: int, count: Count, notes: Counter[str]) -> list[Entry]:
    """The entries that fit into `tokens`; the turns that were left out for that are counted in `notes`.

    `count` is asked only where the size in bytes does not show that all of it fits. More than fits is
    returned where the system texts and the last turn are too long by themselves.
    """
    if sum(entry_tokens(entry, size_in_bytes) for entry in entries) <= tokens:
        return list(entries)
    turns = _turns(entries)
    sizes = [0] * (turns[-1] + 1)
    total = left_out = 0
    for entry, turn in zip(entries, turns):
        size = entry_tokens(entry, count)
        total += size
        if not isinstance(entry, SystemText):
            sizes[turn] += size
        if total > tokens:
            while total > tokens * _KEPT and left_out < turn:
                total -= sizes[left_out]
                left_out += 1
    if left_out:
        notes["turn_left_out"] += left_out
    return [e for e, turn in zip(entries, turns) if turn >= left_out or isinstance(e, SystemText)]


def _turns(entries: Sequence[Entry]) -> list[int]:
    """The number of the turn that each entry belongs to. A turn begins where the user speaks to a model that
    waits for no result."""
    result_of, _ = history.pair(entries)
    turn = awaits_until = 0
    answered = False  # whether anybody else has spoken in this turn
    turns = []
    for at, entry in enumerate(entries):
        awaits_until = max(awaits_until, result_of.get(at, 0))
        if isinstance(entry, UserMessage):
            if answered and awaits_until < at:
                turn += 1
                answered = False
        elif not isinstance(entry, SystemText):
            answered = True
        turns.append(turn)
    return turns
