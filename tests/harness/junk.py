"""JSON values that somebody has spoiled, to show that no shape of them is our fault."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, Final

from hypothesis import strategies as st

_VALUES: Final = (
    *(None, True, 5, -0.5, 1e300, "", "x", [], {}, [5], ["x"], [None], [{}], {"type": 5}, {"a": None}),
)

WRONG: Final = st.lists(st.tuples(st.integers(0, 500), st.sampled_from(_VALUES)), min_size=1, max_size=3)
"""What to spoil: places, and what to put there."""


def spoiled(value: Any, wrong: Sequence[tuple[int, Any]]) -> Any:
    """A copy of `value` with something else in some places."""
    value = copy.deepcopy(value)
    for at, junk in wrong:
        places = _places_in(value)
        if places:
            container, key = places[at % len(places)]
            container[key] = copy.deepcopy(junk)
    return value


def _places_in(value: Any) -> list[tuple[Any, Any]]:
    """(container, key) of everything inside a JSON value."""
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    return [place for key in keys for place in ((value, key), *_places_in(value[key]))]
