from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from harness.machines import COMPLETED, Event, events_of, judged, machine, table_of
from harness.responses_grammar import assert_responses_grammar

from deepseek_proxy.errors import ProxyError, RateLimited, UpstreamError, UpstreamTruncated
from deepseek_proxy.translate.hub import Chunk, Delta, Literal, Stage, ToolCallDelta, Usage
from deepseek_proxy.translate.responses.stream import ResponseStream
from deepseek_proxy.translate.tools import Tool, ToolKind

USAGE = Usage(40, 32, 9, 4)
BEGIN = Chunk(announces_thinking=True)
STOP = Chunk(finish_reason="stop", usage=USAGE)
CALLED = Chunk(finish_reason="tool_calls", usage=USAGE)
SHELL = Tool(ToolKind.SHELL, "shell")
PATCH = Tool(ToolKind.CUSTOM, "apply_patch")


def thought(text: str) -> Chunk:
    return Chunk(reasoning=text)


def said(text: str) -> Chunk:
    return Chunk(content=text)


def call(position: int, name: str | None = None, arguments: str = "", call_id: str | None = None) -> Chunk:
    """A piece of a call; the first one has a name, and an id made of the position."""
    call_id = call_id or (f"call_0{position}_x" if name else None)
    return Chunk(tool_calls=(ToolCallDelta(position, call_id, name, arguments),))


def answer(*deltas: Delta, playing: ResponseStream | None = None) -> list[Event]:
    """The events of a whole answer, whose grammar is good."""
    playing = playing or machine(table_of(SHELL, PATCH))
    data = playing.start() + b"".join(map(playing.feed, deltas)) + playing.finish()
    assert judged(data) == playing.response
    return events_of(data)


def kinds(events: list[Event]) -> list[str]:
    """Event types, each with its output_index; the lifecycle around the items left out."""
    return [
        f"{event['type'].removeprefix('response.')} {event['output_index']}"
        for event in events
        if "output_index" in event
    ]


def output(events: list[Event]) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = events[-1]["response"]["output"]
    return items


# -- the order of things --------------------------------------------------------------------------


def test_text_alone() -> None:
    events = answer(said("Hel"), Literal(Stage.CONTENT, b'"lo"'), STOP)
    assert [event["type"] for event in events[:2]] == ["response.created", "response.in_progress"]
    assert kinds(events) == [
        "output_item.added 0",
        "content_part.added 0",
        "output_text.delta 0",
        "output_text.delta 0",
        "output_text.done 0",
        "content_part.done 0",
        "output_item.done 0",
    ]
    assert events[-1]["type"] == "response.completed"
    part = {"type": "output_text", "text": "Hello", "annotations": [], "logprobs": []}
    assert output(events) == [
        {"id": "msg_1", "type": "message", "status": "completed", "role": "assistant", "content": [part]}
    ]


def test_thinking_then_text() -> None:
    events = answer(BEGIN, thought("Hm"), Literal(Stage.REASONING, b'"m."'), said("Hi"), STOP)
    assert kinds(events)[:7] == [
        "output_item.added 0",
        "reasoning_summary_part.added 0",
        "reasoning_summary_text.delta 0",
        "reasoning_summary_text.delta 0",
        "reasoning_summary_text.done 0",
        "reasoning_summary_part.done 0",
        "output_item.done 0",
    ]
    assert output(events)[0] == {
        "id": "rs_1",
        "type": "reasoning",
        "summary": [{"type": "summary_text", "text": "Hmm."}],
        "encrypted_content": "sealed reasoning: Hmm.",
    }
    assert [item["type"] for item in output(events)] == ["reasoning", "message"]


def test_thinking_text_and_calls_in_one_answer() -> None:
    events = answer(
        *(BEGIN, thought("Hm"), said("I look."), call(0, "a"), call(0, arguments="{}")),
        *(call(1, "apply_patch"), call(1, arguments='{"input": "x"}'), call(2, "shell", '{"commands": []}')),
        CALLED,
    )
    assert [(item["type"], item.get("call_id")) for item in output(events)] == [
        ("reasoning", None),
        ("message", None),
        ("function_call", "call_00_x"),
        ("custom_tool_call", "call_01_x"),
        ("shell_call", "call_02_x"),
    ]
    # Each call is finished before the next one begins.
    assert [kind for kind in kinds(events) if "item" in kind][4:] == [
        *("output_item.added 2", "output_item.done 2", "output_item.added 3", "output_item.done 3"),
        *("output_item.added 4", "output_item.done 4"),
    ]


