"""Answers of several turns: the machine fed turn after turn, the searches in between played by the test."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from harness.machines import Event, context, events_of, judged, machine_for

from deepseek_proxy.errors import ProxyError, UpstreamError, UpstreamTimeout
from deepseek_proxy.translate.hub import Chunk, Delta, ToolCallDelta, Usage
from deepseek_proxy.translate.lookup import Outcome, Search
from deepseek_proxy.translate.responses.request import ResponsesRequest, parse
from deepseek_proxy.translate.sealed import Purpose
from deepseek_proxy.translate.search import Limits, Session

USAGE = Usage(40, 32, 9, 4)
BEGIN = Chunk(announces_thinking=True)
STOP = Chunk(finish_reason="stop", usage=USAGE)
CALLED = Chunk(finish_reason="tool_calls", usage=USAGE)
LOOK_UP = {"type": "function", "name": "look_up", "parameters": {"type": "object", "properties": {}}}
FOUND = json.dumps(
    {"results": [{"url": f"https://example.com/{n}", "title": f"Page {n}", "summary": "S"} for n in (1, 2)]}
).encode()
OPENED = json.dumps({"title": "A page", "content": "Text."}).encode()

Turn = Sequence[Delta]


def thought(text: str) -> Chunk:
    return Chunk(reasoning=text)


def said(text: str) -> Chunk:
    return Chunk(content=text)


def called(position: int, name: str, arguments: str = "{}", turn: int = 0) -> Chunk:
    return Chunk(tool_calls=(ToolCallDelta(position, f"call_{turn}_{position}", name, arguments),))


def search(query: str = "sky", position: int = 0, turn: int = 0) -> Chunk:
    return called(position, "web_search", json.dumps({"query": query}), turn)


def opening(url: str, position: int = 0, turn: int = 0) -> Chunk:
    return called(position, "open_page", json.dumps({"url": url}), turn)


def asked(limits: Limits | None = None, **fields: Any) -> ResponsesRequest:
    """A request that offers a web search and a function of the client."""
    body = {"model": "deepseek-flash", "input": "Why?", "tools": [{"type": "web_search"}, LOOK_UP], **fields}
    session = Session(limits or Limits(rounds=8, searches=16, seconds=60), lambda: 0)
    return parse(body, context(search=session))


class Answering:
    """One answer. `sent` are the bodies of its turns, `data` is what the client gets."""

    def __init__(self, request: ResponsesRequest, **changes: Any) -> None:
        self.request = request
        self.machine = machine_for(
            request,
            **{
                "search": request.search,
                "cites": not request.is_json,
                "shows_sources": request.shows_sources,
                **changes,
            },
        )
        self.sent: list[dict[str, Any]] = [request.upstream]
        self.data = self.machine.start()

    def feed(self, turn: Turn) -> None:
        self.data += b"".join(map(self.machine.feed, turn)) + self.machine.finish()

    def found(self, *outcomes: Outcome) -> None:
        assert self.machine.actions is not None
        self.data += self.machine.found(outcomes)
        assert self.request.next_turn is not None
        spent = self.machine.usage.completion_tokens if self.machine.usage else 0
        self.sent.append(self.request.next_turn(self.machine.rounds.said, spent))

    def play(self, *turns: Turn) -> Answering:
        """The turns, with every search between them finding the same."""
        for turn in turns:
            self.feed(turn)
            if self.machine.actions is not None:
                self.found(*(FOUND if isinstance(act, Search) else OPENED for act in self.machine.actions))
        return self

    @property
    def events(self) -> list[Event]:
        return events_of(self.data)

    @property
    def output(self) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = judged(self.data)["output"]
        return items

    @property
    def types(self) -> list[str]:
        return [item["type"] for item in self.output]


def added(later: dict[str, Any], earlier: dict[str, Any]) -> list[dict[str, Any]]:
    """What `later` says beyond `earlier`, which it repeats byte for byte."""
    before, after = json.dumps(earlier["messages"])[:-1], json.dumps(later["messages"])
    assert after.startswith(before)
    assert later["tools"] == earlier["tools"]
    messages: list[dict[str, Any]] = later["messages"][len(earlier["messages"]) :]
    return messages


# -- one search -----------------------------------------------------------------------------------


def test_an_answer_with_a_search() -> None:
    answer = Answering(asked()).play(
        [BEGIN, thought("Hm"), said("I look."), search(), CALLED],
        [BEGIN, thought("Ah"), said("So [2]."), STOP],
    )
    assert answer.types == ["reasoning", "message", "web_search_call", "reasoning", "message"]
    (annotation,) = answer.output[-1]["content"][0]["annotations"]
    assert (annotation["url"], annotation["title"]) == ("https://example.com/2", "Page 2")
    assert answer.output[1]["content"][0]["annotations"] == []
    first, second = answer.sent
    call, result = added(second, first)
    assert (call["content"], call["reasoning_content"]) == ("I look.", "Hm")
    assert [each["function"]["name"] for each in call["tool_calls"]] == ["web_search"]
    assert result["tool_call_id"] == call["tool_calls"][0]["id"] == "call_0_0"
    assert result["content"].startswith("[1] Page 1\nhttps://example.com/1\nS\n\n[2] ")


def test_the_frames_of_a_turn_come_before_its_searches_are_run() -> None:
    answer = Answering(asked())
    answer.feed([BEGIN, thought("Hm"), search(), opening("https://a.example", 1), CALLED])
    kinds = [event["type"].removeprefix("response.") for event in answer.events]
    shown = ["output_item.added", "web_search_call.in_progress", "web_search_call.searching"]
    assert kinds[-7:] == ["output_item.done", *shown, *shown]
    assert answer.machine.finish_reason is None, "the clock of an ended turn would run"
    assert answer.machine.response is None


def test_a_heartbeat_in_the_middle_of_a_search_shows_it() -> None:
    answer = Answering(asked())
    answer.feed([BEGIN, thought("Hm"), search(), CALLED])
    answer.data += answer.machine.heartbeat()
    (item,) = answer.events[-1]["response"]["output"][1:]
    assert (item["type"], item["status"]) == ("web_search_call", "in_progress")
    answer.found(FOUND)
    answer.feed([said("So."), STOP])
    assert answer.types[-1] == "message"


def test_several_searches_of_a_turn_run_side_by_side() -> None:
    answer = Answering(asked(include=["web_search_call.action.sources"])).play(
        [BEGIN, search("a"), opening("https://a.example/x", 1), search("b", 2), CALLED], [said("[3]"), STOP]
    )
    shown = [item for item in answer.output if item["type"] == "web_search_call"]
    assert [item["action"].get("query") or item["action"]["url"] for item in shown] == [
        *("a", "https://a.example/x", "b")
    ]
    assert [len(item["action"].get("sources", ())) for item in shown] == [2, 0, 2]
    assert answer.output[-1]["content"][0]["annotations"][0]["title"] == "A page"
    _, *results = added(answer.sent[1], answer.sent[0])
    assert [result["content"][:3] for result in results] == ["[1]", "[3]", "[1]"]


def test_a_search_in_one_byte_pieces() -> None:
    whole = [BEGIN, search("blue sky"), CALLED]
    arguments = '{"query": "blue sky"}'
    pieces = [
        Chunk(tool_calls=(ToolCallDelta(0, "call_0_0", "web_search", ""),)),
        *(Chunk(tool_calls=(ToolCallDelta(0, None, None, char),)) for char in arguments),
    ]
    rest = [said("So."), STOP]
    assert Answering(asked()).play([BEGIN, *pieces, CALLED], rest).data == (
        Answering(asked()).play(whole, rest).data
    )


# -- many turns -----------------------------------------------------------------------------------

CONVERSATIONS: dict[str, list[Turn]] = {
    "thinking in every turn": [
        [BEGIN, thought("a"), search("x"), CALLED],
        [BEGIN, thought("b"), said("More."), search("y", turn=1), opening("https://a.example", 1, 1), CALLED],
        [BEGIN, thought("c"), said("So [1]."), STOP],
    ],
    "thinking that stays empty": [
        [BEGIN, search("x"), CALLED],
        [BEGIN, search("y", turn=1), CALLED],
        [BEGIN, said("So."), STOP],
    ],
    "no thinking": [
        [search("x"), CALLED],
        [said("More."), search("y", turn=1), CALLED],
        [search("z", turn=2), CALLED],
        [said("So [1]."), STOP],
    ],
    "a search and nothing more": [[BEGIN, search("x"), CALLED], [STOP]],
    "a call of the client at the end": [
        [BEGIN, thought("a"), search("x"), CALLED],
        [BEGIN, called(0, "look_up", turn=1), CALLED],
    ],
    "thinking again after text": [
        [BEGIN, thought("a"), said("b"), thought("c"), search("x"), CALLED],
        [BEGIN, thought("d"), said("e"), STOP],
    ],
    "a wrong call": [[BEGIN, called(0, "web_search", '{"q": 1}'), CALLED], [BEGIN, said("Sorry."), STOP]],
}


@pytest.mark.parametrize("effort", ["high", "none"])
@pytest.mark.parametrize("name", CONVERSATIONS)
def test_what_the_model_has_read_is_repeated_byte_for_byte(
    name: str, effort: str, deepseek_check: Callable[[Any], Any]
) -> None:
    """By the turns of the answer, by the next request, and by a client that sends nothing but items."""
    fields = {"reasoning": {"effort": effort}}
    answer = Answering(asked(**fields)).play(*CONVERSATIONS[name])
    for earlier, later in zip(answer.sent, answer.sent[1:], strict=False):
        assert added(later, earlier)
    results = [
        {"type": "function_call_output", "call_id": item["call_id"], "output": "ok"}
        for item in answer.output
        if item["type"] == "function_call"
    ]
    conversation = [{"role": "user", "content": "Why?"}, *answer.output, *results]
    later = asked(**fields, input=[*conversation, {"role": "user", "content": "Sure?"}])
    messages = added(later.upstream, answer.sent[-1])
    assert messages[-1] == {"role": "user", "content": "Sure?"}
    assert {*later.notes} <= {"missing_reasoning"}
    for body in (*answer.sent, later.upstream):
        assert deepseek_check(body) == (200, None)


def test_numbers_go_on_in_the_next_request_and_old_ones_are_still_cited() -> None:
    first = Answering(asked()).play([BEGIN, search("x"), CALLED], [BEGIN, said("So."), STOP])
    history = [{"role": "user", "content": "Why?"}, *first.output, {"role": "user", "content": "And?"}]
    second = Answering(asked(input=history)).play(
        [BEGIN, opening("https://new.example"), CALLED], [BEGIN, said("[2] and [3]."), STOP]
    )
    cited = second.output[-1]["content"][0]["annotations"]
    assert [each["url"] for each in cited] == ["https://example.com/2", "https://new.example"]


def test_a_search_that_does_not_open_leaves_the_summary_of_the_thinking() -> None:
    """Another tenant's, or of a lost key: each is asked for once, under the purpose that it was made for."""
    asked_for: list[str] = []
    item = {"type": "reasoning", "encrypted_content": "searches.foreign"}
    summary = [{"type": "summary_text", "text": "Hm"}]
    body = {"input": [{**item, "summary": summary}, {"role": "assistant", "content": "So."}]}
    unopened = context(unseal=lambda purpose, _: asked_for.append(purpose))
    request = parse({"model": "deepseek-flash", **body}, unopened)
    assert request.upstream["messages"][0]["reasoning_content"] == "Hm"
    assert asked_for == [Purpose.SEARCHES]


