from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from deepseek_proxy.errors import InvalidRequest
from deepseek_proxy.translate.responses.references import resolve

KEPT = {
    "msg_1": b'{"id":"msg_1","type":"message","role":"user"}',
    "msg_2": b'{"type":"message","role":"user"}',
}
HELLO = {"role": "user", "content": "hello"}


class Archive:
    """Items that are kept, and what was looked for."""

    def __init__(self) -> None:
        self.asked: list[Sequence[str]] = []

    def find(self, ids: Sequence[str]) -> Mapping[str, bytes]:
        self.asked.append(ids)
        return {id: KEPT[id] for id in ids if id in KEPT}


@pytest.mark.parametrize("reference", [{"type": "item_reference", "id": "msg_1"}, {"id": "msg_1"}])
def test_a_reference_becomes_the_item_in_its_place(reference: dict[str, Any]) -> None:
    item = {"id": "msg_1", "type": "message", "role": "user"}
    assert resolve([HELLO, reference, HELLO], Archive().find) == [HELLO, item, HELLO]


def test_all_references_are_looked_for_at_once() -> None:
    archive = Archive()
    found = resolve([{"id": "msg_1"}, {"id": "msg_2"}], archive.find)
    assert [item["id"] for item in found] == ["msg_1", "msg_2"]
    assert archive.asked == [["msg_1", "msg_2"]]


@pytest.mark.parametrize("value", [None, "hello", [], [HELLO], [{"id": "msg_1", **HELLO}], [7, {"id": 7}]])
def test_what_has_no_references_is_left_alone(value: object) -> None:
    archive = Archive()
    assert resolve(value, archive.find) is value
    assert archive.asked == []


def test_an_item_that_is_not_kept_is_named() -> None:
    with pytest.raises(InvalidRequest, match="Item with id 'rs_1' not found") as caught:
        resolve([{"id": "rs_1", "type": "item_reference"}], Archive().find, "items")
    assert caught.value.param == "items"
