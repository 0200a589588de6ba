"""The gateway's searches within one answer: what its turns said, called and found.

An answer may take several turns of the model. A turn that ends in searches alone is followed by another one,
which reads what they found; `said` is what has to be sent for it. A turn that calls the client's tools too
ends the answer: its searches are dropped, and the model can search again. Refuses to know when a turn begins
and ends, and how a dialect shows any of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from deepseek_proxy.translate.history import Entry, TextPart, ToolCall, ToolResult
from deepseek_proxy.translate.lookup import KINDS, OPEN_PAGE, WEB_SEARCH, Action, Outcome
from deepseek_proxy.translate.search import Planned, Session, Told
from deepseek_proxy.translate.sources import Source
from deepseek_proxy.translate.tools import Tool, ToolKind, ToolTable

TOOLS: Final = {tool.kind: tool for tool in (WEB_SEARCH, OPEN_PAGE)}


@dataclass(frozen=True, slots=True)
class Answered:
    """A call of the model that the gateway ran, and its result."""

    kind: ToolKind
    call_id: str
    arguments: str
    result: str


@dataclass(frozen=True, slots=True)
class Round:
    """All such calls of one turn, and the pages that their results name."""

    calls: Sequence[Answered]
    sources: Sequence[Source]

    def entries(self, table: ToolTable) -> list[Entry]:
        return [
            *(ToolCall(c.call_id, table.upstream_name(TOOLS[c.kind]), c.arguments) for c in self.calls),
            *(ToolResult(c.call_id, None, (TextPart(c.result),)) for c in self.calls),
        ]


@dataclass(slots=True)
class _Wanted:
    """A call of the turn that is under way."""

    kind: ToolKind
    call_id: str
    pieces: list[str]

    @property
    def arguments(self) -> str:
        return "".join(self.pieces)


class Rounds:
    """The searches of one answer."""

    def __init__(self, session: Session, table: ToolTable) -> None:
        self._session = session
        self._table = table
        self._wanted: dict[int, _Wanted] = {}  # by upstream position
        self._planned: Sequence[Planned] = ()
        self.said: list[Entry] = []
        """What the turns so far add to the conversation, as a later request will repeat it."""

    @property
    def are_possible(self) -> bool:
        return self._session.is_offered

    def runs(self, tool: Tool) -> bool:
        """Whether the gateway itself runs this tool."""
        return tool.kind in KINDS and self.are_possible

    @property
    def are_wanted(self) -> bool:
        """Whether the turn under way has called for a search."""
        return bool(self._wanted)

    def want(self, position: int, kind: ToolKind, call_id: str, arguments: str) -> None:
        """A search begins at this upstream position."""
        self._wanted[position] = _Wanted(kind, call_id, [arguments])

    def go_on(self, position: int, arguments: str) -> None:
        """The next piece of the arguments of the search at this position, if there is one."""
        if position in self._wanted:
            self._wanted[position].pieces.append(arguments)

    def plan(self) -> list[Action]:
        """The actions to run for the turn that has ended. Raises `SearchLimitReached`."""
        self._planned = self._session.plan([(call.kind, call.arguments) for call in self._wanted.values()])
        return [planned.action for planned in self._planned if planned.action is not None]

    def settle(self, outcomes: Sequence[Outcome]) -> tuple[Round, list[Told]]:
        """Takes what came of the actions: the round that has ended, and what is told of each action."""
        told = list(self._results(iter(outcomes)))
        calls = [
            Answered(wanted.kind, wanted.call_id, wanted.arguments, result.text)
            for wanted, result in zip(self._wanted.values(), told, strict=True)
        ]
        sources = dict.fromkeys(source for result in told for source in result.sources)
        ended = Round(calls, tuple(sources))
        self.said += ended.entries(self._table)
        self._wanted.clear()
        run = [result for result, planned in zip(told, self._planned, strict=True) if planned.action]
        return ended, run

    def _results(self, outcomes: Iterator[Outcome]) -> Iterator[Told]:
        for planned in self._planned:
            if planned.action is None:
                yield Told(planned.refusal, ok=False)
            else:
                yield self._session.tell(planned.action, next(outcomes))