def test_where_nothing_was_thought_an_empty_item_carries_the_search() -> None:
    answer = Answering(asked(reasoning={"effort": "none"})).play([search(), CALLED], [said("So."), STOP])
    assert answer.types == ["web_search_call", "reasoning", "message"]
    assert answer.output[1]["summary"] == []
    assert answer.output[1]["encrypted_content"].startswith("searches.")


def test_usage_is_the_sum_of_all_turns() -> None:
    turns = [[BEGIN, search(), CALLED], [BEGIN, said("So."), STOP]]
    usage = judged(Answering(asked()).play(*turns).data)["usage"]
    assert (usage["input_tokens"], usage["output_tokens"], usage["total_tokens"]) == (80, 18, 98)
    assert usage["input_tokens_details"]["cached_tokens"] == 64


def test_the_total_may_be_that_of_the_last_turn() -> None:
    answer = Answering(asked(), totals_last_turn=True).play(
        [BEGIN, search(), CALLED], [BEGIN, said("So."), STOP]
    )
    usage = answer.events[-1]["response"]["usage"]
    assert (usage["input_tokens"], usage["output_tokens"], usage["total_tokens"]) == (80, 18, 49)


def test_the_limit_of_tokens_is_that_of_the_whole_answer() -> None:
    answer = Answering(asked(max_output_tokens=20)).play(
        *([BEGIN, search(str(turn), turn=turn), CALLED] for turn in range(3)), [BEGIN, said("So."), STOP]
    )
    assert [body["max_tokens"] for body in answer.sent] == [20, 11, 2, 1]


