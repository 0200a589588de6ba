"""The machine chunk by chunk: what it shows when, and how it ends. Whole exchanges are in `goldens/chat`."""

from __future__ import annotations

import json
from typing import Any

import pytest
from harness import chats
from harness.chats import chunks_of, folded

from deepseek_proxy.errors import RateLimited, UpstreamError
from deepseek_proxy.translate.chat import searches
from deepseek_proxy.translate.chat.calls import legacy_call_id
from deepseek_proxy.translate.chat.request import parse
from deepseek_proxy.translate.chat.stream import ChatStream
from deepseek_proxy.translate.hub import Chunk, Literal, Stage, ToolCallDelta, Usage
from deepseek_proxy.translate.search import Limits, Session

USAGE = Usage(40, 32, 9, 4)
STOP = Chunk(finish_reason="stop", usage=USAGE)
CALLED = Chunk(finish_reason="tool_calls", usage=USAGE)


def call(position: int = 0, name: str = "f", arguments: str = "{}", call_id: str | None = None) -> Chunk:
    return Chunk(tool_calls=(ToolCallDelta(position, call_id or f"call_{position}", name, arguments),))


def ended(machine: ChatStream, *chunks: Any) -> Any:
    """The folded answer to these chunks."""
    data = machine.start() + b"".join(map(machine.feed, chunks)) + machine.finish()
    return folded(data)


def message(machine: ChatStream, *chunks: Any) -> Any:
    answer = ended(machine, *chunks)
    assert machine.response is not None
    assert machine.response["choices"][0]["message"] == answer["choices"][0]["message"]
    return answer["choices"][0]["message"]


def test_nothing_is_sent_before_the_model_says_something() -> None:
    machine = chats.machine()
    assert machine.start() == machine.heartbeat() == machine.feed(Chunk(announces_thinking=True)) == b""


def test_a_literal_is_passed_on_as_it_is() -> None:
    machine = chats.machine()
    machine.feed(Chunk(content="a"))
    literal = '"\\n ü"'.encode()
    sent = machine.feed(Literal(Stage.CONTENT, literal))
    assert b'"delta":{"content":%b}' % literal in sent
    assert machine.text == "a\n ü"


def test_the_first_output_brings_the_role() -> None:
    data = chats.machine().feed(Literal(Stage.REASONING, b'"Hm"'))
    role, thought = (chunk["choices"][0]["delta"] for chunk in chunks_of(data))
    assert role == {"role": "assistant", "content": None}
    assert thought == {"reasoning_content": "Hm"}


@pytest.mark.parametrize(
    ("chunks", "content", "reasoning"),
    [
        ((STOP,), "", None),
        ((Chunk(content="Hi"), STOP), "Hi", None),
        ((Chunk(reasoning="Hm"), STOP), "", "Hm"),
        ((Chunk(announces_thinking=True), STOP), "", ""),
        ((Chunk(announces_thinking=True), Chunk(content="Hi"), STOP), "Hi", ""),
        ((call(), CALLED), None, None),
        ((Chunk(reasoning="Hm"), call(), CALLED), None, "Hm"),
        ((Chunk(content="Well."), call(), CALLED), "Well.", None),
        ((Chunk(refusal="No."), STOP), None, None),
    ],
)
def test_what_a_message_holds(chunks: Any, content: str | None, reasoning: str | None) -> None:
    said = message(chats.machine(), *chunks)
    assert said["content"] == content
    assert said.get("reasoning_content") == reasoning


# -- ends -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("chunks", "reason"),
    [
        ((STOP,), "stop"),
        ((Chunk(finish_reason="length"),), "length"),
        ((Chunk(finish_reason="content_filter"),), "content_filter"),
        ((call(), CALLED), "tool_calls"),
        ((call(), STOP), "tool_calls"),  # as some hosts say it
        ((CALLED,), "stop"),
        ((call(arguments='{"a'), Chunk(finish_reason="length")), "length"),
    ],
)
def test_the_reason_says_how_it_ended(chunks: Any, reason: str) -> None:
    assert ended(chats.machine(), *chunks)["choices"][0]["finish_reason"] == reason


@pytest.mark.parametrize("reason", ["insufficient_system_resource", "aborted", "something_new"])
def test_an_interrupted_answer_is_a_failure(reason: str) -> None:
    machine = chats.machine()
    answer = ended(machine, Chunk(content="Hi"), Chunk(finish_reason=reason))
    assert answer["error"]["code"] == "server_error"
    assert reason in answer["error"]["message"]
    assert isinstance(machine.error, UpstreamError)
    assert machine.response is None


