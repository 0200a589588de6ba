"""Whose turn it is, against all who wait: nobody who came earlier is left without what was free for it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from deepseek_proxy.store.ledger.base import Hold
from deepseek_proxy.store.ledger.turns import first_choice

NAMES = "abc"
wishes = st.lists(st.sets(st.sampled_from(NAMES), min_size=1).map(frozenset), min_size=1, max_size=8)
places = st.fixed_dictionaries({name: st.integers(0, 4) for name in NAMES})


def can_all_be_served(waiting: list[frozenset[str]], free: dict[str, int]) -> bool:
    """Whether there is a place for each of them, tried out."""
    if not waiting:
        return True
    return any(
        free[name] > 0 and can_all_be_served(waiting[1:], {**free, name: free[name] - 1})
        for name in waiting[0]
    )


def asked(waiting: list[frozenset[str]], mine: frozenset[str], free: dict[str, int]) -> str | None:
    choices = [[Hold(name, free[name])] for name in sorted(mine)]
    earlier = {name: sum(name in wish for wish in waiting) for name in NAMES}
    same = sum(wish == mine for wish in waiting)
    index = first_choice(choices, dict.fromkeys(NAMES, 0), earlier, same, mine)
    return None if index is None else choices[index][0].name


@given(wishes, places)
def test_what_is_taken_leaves_enough_for_all_who_came_earlier(
    queue: list[frozenset[str]], free: dict[str, int]
) -> None:
    *waiting, mine = queue
    if can_all_be_served(waiting, free) and (name := asked(waiting, mine, free)) is not None:
        assert can_all_be_served(waiting, {**free, name: free[name] - 1})


@given(wishes, places)
def test_the_first_takes_whatever_is_free(queue: list[frozenset[str]], free: dict[str, int]) -> None:
    mine = queue[0]
    assert (asked([], mine, free) is None) == (not any(free[name] for name in mine))


@given(st.sets(st.sampled_from(NAMES), min_size=1), st.integers(0, 8), places)
def test_of_those_who_want_the_same_the_kth_waits_for_k_places(
    wish: set[str], before: int, free: dict[str, int]
) -> None:
    mine = frozenset(wish)
    total = sum(free[name] for name in mine)
    assert (asked([mine] * before, mine, free) is not None) == (total > before)
