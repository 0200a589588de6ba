"""Turns that are not stored, from which others go on over the same connection.

A turn is kept as what the model was given and what it said, in JSON; the turns of one conversation share what
they have in common. Refuses to know what an item means, and who sends it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final

import orjson
from cachetools import LRUCache

from deepseek_proxy.api.recorder import Recorder
from deepseek_proxy.api.standing import Standing
from deepseek_proxy.translate import jsontext

Item = Mapping[str, Any]
Chain = tuple[bytes, ...]
"""JSON arrays of items, the oldest first."""

_GOOD: Final = frozenset({"completed", "incomplete"})


class UnstoredTurns:
    """Keeps the latest turns that fit into `max_bytes`; what turns share counts for each of them."""

    def __init__(self, max_bytes: int) -> None:
        self._chains: LRUCache[str, Chain] = LRUCache(max_bytes, getsizeof=_size)

    def recall(self, response: str) -> Sequence[Item] | None:
        """All that was said up to the end of this response; None where that is not known."""
        chain = self._chains.get(response)
        return None if chain is None else [item for part in chain for item in orjson.loads(part)]

    def watched(self, standing: Standing) -> Standing:
        """A request's standing, by which its response is kept here where the store does not keep it."""
        place = standing.place
        chain = self._chains.get(place.previous_response_id or "")
        if chain is None:
            chain = _chain(place.earlier)
        chain += _chain(_items(standing.body.get("input")))
        return replace(standing, recorder=_TurnRecorder(standing.recorder, self, chain))

    def keep(self, response: str, chain: Chain) -> None:
        with suppress(ValueError):  # larger than all that may be kept
            self._chains[response] = chain

    def forget(self, response: str) -> None:
        self._chains.pop(response, None)


class _TurnRecorder:
    """A `Recorder` that keeps in `turns` what `store` does not. `chain` is what the model is given."""

    def __init__(self, store: Recorder, turns: UnstoredTurns, chain: Chain) -> None:
        self._store = store
        self._turns = turns
        self._chain = chain
        self._stored = False

    @property
    def record(self) -> Callable[[int, bytes], None] | None:
        return self._store.record

    @property
    def warning(self) -> str | None:
        return self._store.warning

    def begin(self, response: Mapping[str, Any]) -> bool:
        self._stored = self._store.begin(response)
        return self._stored

    def end(self, response: Mapping[str, Any], number: int, frames: bytes) -> None:
        self._store.end(response, number, frames)
        if not self._stored and response["status"] in _GOOD:
            self._turns.keep(response["id"], (*self._chain, *_chain(response["output"])))

    def drop(self) -> None:
        self._store.drop()


def _items(value: object) -> Sequence[Any]:
    """The items of an `input`."""
    if isinstance(value, str):
        return [{"role": "user", "content": value}]
    return value if isinstance(value, list) else ()


def _chain(items: Sequence[Any]) -> Chain:
    # A copy, which is as long as it has to be: what orjson returns holds 4 KB, however short it is.
    return (bytes(memoryview(jsontext.dumps(items))),) if items else ()


def _size(chain: Chain) -> int:
    return sum(map(len, chain))