def test_thinking_again_after_text_is_another_item() -> None:
    events = answer(thought("a"), said("b"), thought("c"), said("d"), STOP)
    assert [item["type"] for item in output(events)] == ["reasoning", "message"] * 2
    assert output(events)[2]["encrypted_content"] == "sealed reasoning: c"


def test_everything_may_come_in_one_chunk() -> None:
    chunk = Chunk(
        reasoning="r",
        content="c",
        refusal="No.",
        tool_calls=(ToolCallDelta(0, "call_0", "a", "{}"), ToolCallDelta(1, "call_1", "b", "{}")),
        finish_reason="tool_calls",
        usage=USAGE,
    )
    events = answer(chunk)
    assert [item["type"] for item in output(events)] == [
        "reasoning",
        "message",
        "function_call",
        "function_call",
    ]
    assert [part["type"] for part in output(events)[1]["content"]] == ["output_text", "refusal"]


def test_an_answer_of_nothing_has_no_items() -> None:
    assert output(answer(STOP)) == []


@pytest.mark.parametrize("rest", [(said("Hi"), STOP), (call(0, "a", "{}"), CALLED), (STOP,)])
def test_thinking_that_stayed_empty_has_an_item_too(rest: tuple[Chunk, ...]) -> None:
    """The next turn has to say that it was empty, which is not the same as unknown."""
    first = output(answer(BEGIN, *rest))[0]
    assert first == {
        "id": "rs_1",
        "type": "reasoning",
        "summary": [],
        "encrypted_content": "sealed reasoning: ",
    }


# -- calls ----------------------------------------------------------------------------------------


def test_interleaved_calls_stay_open_side_by_side() -> None:
    events = answer(
        *(call(0, "a"), call(1, "b"), call(0, arguments='{"x":'), call(1, arguments="{}")),
        *(call(0, arguments="1}"), CALLED),
    )
    assert [(item["name"], item["arguments"]) for item in output(events)] == [("a", '{"x":1}'), ("b", "{}")]


@pytest.mark.parametrize("broken", ['{"commands": not json}', ""])
def test_a_hosted_call_that_is_no_json_holds_nobody_up(broken: str) -> None:
    events = answer(call(0, "shell", broken), call(1, "b", "{}"), CALLED)
    assert [(item["type"], item["arguments"]) for item in output(events)] == [
        ("function_call", broken or "{}"),
        ("function_call", "{}"),
    ]


@pytest.mark.parametrize("arguments", ["", '{"a": not json}', '{"a'])
@pytest.mark.parametrize("after", [said("Done."), thought("Well")])
def test_text_after_a_call_ends_the_call(arguments: str, after: Chunk) -> None:
    events = answer(call(0, "a", arguments), after, STOP)
    assert [item["type"] for item in output(events)] in (
        ["function_call", "message"],
        ["function_call", "reasoning"],
    )
    assert output(events)[0]["status"] == "completed"


@pytest.mark.parametrize(("name", "arguments"), [("a", "{}"), ("shell", "{}"), ("shell", '{"commands": [')])
def test_a_call_that_goes_on_after_its_end_cannot_be(name: str, arguments: str) -> None:
    """A hosted call is shown when it is whole, so that it has ended when the next one begins."""
    playing = machine(table_of(SHELL))
    playing.start()
    playing.feed(call(0, name, arguments))
    playing.feed(call(1, "b"))
    assert playing.feed(call(0, arguments=" \n")) == b""
    with pytest.raises(UpstreamError, match="went on with a tool call after its end"):
        playing.feed(call(0, arguments="{}"))


def test_a_call_without_a_name_cannot_be() -> None:
    with pytest.raises(UpstreamError, match="tool call without a name"):
        machine().feed(Chunk(tool_calls=(ToolCallDelta(0, "call_0", None, "{}"),)))


