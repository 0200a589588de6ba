"""Conversations in every backend: their items, their owner, what a response adds, how long they live."""

from __future__ import annotations

import pytest
from harness.clocks import Clock
from store.conftest import DAY
from store.turns import begin, item, talk

from deepseek_proxy.store.base import Conversation
from deepseek_proxy.store.store import Store


def names(store: Store, **query: object) -> list[str]:
    page = store.conversation_items("ann", "conv_1", **query)  # type: ignore[arg-type]
    assert page is not None
    return [found.id.removeprefix("msg_") for found in page.items]


def test_a_conversation_is_made_changed_and_deleted(store: Store) -> None:
    talk(store, "a")
    assert store.conversation("ann", "conv_1") == Conversation("conv_1", "ann", 1_800_000_000, b"{}")
    assert store.update_conversation("ann", "conv_1", b'{"topic":"x"}')
    assert store.conversation("ann", "conv_1") == Conversation(
        "conv_1", "ann", 1_800_000_000, b'{"topic":"x"}'
    )
    assert store.delete_conversation("ann", "conv_1")
    assert store.conversation("ann", "conv_1") is None
    assert store.conversation_items("ann", "conv_1") is None
    assert store.find_items("ann", ["msg_a"]) == {}
    assert not store.delete_conversation("ann", "conv_1")
    assert not store.update_conversation("ann", "conv_1", b"{}")
    assert not store.add_items("ann", "conv_1", [item("b")])
    assert store.usage("ann").bytes == 0


def test_its_items_come_in_both_orders_and_in_pages(store: Store) -> None:
    talk(store, "a", "b")
    assert store.add_items("ann", "conv_1", [item("c"), item("d")])
    assert names(store) == ["a", "b", "c", "d"]
    assert names(store, descending=True) == ["d", "c", "b", "a"]
    assert names(store, after="msg_b") == ["c", "d"]
    assert names(store, after="msg_b", descending=True) == ["a"]
    page = store.conversation_items("ann", "conv_1", limit=3)
    assert page is not None
    assert (len(page.items), page.has_more) == (3, True)
    page = store.conversation_items("ann", "conv_1", after="msg_c", limit=1)
    assert page is not None
    assert (len(page.items), page.has_more) == (1, False)
    with pytest.raises(LookupError):
        store.conversation_items("ann", "conv_1", after="msg_unknown")


def test_its_items_are_found_and_deleted_one_by_one(store: Store) -> None:
    talk(store, "a", "b", "c")
    assert store.conversation_item("ann", "conv_1", "msg_b") == item("b")
    assert store.find_items("ann", ["msg_b"]) == {"msg_b": item("b")}
    assert store.delete_item("ann", "conv_1", "msg_b")
    assert names(store) == ["a", "c"]
    assert store.conversation_item("ann", "conv_1", "msg_b") is None
    assert store.find_items("ann", ["msg_b"]) == {}
    assert not store.delete_item("ann", "conv_1", "msg_b")
    assert not store.delete_item("ann", "conv_2", "msg_a")


def test_an_item_that_is_there_stays_as_it_is(store: Store) -> None:
    talk(store, "a", "b")
    assert store.add_items("ann", "conv_1", [item("a", "changed"), item("c")])
    assert names(store) == ["a", "b", "c"]
    assert store.conversation_item("ann", "conv_1", "msg_a") == item("a")


def test_nobody_else_sees_a_conversation(store: Store) -> None:
    talk(store, "a")
    assert store.conversation("bob", "conv_1") is None
    assert store.conversation_items("bob", "conv_1") is None
    assert store.conversation_item("bob", "conv_1", "msg_a") is None
    assert not store.delete_item("bob", "conv_1", "msg_a")
    assert not store.add_items("bob", "conv_1", [item("b")])
    assert not store.update_conversation("bob", "conv_1", b"{}")
    assert not store.delete_conversation("bob", "conv_1")
    assert names(store) == ["a"]


def test_a_response_adds_to_its_conversation_when_it_ends(store: Store) -> None:
    talk(store, "a")
    recording = begin(store, conversation="conv_1", input=[item("a"), item("q")])
    assert names(store) == ["a"]
    store.finish(recording, "completed", b"{}", [item("b")], [item("q"), item("b")])
    assert names(store) == ["a", "q", "b"]


def test_what_a_response_was_given_is_kept_once_and_found_in_its_conversation(store: Store) -> None:
    history = [item("a")]
    talk(store, "a")
    sizes = []
    for turn in range(10):
        asked, answered = item(f"q{turn}"), item(f"r{turn}")
        recording = begin(store, f"resp_{turn}", conversation="conv_1", said=history, input=[asked])
        store.finish(recording, "completed", b"{}", [answered], [asked, answered])
        history += asked, answered
        sizes.append(store.usage("ann").bytes)
        found = store.get("ann", f"resp_{turn}")
        assert found is not None
        assert found.own_input == 1
        assert store.items("ann", found.head) == history
    assert sizes[9] - sizes[8] == sizes[2] - sizes[1]
    for turn in range(10):
        assert store.delete("ann", f"resp_{turn}")
    assert store.find_items("ann", [known.id for known in history]) == {known.id: known for known in history}
    assert store.delete_conversation("ann", "conv_1")
    assert store.usage("ann").bytes == 0


def test_a_conversation_deleted_meanwhile_is_not_made_again(store: Store) -> None:
    talk(store, "a")
    recording = begin(store, conversation="conv_1")
    assert store.delete_conversation("ann", "conv_1")
    assert store.finish(recording, "completed", b"{}", [item("b")], [item("b")])
    assert store.conversation("ann", "conv_1") is None


def test_a_conversation_lives_for_as_long_as_it_is_used(store: Store, clock: Clock) -> None:
    talk(store, "a")
    clock.now += 20 * DAY
    assert store.add_items("ann", "conv_1", [item("b")])
    clock.now += 20 * DAY
    assert names(store) == ["a", "b"]
    clock.now += 11 * DAY
    assert store.conversation("ann", "conv_1") is None
    store.backend.sweep(100)
    assert store.usage() == store.usage("nobody")
