from __future__ import annotations

import json
from typing import Any

import pytest

from deepseek_proxy.errors import InvalidRequest
from deepseek_proxy.translate.responses import conversations


def test_the_object() -> None:
    assert json.loads(conversations.shown("conv_1", 1_700_000_000, b'{"a":"b"}')) == {
        "id": "conv_1",
        "object": "conversation",
        "created_at": 1_700_000_000,
        "metadata": {"a": "b"},
    }


def test_the_object_of_one_that_is_gone() -> None:
    gone = json.loads(conversations.deleted("conv_1"))
    assert gone == {"id": "conv_1", "object": "conversation.deleted", "deleted": True}


@pytest.mark.parametrize(
    ("body", "id"),
    [
        ({}, None),
        ({"conversation": None, "previous_response_id": "resp_1"}, None),
        ({"conversation": "conv_1"}, "conv_1"),
        ({"conversation": {"id": "conv_1"}, "previous_response_id": None}, "conv_1"),
    ],
)
def test_the_conversation_of_a_request(body: dict[str, Any], id: str | None) -> None:
    assert conversations.named(body) == id


@pytest.mark.parametrize(
    ("body", "param", "code"),
    [
        ({"conversation": 7}, "conversation", "invalid_type"),
        ({"conversation": {}}, "conversation.id", "missing_required_parameter"),
        ({"conversation": {"id": 7}}, "conversation.id", "invalid_type"),
        (
            {"conversation": "conv_1", "previous_response_id": "resp_1"},
            "previous_response_id",
            "mutually_exclusive_parameters",
        ),
    ],
)
def test_a_conversation_that_cannot_be_meant(body: dict[str, Any], param: str, code: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        conversations.named(body)
    assert (caught.value.param, caught.value.code) == (param, code)


def test_twenty_items_may_be_added_at_a_time() -> None:
    items = [{"role": "user", "content": "hi"}] * conversations.MAX_NEW_ITEMS
    assert conversations.new_items({"items": items}, required=True) == items
    with pytest.raises(InvalidRequest, match="maximum length 20, but got an array with length 21") as caught:
        conversations.new_items({"items": [*items, *items[:1]]}, required=True)
    assert (caught.value.param, caught.value.code) == ("items", "array_above_max_length")


@pytest.mark.parametrize("body", [{}, {"items": None}])
def test_items_may_be_missing_where_a_conversation_begins(body: dict[str, Any]) -> None:
    assert conversations.new_items(body, required=False) == []
    with pytest.raises(InvalidRequest) as caught:
        conversations.new_items(body, required=True)
    assert (caught.value.param, caught.value.code) == ("items", "missing_required_parameter")


def test_metadata_is_kept_as_json() -> None:
    assert conversations.metadata({"metadata": {"a": "ü"}}) == '{"a":"ü"}'.encode()
    assert conversations.metadata({}) == b"{}"
    assert conversations.metadata({"metadata": None}, required=True) == b"{}"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "metadata"),
        ({"metadata": "x"}, "metadata"),
        ({"metadata": {"a": 1}}, "metadata.a"),
        ({"metadata": {str(n): "" for n in range(17)}}, "metadata"),
        ({"metadata": {"a": "x" * 513}}, "metadata.a"),
    ],
)
def test_metadata_beyond_the_limits(body: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        conversations.metadata(body, required=True)
    assert caught.value.param == param