# -- searches beside other things -----------------------------------------------------------------


def test_a_turn_that_calls_the_client_too_drops_its_searches() -> None:
    answer = Answering(asked()).play([BEGIN, thought("Hm"), search(), called(1, "look_up"), CALLED])
    assert answer.types == ["reasoning", "function_call"]
    assert answer.machine.actions is None
    assert answer.machine.rounds.said != []


@pytest.mark.parametrize(
    ("turn", "types"),
    [
        ([BEGIN, search(), called(1, "look_up"), CALLED], ["reasoning", "web_search_call"]),
        ([BEGIN, called(0, "look_up"), search(position=1), CALLED], ["reasoning", "function_call"]),
        ([BEGIN, search(), search("y", 1), CALLED], ["reasoning", "web_search_call"]),
    ],
)
def test_without_parallel_calls_the_first_one_counts(turn: Turn, types: list[str]) -> None:
    answer = Answering(asked(parallel_tool_calls=False)).play(turn)
    if answer.machine.response is None:
        answer.play([STOP])
        types = [*types, "reasoning"]
    assert answer.types == types


def test_an_answer_that_is_cut_searches_no_more() -> None:
    answer = Answering(asked()).play([BEGIN, said("I loo"), search(), Chunk(finish_reason="length")])
    assert judged(answer.data)["status"] == "incomplete"
    assert answer.types == ["reasoning", "message"]


