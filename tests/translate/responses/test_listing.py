from __future__ import annotations

import json

import pytest

from deepseek_proxy.errors import InvalidRequest
from deepseek_proxy.translate.responses.listing import Page, listing, page, unknown_after


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({}, Page(after=None, limit=20, newest_first=True)),
        ({"limit": "1"}, Page(limit=1)),
        ({"limit": "100", "order": "desc"}, Page(limit=100)),
        ({"after": "msg_1", "order": "asc"}, Page("msg_1", newest_first=False)),
        ({"after": "", "limit": "", "order": ""}, Page()),
    ],
)
def test_the_page_that_is_asked_for(query: dict[str, str], expected: Page) -> None:
    assert page(query) == expected


@pytest.mark.parametrize(
    ("query", "param", "code"),
    [
        ({"limit": "0"}, "limit", "integer_below_min_value"),
        ({"limit": "101"}, "limit", "integer_above_max_value"),
        ({"limit": "many"}, "limit", "invalid_type"),
        ({"order": "up"}, "order", "invalid_value"),
    ],
)
def test_a_page_that_does_not_exist(query: dict[str, str], param: str, code: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        page(query)
    assert (caught.value.param, caught.value.code) == (param, code)


def test_a_list_holds_the_items_as_they_were_stored() -> None:
    first, second = b'{"id":"msg_1","text":"\\u00fc"}', b'{"type":"message"}'
    body = listing([("msg_1", first), ("msg_2", second)], has_more=True)
    assert first in body
    assert json.loads(body) == {
        "object": "list",
        "data": [json.loads(first), {"id": "msg_2", "type": "message"}],
        "first_id": "msg_1",
        "last_id": "msg_2",
        "has_more": True,
    }


def test_an_empty_list_has_no_first_and_no_last() -> None:
    assert json.loads(listing([], has_more=False)) == {
        "object": "list",
        "data": [],
        "first_id": None,
        "last_id": None,
        "has_more": False,
    }


def test_an_unknown_place_in_a_list_is_named() -> None:
    assert unknown_after("msg_x").param == "after"
