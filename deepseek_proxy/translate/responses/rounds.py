"""The gateway's searches as a response shows them: an item each, and what carries them to the next request.

Refuses to know how they are counted and worded (`translate.rounds` and `translate.search` do).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from deepseek_proxy.translate import rounds
from deepseek_proxy.translate.lookup import Outcome
from deepseek_proxy.translate.responses import search
from deepseek_proxy.translate.responses.emitter import Emitter
from deepseek_proxy.translate.responses.options import StreamOptions
from deepseek_proxy.translate.responses.search import WebSearchItem
from deepseek_proxy.translate.rounds import Round
from deepseek_proxy.translate.sealed import Purpose, Seal
from deepseek_proxy.translate.search import Session
from deepseek_proxy.translate.tools import ToolTable


class Rounds(rounds.Rounds):
    """The searches of one response."""

    def __init__(self, session: Session, table: ToolTable) -> None:
        super().__init__(session, table)
        self._items: list[WebSearchItem] = []  # of the planned actions
        self._uncarried: Round | None = None

    def begin(self, emitter: Emitter, index: int, options: StreamOptions) -> list[WebSearchItem]:
        """The items, from `index` on, of the actions to run for the turn that has ended.

        Raises `SearchLimitReached`.
        """
        self._items = [
            WebSearchItem(emitter, at, options.new_id, action, shows_sources=options.shows_sources)
            for at, action in enumerate(self.plan(), index)
        ]
        return self._items

    def found(self, outcomes: Sequence[Outcome]) -> list[WebSearchItem]:
        """Takes what came of the actions; returns their items, which can be closed."""
        self._uncarried, told = self.settle(outcomes)
        for item, result in zip(self._items, told, strict=True):
            item.settle(result)
        return self._items

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
        return lambda text: search.token(carried, seal, text if known else None)
