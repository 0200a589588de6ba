"""How much of what is stored comes back at a time: it is small where it lies, and may not fill the memory."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import pytest
from harness.clocks import Clock
from store.conftest import MakeBackend
from store.turns import answer, item, talk

from deepseek_proxy.errors import BodyTooLarge
from deepseek_proxy.store.store import Store

KB = "x" * 1000
"""Some 20 bytes in the store."""
MOST = 10_000


@pytest.fixture
def store(make_backend: MakeBackend, clock: Clock) -> Iterator[Store]:
    store = Store(make_backend(), max_items_bytes=MOST, clock=clock)
    yield store
    store.close()


@pytest.fixture
def turns(store: Store) -> Callable[[str, int], bytes | None]:
    def make(text: str, count: int) -> bytes | None:
        """The head of a chain of so many turns, of an item each."""
        head = None
        for number in range(count):
            head = answer(store, f"resp_{count}_{number}", base=head, input=[item(f"q{number}", text)]).head
        return head

    return make


@pytest.mark.parametrize("text", [KB, os.urandom(500).hex()], ids=["dense", "loose"])
def test_a_chain_comes_back_up_to_the_limit(
    store: Store, turns: Callable[[str, int], bytes | None], text: str
) -> None:
    assert len(store.items("ann", turns(text, 9))) == 9
    with pytest.raises(BodyTooLarge, match=str(MOST)):
        store.items("ann", turns(text, 12))


def test_items_of_many_places_come_back_up_to_the_limit(
    store: Store, turns: Callable[[str, int], bytes | None]
) -> None:
    turns(KB, 12)
    assert len(store.find_items("ann", [f"msg_q{number}" for number in range(9)])) == 9
    with pytest.raises(BodyTooLarge):
        store.find_items("ann", [f"msg_q{number}" for number in range(12)])


def test_items_of_one_place_are_looked_for_once(store: Store) -> None:
    answer(store, "resp_1", input=[item(f"q{number}", KB) for number in range(8)])
    wanted = [f"msg_q{number}" for number in range(7)]
    assert [*store.find_items("ann", [*wanted, "msg_none"])] == wanted
    (located,) = store.backend.locate("ann", wanted, MOST)
    assert sorted(located.ids) == wanted


@pytest.mark.parametrize("text", [KB, os.urandom(500).hex()], ids=["dense", "loose"])
def test_a_conversation_comes_back_in_smaller_pages(store: Store, text: str) -> None:
    talk(store)
    store.add_items("ann", "conv_1", [item(f"q{number}", text) for number in range(12)])
    with pytest.raises(BodyTooLarge):
        store.conversation_items("ann", "conv_1")
    seen: list[str] = []
    more = True
    while more:
        page = store.conversation_items("ann", "conv_1", limit=100, after=seen[-1] if seen else None)
        assert page is not None
        assert 1 <= len(page.items) <= 10
        seen += [found.id for found in page.items]
        more = page.has_more
    assert seen == [f"msg_q{number}" for number in range(12)]
    page = store.conversation_items("ann", "conv_1", limit=9)
    assert page is not None
    assert (len(page.items), page.has_more) == (9, True)