def test_an_answer_without_a_finish_reason_is_a_failure() -> None:
    assert "error" in ended(chats.machine(), Chunk(content="Hi"))


def test_a_failure_before_the_first_output_is_all_there_is() -> None:
    (chunk,) = chunks_of(chats.machine().fail(RateLimited("Wait.")))
    assert chunk["error"]["code"] == "rate_limit_exceeded"


@pytest.mark.parametrize("ends", ["finish", "fail"])
def test_after_the_end_comes_nothing(ends: str) -> None:
    machine = chats.machine()
    machine.feed(STOP)
    assert machine.finish() if ends == "finish" else machine.fail(UpstreamError("x"))
    later = (machine.finish(), machine.fail(UpstreamError("x")), machine.heartbeat(), machine.feed(STOP))
    assert later == (b"", b"", b"", b"")


def test_only_usage_may_follow_the_finish_reason() -> None:
    machine = chats.machine(tells_usage=True)
    answer = ended(machine, Chunk(finish_reason="stop"), Chunk(content="more"), Chunk(usage=USAGE), STOP)
    assert answer["choices"][0]["message"]["content"] == ""
    assert answer["usage"]["total_tokens"] == 49


def test_usage_is_told_only_where_it_was_asked_for() -> None:
    assert "usage" not in ended(chats.machine(), STOP)
    assert ended(chats.machine(tells_usage=True), STOP)["usage"]["prompt_tokens"] == 40
    assert ended(chats.machine(tells_usage=True), Chunk(finish_reason="stop"))["usage"]["total_tokens"] == 0


# -- calls ----------------------------------------------------------------------------------------


def test_indices_are_dense_whatever_is_left_out() -> None:
    machine = chats.machine(permitted=lambda name: name == "f")
    calls = message(machine, call(0, "g"), call(3), call(5), CALLED)["tool_calls"]
    assert [entry["id"] for entry in calls] == ["call_3", "call_5"]


def test_pieces_of_calls_may_come_in_turns() -> None:
    pieces = [(0, '{"a'), (1, '{"b'), (0, '":1}'), (1, '":2}')]
    opening = [call(0, arguments=""), call(1, arguments="")]
    rest = [Chunk(tool_calls=(ToolCallDelta(at, None, None, text),)) for at, text in pieces]
    calls = message(chats.machine(), *opening, *rest, CALLED)["tool_calls"]
    assert [entry["function"]["arguments"] for entry in calls] == ['{"a":1}', '{"b":2}']


def test_without_parallel_calls_the_first_one_is_kept() -> None:
    machine = chats.machine(parallel_tool_calls=False)
    assert len(message(machine, call(0), call(1), CALLED)["tool_calls"]) == 1


def test_each_call_has_an_id_of_its_own() -> None:
    chunks = [call(0, call_id="same"), call(1, call_id="same"), CALLED]
    calls = message(chats.machine(), *chunks)["tool_calls"]
    assert [entry["id"] for entry in calls] == ["same", "call_1"]


def test_a_call_without_a_name_is_the_upstreams_fault() -> None:
    with pytest.raises(UpstreamError):
        chats.machine().feed(Chunk(tool_calls=(ToolCallDelta(0, "c", None, ""),)))


def test_the_thinking_of_a_call_is_remembered() -> None:
    kept: dict[str, str] = {}
    machine = chats.machine(remember=kept.__setitem__)
    ended(machine, Chunk(reasoning="Hm"), call(0), call(1), CALLED)
    assert kept == {"call_0": "Hm", "call_1": "Hm"}


def test_an_elder_call_is_remembered_by_what_it_says() -> None:
    kept: dict[str, str] = {}
    machine = chats.machine(remember=kept.__setitem__, legacy_functions=True, parallel_tool_calls=False)
    answer = ended(machine, Chunk(reasoning="Hm"), call(arguments='{"a": 1}'), CALLED)
    assert answer["choices"][0]["finish_reason"] == "function_call"
    assert kept == {legacy_call_id("f", '{"a": 1}'): "Hm"}


# -- searches -------------------------------------------------------------------------------------

FOUND = json.dumps(
    {"results": [{"url": f"https://example.com/{n}", "title": f"Page {n}", "summary": "S"} for n in (1, 2)]}
).encode()
LINK = "[[2]](https://example.com/2)"