@pytest.mark.parametrize("upstream_id", [None, "call_00_x"])
def test_a_call_gets_an_id_of_ours_where_it_has_none_of_its_own(upstream_id: str | None) -> None:
    second = Chunk(tool_calls=(ToolCallDelta(1, upstream_id, "b", "{}"),))
    assert [item["call_id"] for item in output(answer(call(0, "a", "{}"), second, CALLED))] == [
        "call_00_x",
        "call_1",
    ]


def test_without_parallel_calls_the_first_one_is_kept() -> None:
    events = answer(
        *(call(0, "a"), call(1, "b", "{}"), call(0, arguments="{}"), call(2, "c", "{}")),
        *(call(1, arguments="more"), CALLED),
        playing=machine(parallel_tool_calls=False),
    )
    assert [item["name"] for item in output(events)] == ["a"]


def test_a_call_that_tool_choice_forbids_is_never_shown() -> None:
    playing = machine(permitted=lambda name: name == "b", parallel_tool_calls=False)
    events = answer(call(0, "a", "{}"), call(0, arguments=" "), call(1, "b", "{}"), CALLED, playing=playing)
    assert [item["name"] for item in output(events)] == ["b"]


def test_calls_have_the_names_that_the_client_knows() -> None:
    spaced, inner = Tool(ToolKind.FUNCTION, "fs.read"), Tool(ToolKind.FUNCTION, "add", "mcp__srv")
    table = table_of(spaced, inner)
    names = [table.upstream_name(tool) for tool in (spaced, inner)]
    deltas = [call(at, name, "{}") for at, name in enumerate([*names, "made_up"])]
    found = output(answer(*deltas, CALLED, playing=machine(table)))
    assert [(item["name"], item.get("namespace")) for item in found] == [
        ("fs.read", None),
        ("add", "mcp__srv"),
        ("made_up", None),
    ]


def test_thinking_is_remembered_by_call_id() -> None:
    kept: dict[str, str] = {}
    playing = machine(table_of(SHELL), remember=kept.__setitem__)
    answer(thought("a"), thought("b"), call(0, "x", "{}"), call(1, "shell", "{}"), CALLED, playing=playing)
    assert kept == {"call_00_x": "ab", "call_01_x": "ab"}


def test_thinking_of_an_answer_that_failed_is_not_remembered() -> None:
    kept: dict[str, str] = {}
    playing = machine(remember=kept.__setitem__)
    playing.feed(thought("a"))
    playing.feed(call(0, "x", "{}"))
    playing.finish()
    assert playing.error is not None
    assert kept == {}


# -- ends -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("reason", ["stop", "tool_calls", "function_call"])
def test_a_completed_answer(reason: str) -> None:
    final = answer(said("Hi"), Chunk(finish_reason=reason, usage=USAGE))[-1]["response"]
    assert (final["status"], final["completed_at"], final["error"]) == ("completed", COMPLETED, None)
    assert final["usage"]["total_tokens"] == 49


@pytest.mark.parametrize(
    ("reason", "details"), [("length", "max_output_tokens"), ("content_filter", "content_filter")]
)
@pytest.mark.parametrize(
    ("deltas", "statuses"),
    [
        ([said("Hi")], ["incomplete"]),
        ([thought("Hm")], [None]),
        ([BEGIN], [None]),
        ([], []),
        ([thought("Hm"), said("Hi")], [None, "incomplete"]),
        ([said("Hi"), call(0, "a", '{"x')], ["completed", "incomplete"]),
        ([call(0, "a", "{}"), call(1, "b", '{"x')], ["completed", "incomplete"]),
        ([call(0, "a"), call(1, "b", '{"x')], ["completed", "incomplete"]),
        ([call(0, "a", '{"x": not json}'), call(1, "b", '{"x')], ["completed", "incomplete"]),
        ([call(0, "a", "{}"), call(1, "b", "{}")], ["completed", "incomplete"]),
        ([call(0, "shell", '{"x": not json}'), call(1, "b", '{"x')], ["completed", "incomplete"]),
        ([call(0, "apply_patch", '{"input": "x')], ["incomplete"]),
        ([call(0, "shell", '{"commands": ["l')], ["incomplete"]),
    ],
)
def test_a_cut_answer_is_incomplete_and_so_is_its_last_item(
    reason: str, details: str, deltas: list[Chunk], statuses: list[str | None]
) -> None:
    events = answer(*deltas, Chunk(finish_reason=reason, usage=USAGE))
    final = events[-1]["response"]
    assert final["status"] == "incomplete"
    assert final["incomplete_details"] == {"reason": details}
    assert [item.get("status") for item in final["output"]] == statuses


