"""Whose turn it is, for all ledgers: those who came first have places kept for them, as many as they need.

Who waits for several names needs one place in any of them. So of all who wait for the same names, the k-th
may take a place as soon as k are free; who wants other names leaves those be that others want who came
earlier. Refuses to know where queues are stored.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from deepseek_proxy.store.ledger.base import Hold


def first_choice(
    choices: Sequence[Sequence[Hold]],
    held: Mapping[str, int],
    earlier: Mapping[str, int],
    same: int = 0,
    names: Collection[str] = (),
) -> int | None:
    """The first choice that can be had, or None.

    `earlier` is how many wait for each name who came earlier; of them `same` wait for `names`, as the one
    whose turn is asked for. Who does not wait has no names: all who do came earlier.
    """
    spare = {
        hold.name: hold.limit - held[hold.name] - earlier[hold.name] + (same if hold.name in names else 0)
        for holds in choices
        for hold in holds
    }
    if names and sum(max(0, spare[name]) for name in names if name in spare) <= same:
        return None
    for index, holds in enumerate(choices):
        if all(spare[hold.name] > 0 for hold in holds):
            return index
    return None
