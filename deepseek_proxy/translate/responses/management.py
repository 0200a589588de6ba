"""`context_management`: a compaction in front of an answer, in the same response.

The first turn of the model writes the summary, as for every compaction; the turns after it answer, and see
the conversation as the next request will bring it: the messages of the user and of the system, then the
summary. So what is sent for that request begins with the same bytes. Refuses to know when a conversation is
too long.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from deepseek_proxy.translate.compose import Turns
from deepseek_proxy.translate.history import Entry, TextPart, ToolCall, UserMessage
from deepseek_proxy.translate.responses import compaction

# What the client wants of its answer, and not of the summary.
_OF_THE_ANSWER: Final = ("max_tokens", "response_format", "logprobs", "top_logprobs")


def compacted_first(turns: Turns, entries: Sequence[Entry]) -> tuple[Turns, Sequence[Entry]]:
    """The turns that begin with the one that writes the summary, and what stays of the conversation.

    `turns` are those that would answer `entries` without a compaction.
    """
    prompt = UserMessage((TextPart(compaction.PROMPT),))
    asked = turns.next((prompt,), 0)
    summary = {name: value for name, value in asked.items() if name not in _OF_THE_ANSWER}
    kept = compaction.kept_entries(entries)

    def answer(said: Sequence[Entry], _tokens: int) -> dict[str, Any]:
        """A turn of the answer. The client's limit is for each: the tokens so far are the summary's, too."""
        body = {**turns.first, "messages": turns.build([*kept, *said]).messages}
        was_forced = "tool_choice" in turns.first and "tool_choice" not in asked
        if was_forced and any(isinstance(entry, ToolCall) for entry in said):
            del body["tool_choice"]  # it has been obeyed
        return body

    return Turns(summary, answer, turns.build), kept
