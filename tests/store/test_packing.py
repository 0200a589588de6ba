"""Hash chains, and blobs that come out as they went in."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepseek_proxy.store import packing
from deepseek_proxy.store.base import Item

ONE_LINE = st.binary().map(lambda data: data.replace(b"\n", b" "))


@given(st.lists(st.builds(Item, st.text(), ONE_LINE), min_size=1))
def test_items_come_out_as_they_went_in(items: list[Item]) -> None:
    assert packing.unpack(packing.pack(items)) == items


@pytest.mark.parametrize("data", [b"", b"x", b"\0\1", b"text " * 1000, os.urandom(5000)])
def test_blobs_come_out_as_they_went_in(data: bytes) -> None:
    blob = packing.compress(data)
    assert packing.decompress(blob) == data
    assert len(blob) <= len(data) + 1


def test_what_repeats_itself_takes_little_room() -> None:
    assert len(packing.compress(b"event: response.output_text.delta\n" * 1000)) < 200


def test_a_head_names_all_that_is_before_it() -> None:
    one, two, three = (Item(name, name.encode()) for name in "abc")
    heads = packing.heads(None, [one, two, three])
    assert len(set(heads)) == 3
    assert packing.heads(heads[0], [two, three]) == heads[1:]
    assert packing.heads(None, [two, three]) != heads[1:]
    assert packing.heads(None, [Item("other id", b"a")]) == heads[:1]


def test_where_one_item_ends_and_the_next_begins_makes_a_difference() -> None:
    assert (
        packing.heads(None, [Item("a", b"ab"), Item("b", b"c")])[-1]
        != packing.heads(None, [Item("a", b"a"), Item("b", b"bc")])[-1]
    )