def searching(kept: dict[str, str] | None = None, limits: Limits | None = None, **fields: Any) -> ChatStream:
    session = Session(limits or Limits(8, 16, 60))
    body = {
        "model": "deepseek-flash-search",
        "messages": [{"role": "user", "content": "Why?"}],
        "stream": True,
        "stream_options": {"include_usage": True},
        **fields,
    }
    request = parse(body, chats.context(search=session))
    return chats.machine_for(request, remember=({} if kept is None else kept).__setitem__)


def search(position: int = 0) -> Chunk:
    return call(position, "web_search", '{"query": "sky"}')


def test_a_turn_that_searches_does_not_end_the_answer() -> None:
    machine = searching()
    first = [Chunk(reasoning="Hm"), Chunk(content="I will look [2]."), search(), CALLED]
    data = b"".join(map(machine.feed, first)) + machine.finish()
    assert machine.actions is not None
    assert len(machine.actions) == 1
    data += machine.found([FOUND])
    for chunk in (Chunk(reasoning="Ah"), Chunk(content="Blue [2"), Chunk(content="]."), STOP):
        data += machine.feed(chunk)
    answer = folded(data + machine.finish())
    said = answer["choices"][0]["message"]
    assert said["reasoning_content"] == "Hm\n\nAh"
    assert said["content"] == f"I will look [2].\n\nBlue {LINK}."
    (cited,) = [annotation["url_citation"] for annotation in said["annotations"]]
    assert said["content"][cited["start_index"] : cited["end_index"]] == LINK
    assert "tool_calls" not in said
    assert answer["usage"]["prompt_tokens"] == 80
    assert machine.response is not None
    assert machine.response["choices"] == answer["choices"]
    assert machine.finish() == b""


def test_what_was_searched_is_kept_for_the_next_request() -> None:
    kept: dict[str, str] = {}
    machine = searching(kept)
    for chunk in (Chunk(reasoning="Hm"), search(), CALLED):
        machine.feed(chunk)
    machine.finish()
    machine.found([FOUND])
    for chunk in (Chunk(announces_thinking=True), Chunk(content="Blue [2]."), STOP):
        machine.feed(chunk)
    machine.finish()
    assert machine.response is not None
    content = machine.response["choices"][0]["message"]["content"]
    known = searches.unpack(kept[searches.key_of([], content)])
    assert known is not None
    assert [type(entry).__name__ for entry in known.entries] == [
        *("Thinking", "ToolCall", "ToolResult", "Thinking", "AssistantText")
    ]
    assert [source.number for source in known.sources] == [1, 2]


def test_searches_beside_the_clients_calls_are_dropped() -> None:
    machine = searching(tools=[{"type": "function", "function": {"name": "f"}}])
    said = message(machine, search(0), call(1), CALLED)
    assert [entry["function"]["name"] for entry in said["tool_calls"]] == ["f"]
    assert machine.actions is None


def test_searches_without_end_are_a_failure() -> None:
    machine = searching(limits=Limits(rounds=0, searches=0, seconds=60))
    for _ in range(2):
        machine.feed(search())
        machine.feed(CALLED)
        data = machine.finish()
        if machine.actions is not None:
            machine.found([])
    assert folded(data)["error"]["code"] == "invalid_prompt"


def test_in_json_nothing_is_cited() -> None:
    machine = searching(response_format={"type": "json_object"})
    machine.feed(search())
    machine.feed(CALLED)
    machine.finish()
    machine.found([FOUND])
    said = message(machine, Chunk(content='{"a": [2]}'), STOP)
    assert said["content"] == '{"a": [2]}'
    assert "annotations" not in said


def test_what_may_have_become_a_citation_is_shown_in_the_end() -> None:
    assert message(searching(), Chunk(content="See [2"), STOP)["content"] == "See [2"
    machine = searching()
    data = machine.feed(Chunk(content="See [2")) + machine.fail(UpstreamError("Cut."))
    contents = [c["choices"][0]["delta"].get("content") for c in chunks_of(data) if "choices" in c]
    assert "".join(filter(None, contents)) == "See [2"


def test_log_probabilities_go_with_a_search() -> None:
    machine = searching(logprobs=True)
    entry = {"token": "x", "logprob": -0.1, "bytes": None, "top_logprobs": []}
    answer = ended(machine, *(Chunk(content=text, logprobs=(entry,)) for text in ("Hi [", "x")), STOP)
    assert answer["choices"][0]["message"]["content"] == "Hi [x"
    assert len(answer["choices"][0]["logprobs"]["content"]) == 2
