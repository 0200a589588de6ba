"""References to stored items: which there are, and the items in their place."""

from __future__ import annotations

from typing import Any

import pytest

from deepseek_proxy.errors import InvalidRequest
from deepseek_proxy.translate.responses.references import referenced, resolved

MESSAGE = {"type": "message", "role": "user", "id": "msg_1", "content": "Hello."}
STORED = {"type": "reasoning", "id": "rs_1", "summary": []}


@pytest.mark.parametrize("reference", [{"type": "item_reference", "id": "rs_1"}, {"id": "rs_1"}])
def test_a_reference_is_replaced_by_its_item(reference: dict[str, Any]) -> None:
    assert referenced([MESSAGE, reference]) == ["rs_1"]
    assert resolved([MESSAGE, reference], {"rs_1": STORED}) == [MESSAGE, STORED]


@pytest.mark.parametrize(
    "value", [None, "rs_1", [], [MESSAGE], [{"role": "user", "id": "rs_1", "content": "x"}], [5, "x"], {}]
)
def test_what_refers_to_nothing(value: Any) -> None:
    assert referenced(value) == []


def test_an_item_is_referred_to_once() -> None:
    twice = [{"type": "item_reference", "id": "rs_1"}, MESSAGE, {"id": "rs_1"}]
    with pytest.raises(InvalidRequest, match=r"^Duplicate item found with id rs_1\.") as caught:
        resolved(twice, {"rs_1": STORED}, "items")
    assert caught.value.param == "items"


def test_what_is_not_found_is_named_in_openais_words() -> None:
    with pytest.raises(InvalidRequest, match=r"^Item with id 'rs_2' not found\.") as caught:
        resolved([{"type": "item_reference", "id": "rs_2"}], {"rs_1": STORED}, "items")
    assert caught.value.param == "items"
