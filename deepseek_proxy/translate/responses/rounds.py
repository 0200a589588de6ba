"""The gateway's searches within one response: what its turns said, called and found.

A response may take several turns of the model. A turn that ends in searches alone is followed by another one,
which reads what they found; `said` is what has to be sent for it. A turn that calls the client's tools too
ends the response: its searches are dropped, and the model can search again. Refuses to know when a turn
begins and ends.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from deepseek_proxy.translate.history import Entry
from deepseek_proxy.translate.lookup import KINDS, Outcome
from deepseek_proxy.translate.responses.emitter import Emitter
from deepseek_proxy.translate.responses.options import StreamOptions
from deepseek_proxy.translate.responses.search import Answered, Round, WebSearchItem
from deepseek_proxy.translate.sealed import Purpose, Seal
from deepseek_proxy.translate.search import Planned, Session, Told
from deepseek_proxy.translate.tools import Tool, ToolKind, ToolTable


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
    """The searches of one response."""

    def __init__(self, session: Session, table: ToolTable) -> None:
        self._session = session
        self._table = table
        self._wanted: dict[int, _Wanted] = {}  # by upstream position
        self._planned: Sequence[Planned] = ()
        self._items: list[WebSearchItem] = []  # of the planned actions
        self._uncarried: Round | None = None
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

    def begin(self, emitter: Emitter, index: int, options: StreamOptions) -> list[WebSearchItem]:
        """The items, from `index` on, of the actions to run for the turn that has ended.

        Raises `SearchLimitReached`.
        """
        self._planned = self._session.plan([(call.kind, call.arguments) for call in self._wanted.values()])
        actions = [planned.action for planned in self._planned if planned.action is not None]
        self._items = [
            WebSearchItem(emitter, at, options.new_id, action, shows_sources=options.shows_sources)
            for at, action in enumerate(actions, index)
        ]
        return self._items

    def found(self, outcomes: Sequence[Outcome]) -> list[WebSearchItem]:
        """Takes what came of the actions; returns their items, which can be closed."""
        told = list(self._results(iter(outcomes)))
        calls = [
            Answered(wanted.kind, wanted.call_id, wanted.arguments, result.text)
            for wanted, result in zip(self._wanted.values(), told, strict=True)
        ]
        sources = dict.fromkeys(source for result in told for source in result.sources)
        self._uncarried = Round(calls, tuple(sources))
        self.said += self._uncarried.entries(self._table)
        self._wanted.clear()
        run = (result for result, planned in zip(told, self._planned, strict=True) if planned.action)
        for item, result in zip(self._items, run, strict=True):
            item.settle(result)
        return self._items

    def _results(self, outcomes: Iterator[Outcome]) -> Iterator[Told]:
        for planned in self._planned:
            if planned.action is None:
                yield Told(planned.refusal, ok=False)
            else:
                yield self._session.tell(planned.action, next(outcomes))

    @property
    def waits_for_carrier(self) -> bool:
        """Whether there is a round that a reasoning item has to carry."""
        return self._uncarried is not None

    def sealer(self, seal: Seal, *, known: bool) -> Callable[[str], str]:
        """What makes the `encrypted_content` of a new reasoning item: it carries the round that waits.

        Where the thinking is not `known`, the item is there for that alone.
        """
        carried, self._uncarried = self._uncarried, None
        if carried is None:
            return partial(seal, Purpose.REASONING)
        return lambda text: carried.token(seal, text if known else None)
