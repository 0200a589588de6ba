"""Web search in the Responses dialect: the hosted tool's options, its item, citations, and what is sealed.

A client keeps no state for us but the items it echoes, and of these it changes `web_search_call` at will. So
the calls and results of a turn travel in the `encrypted_content` of the reasoning item that follows them, and
the next request rebuilds exactly the messages that the model has already read. Refuses to know what is
searched and how (`translate.search` does).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import orjson

from deepseek_proxy.translate import ids, jsontext
from deepseek_proxy.translate.history import Entry, Thinking
from deepseek_proxy.translate.lookup import Action, Search
from deepseek_proxy.translate.responses.emitter import Emitter
from deepseek_proxy.translate.responses.output import ItemStatus
from deepseek_proxy.translate.rounds import TOOLS, Answered, Round
from deepseek_proxy.translate.sealed import Purpose, Seal, Unseal
from deepseek_proxy.translate.search import Told
from deepseek_proxy.translate.sources import Source, Sources
from deepseek_proxy.translate.tools import ToolTable

# Tells the reader which purpose to open a token for: one that does not open is counted as a failure.
_MARK: Final = "searches."


def citations(text: str, sources: Sources) -> list[dict[str, Any]]:
    """The `url_citation` annotations of a text; the indices count characters, the end is exclusive."""
    return [
        {
            "type": "url_citation",
            "start_index": cited.start,
            "end_index": cited.end,
            "url": cited.source.url,
            "title": cited.source.title,
        }
        for cited in sources.cited(text)
    ]


class WebSearchItem:
    """One search, or one page that was opened."""

    def __init__(
        self, emitter: Emitter, index: int, new_id: ids.NewId, action: Action, *, shows_sources: bool
    ) -> None:
        self._emit = emitter
        self.index = index
        self.id = new_id(ids.WEB_SEARCH_CALL)
        self.action = action
        self._shows_sources = shows_sources
        self._told: Told | None = None

    def open(self) -> bytes:
        item = self.current("in_progress")
        added = self._emit.event("response.output_item.added", {"output_index": self.index, "item": item})
        return added + self._event("in_progress") + self._event("searching")

    def settle(self, told: Told) -> None:
        """What came of it; `close()` shows it."""
        self._told = told

    def close(self, status: ItemStatus) -> bytes:
        completed = self._event("completed") if self._told is not None and self._told.ok else b""
        item = self.current(status)
        return completed + self._emit.event(
            "response.output_item.done", {"output_index": self.index, "item": item}
        )

    def current(self, status: ItemStatus) -> dict[str, Any]:
        failed = self._told is not None and not self._told.ok
        return {
            "id": self.id,
            "type": "web_search_call",
            "status": "failed" if failed else status,
            "action": self._shown_action(),
        }

    def _shown_action(self) -> dict[str, Any]:
        if not isinstance(self.action, Search):
            return {"type": "open_page", "url": self.action.url}
        shown: dict[str, Any] = {"type": "search", "query": self.action.query}
        if self._shows_sources and self._told is not None:
            shown["sources"] = [{"type": "url", "url": source.url} for source in self._told.sources]
        return shown

    def _event(self, stage: str) -> bytes:
        where = {"item_id": self.id, "output_index": self.index}
        return self._emit.event(f"response.web_search_call.{stage}", where)


# -- what is sealed ---------------------------------------------------------------------------------


def token(carried: Round, seal: Seal, thinking: str | None) -> str:
    """The `encrypted_content` of the reasoning item that carries a round.

    `thinking` is the item's own; None where it has none and only carries.
    """
    packed = {
        "calls": [[c.kind, c.call_id, c.arguments, c.result] for c in carried.calls],
        "sources": carried.sources,
        "thinking": thinking,
    }
    return _MARK + seal(Purpose.SEARCHES, jsontext.dumps(packed).decode())


@dataclass(frozen=True, slots=True)
class Kept:
    """What a reasoning item carries: a round, and the thinking that came after it."""

    round: Round
    thinking: str | None

    def entries(self, table: ToolTable) -> list[Entry]:
        thought = [] if self.thinking is None else [Thinking(self.thinking)]
        return [*self.round.entries(table), *thought]


def is_round(token: str) -> bool:
    """Whether `encrypted_content` is that of a reasoning item that carries a round."""
    return token.startswith(_MARK)


def unsealed(token: str, unseal: Unseal) -> Kept | None:
    """The reverse of `token`; None for a token that does not open."""
    text = unseal(Purpose.SEARCHES, token.removeprefix(_MARK))
    try:
        packed = orjson.loads(text or "null")
        calls = [Answered(TOOLS[kind].kind, *map(str, rest)) for kind, *rest in packed["calls"]]
        sources = [Source(int(number), str(url), str(title)) for number, url, title in packed["sources"]]
        thinking = packed["thinking"]
    except (KeyError, TypeError, ValueError):  # another version packed it in another way
        return None
    return Kept(Round(calls, sources), thinking if isinstance(thinking, str) else None)