@pytest.mark.parametrize("reason", ["insufficient_system_resource", "aborted", "something_new"])
def test_an_interrupted_answer_fails(reason: str) -> None:
    events = answer(said("Hi"), Chunk(finish_reason=reason, usage=USAGE))
    assert [event["type"] for event in events[-2:]] == ["error", "response.failed"]
    assert events[-1]["response"]["error"] == {
        "code": "server_error",
        "message": f"The upstream interrupted its answer ({reason}).",
    }
    assert events[-1]["response"]["usage"]["total_tokens"] == 49


def test_the_end_without_a_finish_reason_is_a_failure() -> None:
    playing = machine()
    events = answer(said("Hi"), Chunk(usage=USAGE), playing=playing)
    assert events[-1]["type"] == "response.failed"
    assert isinstance(playing.error, UpstreamTruncated)


def test_a_failure_shows_the_finished_items_only() -> None:
    playing = machine()
    data = playing.start() + playing.feed(thought("Hm")) + playing.feed(said("Hal"))
    data += playing.fail(UpstreamError("Gone."))
    final = judged(data)
    assert [item["type"] for item in final["output"]] == ["reasoning"]
    assert final["usage"] is None


def test_both_forms_of_the_error_event_say_the_same() -> None:
    playing = machine()
    data = playing.start() + playing.fail(RateLimited("Slow down.", retry_after=2.2))
    error, failed = events_of(data)[2:]
    inside = {
        "message": "Slow down. Please try again in 3s.",
        "type": "rate_limit_error",
        "param": None,
        "code": "rate_limit_exceeded",
    }
    assert error == {**inside, "type": "error", "sequence_number": 2, "error": inside}
    assert failed["response"]["error"] == {"code": inside["code"], "message": inside["message"]}


def test_usage_may_come_after_the_finish_reason() -> None:
    events = answer(said("Hi"), Chunk(finish_reason="stop"), Chunk(usage=USAGE))
    assert events[-1]["response"]["usage"]["input_tokens"] == 40


def test_usage_that_never_came_is_zeros() -> None:
    """SDKs read numbers from an answer that is complete."""
    playing = machine()
    usage = answer(said("Hi"), Chunk(finish_reason="stop"), playing=playing)[-1]["response"]["usage"]
    assert usage == {
        "input_tokens": 0,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": 0,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 0,
    }
    assert playing.usage is None  # the log knows better


@pytest.mark.parametrize(
    "late",
    [
        said("more"),
        Literal(Stage.CONTENT, b'"more"'),
        thought("more"),
        call(0, "a", "{}"),
        Chunk(finish_reason="length"),
        Chunk(content="x", finish_reason="tool_calls"),
    ],
)
def test_nothing_but_usage_counts_after_the_finish_reason(late: Delta) -> None:
    playing = machine()
    events = answer(said("Hi"), STOP, late, playing=playing)
    assert events[-1]["type"] == "response.completed"
    assert playing.finish_reason == "stop"
    assert playing.text == "Hi"


ENDS: list[Callable[[ResponseStream], bytes]] = [
    ResponseStream.finish,
    lambda playing: playing.fail(UpstreamError("Gone.")),
]


@pytest.mark.parametrize("first", ENDS)
@pytest.mark.parametrize("second", ENDS)
def test_after_the_terminal_event_there_is_nothing(
    first: Callable[[ResponseStream], bytes], second: Callable[[ResponseStream], bytes]
) -> None:
    playing = machine()
    data = playing.start() + playing.feed(said("Hi")) + playing.feed(STOP) + first(playing)
    ended, error = playing.response, playing.error
    judged(data)
    assert second(playing) == b""
    assert playing.heartbeat() == b""
    assert playing.feed(said("more")) == playing.feed(Chunk(usage=Usage(1, 1, 1, 1))) == b""
    assert (playing.response, playing.error, playing.usage) == (ended, error, USAGE)