def test_an_answer_that_is_cut_after_a_search_keeps_it() -> None:
    answer = Answering(asked()).play([search(), CALLED], [said("So"), Chunk(finish_reason="length")])
    assert [item.get("status") for item in answer.output] == ["completed", None, "incomplete"]


def test_a_call_of_a_search_that_is_not_offered_goes_to_the_client() -> None:
    """It is known from earlier requests, and the client has to say that it is gone."""
    first = Answering(asked()).play([BEGIN, search(), CALLED], [BEGIN, said("So."), STOP])
    history = [{"role": "user", "content": "Why?"}, *first.output, {"role": "user", "content": "And?"}]
    later = Answering(asked(input=history, tools=[LOOK_UP])).play([BEGIN, search(), CALLED])
    assert [(item["type"], item.get("name")) for item in later.output] == [
        ("reasoning", None),
        ("function_call", "web_search"),
    ]


def test_json_cites_nothing() -> None:
    answer = Answering(asked(text={"format": {"type": "json_object"}})).play(
        [BEGIN, search(), CALLED], [BEGIN, said('{"a": [1]}'), STOP]
    )
    assert answer.output[-1]["content"][0]["annotations"] == []


# -- bounds and failures --------------------------------------------------------------------------


def test_at_a_bound_the_model_is_told_and_no_search_is_shown() -> None:
    answer = Answering(asked(Limits(rounds=1, searches=16, seconds=60))).play(
        [BEGIN, search("x"), CALLED], [BEGIN, search("y", turn=1), CALLED], [BEGIN, said("So."), STOP]
    )
    assert answer.types.count("web_search_call") == 1
    assert added(answer.sent[2], answer.sent[1])[-1]["content"].startswith("No more searches are possible")


def test_beyond_the_bound_the_answer_fails() -> None:
    turns = [[BEGIN, search(str(turn), turn=turn), CALLED] for turn in range(3)]
    answer = Answering(asked(Limits(rounds=1, searches=16, seconds=60))).play(*turns)
    final = judged(answer.data)
    assert (final["status"], final["error"]["code"]) == ("failed", "invalid_prompt")
    assert final["usage"]["input_tokens"] == 120
    assert answer.machine.actions is None


