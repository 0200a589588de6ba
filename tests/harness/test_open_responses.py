"""The judge of Open Responses takes what is valid, and nothing that a validating client refuses."""

from __future__ import annotations

from typing import Any

import pytest
from harness.machines import CREATED, machine
from harness.open_responses import EVENT_TYPES, assert_compacted, assert_event, assert_response

from deepseek_proxy.translate.hub import Chunk


def response() -> dict[str, Any]:
    answering = machine()
    answering.feed(Chunk(content="Hi", finish_reason="stop"))
    answering.finish()
    assert answering.response is not None
    return answering.response


def test_a_good_response_is_taken_with_more_than_is_asked_for() -> None:
    assert_response({**response(), "something": "else"})


WRONG: list[tuple[str, Any]] = [
    ("id", ""),
    ("object", "list"),
    ("created_at", 1.5),
    ("completed_at", None),
    ("status", "failed"),
    ("output", []),
    ("output", [{"type": "web_search_call", "id": "ws_1", "status": "completed"}]),
    ("temperature", None),
    ("top_logprobs", None),
    ("service_tier", None),
    ("store", None),
    ("tools", [{"type": "function", "name": "f"}]),
    ("reasoning", {"effort": "max", "summary": None}),
    ("usage", {"input_tokens": 1, "output_tokens": 1, "total_tokens": 2}),
]


@pytest.mark.parametrize(("name", "value"), WRONG)
def test_a_response_with_a_wrong_value_is_refused(name: str, value: Any) -> None:
    with pytest.raises(AssertionError):
        assert_response({**response(), name: value})


@pytest.mark.parametrize("name", sorted(response().keys() - {"conversation"}))
def test_a_field_may_be_missing_only_where_it_is_openais_own(name: str) -> None:
    body = response()
    del body[name]
    if name in {"moderation", "user", "prompt_cache_retention", "conversation"}:
        assert_response(body)
    else:
        with pytest.raises((AssertionError, KeyError)):
            assert_response(body)


@pytest.mark.parametrize("name", ["phase", "encrypted_content", "namespace"])
def test_null_in_an_item_is_refused(name: str) -> None:
    body = response()
    body["output"][0][name] = None
    with pytest.raises(AssertionError):
        assert_response(body)


def test_events_are_of_the_twenty_four_types() -> None:
    assert len(EVENT_TYPES) == 24
    assert_event({"type": "response.output_text.delta", "sequence_number": 3, "delta": "x"})
    for wrong in ({"type": "keepalive", "sequence_number": 3}, {"type": "response.output_text.delta"}):
        with pytest.raises(AssertionError):
            assert_event(wrong)


def test_an_error_has_its_nested_form() -> None:
    assert_event({"type": "error", "error": {"type": "server_error", "message": "It broke."}})
    with pytest.raises(AssertionError):
        assert_event({"type": "error", "message": "It broke."})


def test_a_compaction_has_one_item_at_its_end() -> None:
    item = {"type": "compaction", "id": "cmp_1", "encrypted_content": "x"}
    usage = response()["usage"]
    good = {
        "id": "resp_1",
        "object": "response.compaction",
        "created_at": CREATED,
        "output": [item],
        "usage": usage,
    }
    assert_compacted(good)
    for output in ([], [item, item], [{**item, "encrypted_content": ""}]):
        with pytest.raises(AssertionError):
            assert_compacted({**good, "output": output})