# -- in between -----------------------------------------------------------------------------------


def test_a_heartbeat_shows_the_output_so_far() -> None:
    """The SDK's accumulator replaces what it has by what such an event says."""
    playing = machine(table_of(SHELL))
    data = playing.start() + playing.heartbeat()
    for delta in (thought("Hm"), said("Hel"), said("lo"), call(0, "a", '{"x"'), call(1, "shell", "{")):
        data += playing.feed(delta) + playing.heartbeat()
    snapshot = events_of(data)[-1]["response"]
    assert [(item["type"], item.get("status")) for item in snapshot["output"]] == [
        ("reasoning", None),
        ("message", "completed"),
        ("function_call", "in_progress"),
    ]
    assert snapshot["output"][1]["content"][0]["text"] == "Hello"
    assert snapshot["output"][2]["arguments"] == '{"x"'
    data += playing.fail(UpstreamError("Gone."))
    judged(data)


def test_text_is_that_of_all_messages() -> None:
    playing = machine()
    answer(said("a"), thought("b"), said("c"), Chunk(refusal="no"), STOP, playing=playing)
    assert playing.text == "ac"


def test_the_first_events_are_the_same_response() -> None:
    created, progress = events_of(machine().start())
    assert created["response"] == progress["response"]
    assert (created["sequence_number"], progress["sequence_number"]) == (0, 1)
    assert created["response"]["service_tier"] == "auto"


def test_padding_makes_deltas_harder_to_measure() -> None:
    playing = machine(padding=lambda size: "x" * size)
    deltas = [event for event in answer(said("Hi"), said("Hello"), STOP, playing=playing) if "delta" in event]
    assert [len(event["delta"]) + len(event["obfuscation"]) for event in deltas] == [14, 14]


@pytest.mark.parametrize("error", [UpstreamError("Gone."), UpstreamTruncated("Cut.")])
def test_a_failure_before_anything_else_keeps_the_grammar(error: ProxyError) -> None:
    playing = machine()
    assert_responses_grammar(events_of(playing.start() + playing.fail(error)))


# -- ends that nobody hears -----------------------------------------------------------------------


def test_a_cancelled_answer_is_what_there_is_of_it() -> None:
    playing = machine()
    playing.start()
    for chunk in (thought("Hm."), said("Half"), call(0, "look", '{"cmd": "l')):
        playing.feed(chunk)
    assert playing.cancel() == b"data: [DONE]\n\n"
    assert playing.response is not None
    assert (playing.response["status"], playing.response["error"]) == ("cancelled", None)
    assert (playing.response["incomplete_details"], playing.response["completed_at"]) == (None, None)
    thinking, message, look = playing.response["output"]
    assert thinking["encrypted_content"]
    assert (message["status"], message["content"][0]["text"]) == ("completed", "Half")
    assert (look["status"], look["arguments"]) == ("incomplete", '{"cmd": "l')
    assert (
        playing.cancel() == playing.heartbeat() == playing.finish() == playing.fail(UpstreamError("x")) == b""
    )
    assert playing.error is None


def test_open_text_of_a_cancelled_answer_is_incomplete() -> None:
    playing = machine()
    playing.start()
    playing.feed(said("Half an ans"))
    playing.cancel()
    assert playing.response is not None
    (message,) = playing.response["output"]
    assert (message["status"], message["content"][0]["text"]) == ("incomplete", "Half an ans")


def test_what_has_ended_cannot_be_cancelled() -> None:
    playing = machine()
    playing.start()
    playing.feed(Chunk(content="All", finish_reason="stop"))
    playing.finish()
    ended = playing.response
    assert playing.cancel() == b""
    assert playing.response is ended


def test_what_is_queued_says_so_until_its_turn_comes() -> None:
    playing = machine(queued=True)
    data = playing.start() + playing.heartbeat()
    data += playing.feed(Chunk(content="Hi", finish_reason="stop")) + playing.finish()
    kinds = [event["type"] for event in events_of(data)]
    assert kinds[:3] == ["response.created", "response.queued", "response.in_progress"]
    assert judged(data)["status"] == "completed"