def test_a_request_bounds_its_searches() -> None:
    answer = Answering(asked(max_tool_calls=1)).play(
        [BEGIN, search("x"), search("y", 1), CALLED], [BEGIN, said("So."), STOP]
    )
    assert answer.types.count("web_search_call") == 1


@pytest.mark.parametrize("error", [UpstreamTimeout("Late."), UpstreamError("Broken.")])
def test_a_failed_search_is_told_to_the_model(error: ProxyError) -> None:
    answer = Answering(asked())
    answer.feed([BEGIN, search("x"), search("y", 1), CALLED])
    answer.found(error, FOUND)
    answer.feed([BEGIN, said("So."), STOP])
    searches = [item for item in answer.output if item["type"] == "web_search_call"]
    assert [item["status"] for item in searches] == ["failed", "completed"]
    _, failed, found = added(answer.sent[1], answer.sent[0])
    assert failed["content"].startswith("The search failed: ")
    assert found["content"].startswith("[1] ")


def test_a_failure_in_the_middle_of_a_search_ends_the_answer() -> None:
    answer = Answering(asked())
    answer.feed([BEGIN, search(), CALLED])
    answer.data += answer.machine.fail(UpstreamError("No balance."))
    assert judged(answer.data)["status"] == "failed"


# -- requests -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["web_search", "web_search_preview"])
def test_a_forced_search_is_forced_once(kind: str) -> None:
    request = asked(tool_choice={"type": kind})
    named = {"type": "function", "function": {"name": "web_search"}}
    assert request.upstream["tool_choice"] == named
    assert request.upstream["thinking"] == {"type": "disabled"}
    answer = Answering(request).play([search(), CALLED], [said("So."), STOP])
    assert "tool_choice" not in answer.sent[1]
    assert answer.sent[1]["thinking"] == {"type": "disabled"}


def test_a_required_tool_may_be_a_search() -> None:
    answer = Answering(asked(tool_choice="required", tools=[{"type": "web_search"}])).play(
        [search(), CALLED], [said("So."), STOP]
    )
    assert [body.get("tool_choice") for body in answer.sent] == ["required", None]
    assert judged(answer.data)["tools"] == [{"type": "web_search"}]


def test_allowed_tools_may_name_the_search() -> None:
    choice = {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "web_search"}]}
    request = asked(tool_choice=choice)
    names = [tool["function"]["name"] for tool in request.upstream["tools"]]
    assert names == ["web_search", "open_page"]
    assert request.permitted("open_page")
    assert not request.permitted("look_up")


def test_the_functions_stand_where_the_tool_stood() -> None:
    request = asked(tools=[LOOK_UP, {"type": "web_search"}, {**LOOK_UP, "name": "b"}])
    names = [tool["function"]["name"] for tool in request.upstream["tools"]]
    assert names == ["look_up", "web_search", "open_page", "b"]
    assert request.notes == {}


def test_tools_in_the_input_may_be_a_search() -> None:
    items = [
        {"type": "additional_tools", "tools": [{"type": "web_search"}]},
        {"role": "user", "content": "x"},
    ]
    assert asked(input=items, tools=[]).next_turn is not None


def test_where_it_is_off_the_search_is_left_out() -> None:
    body = {"model": "deepseek-flash", "input": "Why?", "tools": [{"type": "web_search"}, LOOK_UP]}
    request = parse(body, context())
    assert [tool["function"]["name"] for tool in request.upstream["tools"]] == ["look_up"]
    assert request.notes == {"tool_left_out": 1}
    assert request.next_turn is None


@pytest.mark.parametrize("kind", ["web_search", "web_search_preview"])
def test_where_it_is_off_a_forced_search_is_refused(kind: str) -> None:
    body = {"model": "deepseek-flash", "input": "Why?", "tools": [{"type": kind}]}
    with pytest.raises(ProxyError, match=f"Tool choice '{kind}' not found") as refused:
        parse({**body, "tool_choice": {"type": kind}}, context())
    assert (refused.value.status, refused.value.param) == (400, "tool_choice")


def test_a_small_errand_searches_nothing() -> None:
    body = {"model": "deepseek-flash", "input": "Why?", "tools": [{"type": "web_search"}]}
    session = Session(Limits(8, 16, 60), lambda: 0)
    assert "tools" not in parse(body, context(search=session, errand=True)).upstream
