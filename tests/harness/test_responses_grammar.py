"""The referee lets good streams pass and stops each way of breaking a rule."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
from harness.responses_grammar import NEVER_NULL, RESPONSE_KEYS, assert_responses_grammar

Events = list[dict[str, Any]]

USAGE = {
    "input_tokens": 4,
    "input_tokens_details": {"cached_tokens": 2, "cache_write_tokens": 0},
    "output_tokens": 3,
    "output_tokens_details": {"reasoning_tokens": 1},
    "total_tokens": 7,
}
SUMMARY = [{"type": "summary_text", "text": "hm"}]
PART = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
REASONING = {"id": "rs_1", "type": "reasoning", "summary": []}
MESSAGE = {"id": "msg_1", "type": "message", "role": "assistant", "status": "in_progress", "content": []}
CALL = {
    "id": "fc_1",
    "type": "function_call",
    "status": "in_progress",
    "call_id": "call_1",
    "name": "f",
    "arguments": "",
}
THOUGHT = {**REASONING, "summary": SUMMARY, "encrypted_content": "sealed"}
SAID = {**MESSAGE, "status": "completed", "content": [{**PART, "text": "Hello"}]}
CALLED = {**CALL, "status": "completed", "arguments": "{}"}
SEARCH = {"id": "ws_1", "type": "web_search_call", "status": "in_progress", "action": {"type": "search"}}
CITATION = {
    "type": "url_citation",
    "start_index": 0,
    "end_index": 3,
    "url": "https://a.example",
    "title": "A",
}
ERROR = {"code": "server_error", "message": "It broke.", "param": None}


def response(status: str, output: list[dict[str, Any]], **changes: Any) -> dict[str, Any]:
    body: dict[str, Any] = dict.fromkeys(RESPONSE_KEYS)
    body.update(dict.fromkeys(NEVER_NULL, 0))
    body.update(id="resp_1", object="response", created_at=1, model="m", status=status, output=output)
    return {**body, **changes}


def reasoning_events() -> Events:
    at = {"item_id": "rs_1", "output_index": 0, "summary_index": 0}
    part = {"type": "summary_text", "text": ""}
    return [
        {"type": "response.output_item.added", "output_index": 0, "item": REASONING},
        {"type": "response.reasoning_summary_part.added", **at, "part": part},
        {"type": "response.reasoning_summary_text.delta", **at, "delta": "h"},
        {"type": "response.reasoning_summary_text.delta", **at, "delta": "m"},
        {"type": "response.reasoning_summary_text.done", **at, "text": "hm"},
        {"type": "response.reasoning_summary_part.done", **at, "part": SUMMARY[0]},
        {"type": "response.output_item.done", "output_index": 0, "item": THOUGHT},
    ]


def message_events() -> Events:
    at = {"item_id": "msg_1", "output_index": 1, "content_index": 0}
    return [
        {"type": "response.output_item.added", "output_index": 1, "item": MESSAGE},
        {"type": "response.content_part.added", **at, "part": PART},
        {"type": "response.output_text.delta", **at, "delta": "Hel", "logprobs": []},
        {"type": "response.in_progress", "response": response("in_progress", [THOUGHT, half_said()])},
        {"type": "response.output_text.delta", **at, "delta": "lo", "logprobs": []},
        {"type": "response.output_text.done", **at, "text": "Hello", "logprobs": []},
        {"type": "response.content_part.done", **at, "part": SAID["content"][0]},
        {"type": "response.output_item.done", "output_index": 1, "item": SAID},
    ]


def half_said() -> dict[str, Any]:
    return {**MESSAGE, "content": [{**PART, "text": "Hel"}]}


def call_events() -> Events:
    at = {"item_id": "fc_1", "output_index": 2}
    return [
        {"type": "response.output_item.added", "output_index": 2, "item": CALL},
        {"type": "response.function_call_arguments.delta", **at, "delta": "{}"},
        {"type": "response.function_call_arguments.done", **at, "arguments": "{}"},
        {"type": "response.output_item.done", "output_index": 2, "item": CALLED},
    ]


def numbered(events: Events) -> Events:
    return [{**copy.deepcopy(event), "sequence_number": n} for n, event in enumerate(events)]


def beginning() -> Events:
    begun = response("in_progress", [])
    return [
        {"type": "response.created", "response": begun},
        {"type": "response.in_progress", "response": begun},
    ]


def good() -> Events:
    """Index 0: created. 2-8: reasoning. 9-16: message. 17-20: call. 21: completed."""
    done = response("completed", [THOUGHT, SAID, CALLED], completed_at=2, usage=USAGE)
    body = [*reasoning_events(), *message_events(), *call_events()]
    return numbered([*beginning(), *body, {"type": "response.completed", "response": done}])


def failed() -> Events:
    """A failure inside the message, which stays open."""
    end = response("failed", [THOUGHT], error={"code": "server_error", "message": "It broke."})
    body = [*reasoning_events(), *message_events()[:3]]
    error = {"type": "error", **ERROR, "error": {**ERROR, "type": "server_error"}}
    return numbered([*beginning(), *body, error, {"type": "response.failed", "response": end}])


def incomplete() -> Events:
    cut = {**SAID, "status": "incomplete"}
    end = response(
        "incomplete", [THOUGHT, cut], usage=USAGE, incomplete_details={"reason": "max_output_tokens"}
    )
    body = [*reasoning_events(), *message_events()]
    body[-1]["item"] = cut
    return numbered([*beginning(), *body, {"type": "response.incomplete", "response": end}])


def searched() -> Events:
    """Index 2-6: search. 7-13: message, whose text cites at 10. 14: completed."""
    found = {**SEARCH, "status": "completed"}
    cited = {**SAID, "content": [{**SAID["content"][0], "annotations": [CITATION]}]}
    at = {"item_id": "ws_1", "output_index": 0}
    search: Events = [
        {"type": "response.output_item.added", "output_index": 0, "item": SEARCH},
        {"type": "response.web_search_call.in_progress", **at},
        {"type": "response.web_search_call.searching", **at},
        {"type": "response.web_search_call.completed", **at},
        {"type": "response.output_item.done", "output_index": 0, "item": found},
    ]
    in_text = {"item_id": "msg_1", "output_index": 1, "content_index": 0}
    opened, part, *_, text_done, _, _ = message_events()
    message: Events = [
        *(opened, part),
        {"type": "response.output_text.delta", **in_text, "delta": "Hello", "logprobs": []},
        {
            "type": "response.output_text.annotation.added",
            **in_text,
            "annotation_index": 0,
            "annotation": CITATION,
        },
        text_done,
        {"type": "response.content_part.done", **in_text, "part": cited["content"][0]},
        {"type": "response.output_item.done", "output_index": 1, "item": cited},
    ]
    end = response("completed", [found, cited], completed_at=2, usage=USAGE)
    return numbered([*beginning(), *search, *message, {"type": "response.completed", "response": end}])


@pytest.mark.parametrize("stream", [good, searched, failed, incomplete])
def test_a_good_stream_passes(stream: Callable[[], Events]) -> None:
    events = stream()
    assert assert_responses_grammar(events) == events[-1]["response"]


@pytest.mark.parametrize(("stream", "repeated_progress"), [(good, {12}), (searched, set())])
def test_every_lost_event_is_noticed(stream: Callable[[], Events], repeated_progress: set[int]) -> None:
    for lost in set(range(len(stream()))) - repeated_progress:
        events = stream()
        del events[lost]
        with pytest.raises((AssertionError, KeyError)):
            assert_responses_grammar(numbered(events))


@pytest.mark.parametrize(("stream", "repeatable"), [(good, {1, 12}), (searched, {1})])
def test_every_repeated_event_is_noticed(stream: Callable[[], Events], repeatable: set[int]) -> None:
    for again in set(range(len(stream()))) - repeatable:
        events = stream()
        events.insert(again, events[again])
        with pytest.raises(AssertionError):
            assert_responses_grammar(numbered(events))


@pytest.mark.parametrize("stream", [good, searched])
def test_every_swap_of_neighbours_is_noticed(stream: Callable[[], Events]) -> None:
    # Deltas of one text may come in any order as far as the grammar goes; their sum is checked.
    for first in range(len(stream()) - 1):
        events = stream()
        events[first], events[first + 1] = events[first + 1], events[first]
        with pytest.raises((AssertionError, KeyError)):
            assert_responses_grammar(numbered(events))


def set_at(events: Events, path: tuple[Any, ...], value: Any) -> Events:
    target: Any = events
    for key in path[:-1]:
        target = target[key]
    target[path[-1]] = value
    return events


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ((3, "sequence_number"), 4),
        ((1, "response", "id"), "resp_2"),
        ((1, "response", "temperature"), None),
        ((2, "item", "status"), "in_progress"),
        ((2, "item", "summary"), None),
        ((2, "item", "encrypted_content"), None),
        ((2, "item", "id"), "msg_0"),
        ((4, "delta"), ""),
        ((4, "item_id"), "rs_2"),
        ((4, "output_index"), 1),
        ((4, "type"), "response.reasoning_text.delta"),
        ((4, "type"), "response.reasoning_summary_text.more"),
        ((6, "text"), "h"),
        ((7, "part", "text"), "h"),
        ((8, "item", "id"), "rs_2"),
        ((9, "output_index"), 2),
        ((9, "item", "phase"), None),
        ((9, "item", "status"), "completed"),
        ((10, "content_index"), 1),
        ((10, "part", "type"), "refusal"),
        ((12, "response", "output"), []),
        ((12, "response", "output", 1, "content", 0, "text"), "Hell"),
        ((12, "response", "output", 0, "summary"), []),
        ((16, "item", "status"), "incomplete"),
        ((16, "item", "content"), []),
        ((17, "item", "call_id"), ""),
        ((17, "item", "id"), "msg_1"),
        ((20, "item", "arguments"), ""),
        ((20, "item", "name"), "g"),
        ((21, "type"), "response.incomplete"),
        ((21, "response", "status"), "failed"),
        ((21, "response", "output"), [THOUGHT, SAID]),
        ((21, "response", "usage"), None),
        ((21, "response", "usage", "total_tokens"), 8),
        ((21, "response", "usage", "input_tokens_details", "cached_tokens"), 5),
        ((21, "response", "completed_at"), None),
        ((21, "response", "error"), {"code": "x", "message": "y"}),
    ],
)
def test_a_wrong_value_is_noticed(path: tuple[Any, ...], value: Any) -> None:
    with pytest.raises((AssertionError, KeyError, TypeError)):
        assert_responses_grammar(set_at(good(), path, value))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ((2, "item", "action", "type"), "think"),
        ((6, "item", "status"), "failed"),
        ((6, "item", "id"), "ws_2"),
        ((10, "annotation_index"), 1),
        ((10, "annotation", "end_index"), 6),
        ((12, "part", "annotations"), []),
    ],
)
def test_a_wrong_value_of_a_search_is_noticed(path: tuple[Any, ...], value: Any) -> None:
    with pytest.raises((AssertionError, KeyError, TypeError)):
        assert_responses_grammar(set_at(searched(), path, value))


def test_a_failure_without_its_error_event_is_noticed() -> None:
    events = failed()
    del events[-2]
    with pytest.raises(AssertionError, match="error goes with"):
        assert_responses_grammar(numbered(events))


def test_two_forms_of_an_error_that_differ_are_noticed() -> None:
    with pytest.raises(AssertionError, match="two forms"):
        assert_responses_grammar(set_at(failed(), (-2, "error", "code"), None))


def test_a_stream_that_goes_on_after_an_error_is_noticed() -> None:
    events = failed()
    events[-1] = good()[-1]
    with pytest.raises(AssertionError, match="after an error"):
        assert_responses_grammar(numbered(events))


def test_only_calls_may_be_open_beside_one_another() -> None:
    second = {**CALL, "id": "fc_2", "call_id": "call_2"}
    output: Events = [CALLED, {**second, "status": "completed", "arguments": "{}"}]
    at = {"item_id": "fc_2", "output_index": 1}
    first = [{**event, "output_index": 0} for event in call_events()]
    other: Events = [
        {"type": "response.output_item.added", "output_index": 1, "item": second},
        {"type": "response.function_call_arguments.delta", **at, "delta": "{}"},
        {"type": "response.function_call_arguments.done", **at, "arguments": "{}"},
        {"type": "response.output_item.done", "output_index": 1, "item": output[1]},
    ]
    end = response("completed", output, completed_at=2, usage=USAGE)
    events = [*beginning(), first[0], other[0], *first[1:], *other[1:]]
    assert_responses_grammar(numbered([*events, {"type": "response.completed", "response": end}]))
    other[0]["item"] = REASONING
    with pytest.raises(AssertionError, match="inside another"):
        assert_responses_grammar(numbered(events))
