from __future__ import annotations

import pytest
from harness.machines import TOOL_NAME_LIMIT, events_of, numbered_ids, seal, unseal
from openai.types.responses import ResponseFunctionWebSearch
from openai.types.responses.response_output_text import AnnotationURLCitation

from deepseek_proxy.translate.history import TextPart, Thinking, ToolCall, ToolResult
from deepseek_proxy.translate.lookup import OPEN_PAGE, WEB_SEARCH, OpenPage, Options, Search
from deepseek_proxy.translate.responses import search
from deepseek_proxy.translate.responses.emitter import Emitter
from deepseek_proxy.translate.responses.search import WebSearchItem
from deepseek_proxy.translate.rounds import Answered, Round
from deepseek_proxy.translate.sealed import Purpose
from deepseek_proxy.translate.search import Told
from deepseek_proxy.translate.sources import Source, Sources
from deepseek_proxy.translate.tools import Tool, ToolKind, ToolTable

SKY = Source(3, "https://a.example/sky", "Sky")
ROUND = Round(
    (
        Answered(WEB_SEARCH.kind, "call_0", '{"query": "sky"}', "[3] Sky"),
        Answered(OPEN_PAGE.kind, "call_1", '{"url": "https://a.example/sky"}', "青い"),
    ),
    (SKY,),
)


# -- items and citations --------------------------------------------------------------------------


def item_of(action: Search | OpenPage, *, shows_sources: bool = False) -> WebSearchItem:
    return WebSearchItem(Emitter(), 2, numbered_ids(), action, shows_sources=shows_sources)


def test_a_search_from_its_beginning_to_its_end() -> None:
    item = item_of(Search("sky", 10, Options()))
    begun = events_of(item.open())
    item.settle(Told("[3] Sky", ok=True, sources=(SKY,)))
    ended = events_of(item.close("completed"))
    shown = {
        "id": "ws_1",
        "type": "web_search_call",
        "status": "in_progress",
        "action": {"type": "search", "query": "sky"},
    }
    where = {"item_id": "ws_1", "output_index": 2}
    assert [{**event, "sequence_number": None} for event in begun + ended] == [
        {**event, "sequence_number": None}
        for event in (
            {"type": "response.output_item.added", "output_index": 2, "item": shown},
            {"type": "response.web_search_call.in_progress", **where},
            {"type": "response.web_search_call.searching", **where},
            {"type": "response.web_search_call.completed", **where},
            {
                "type": "response.output_item.done",
                "output_index": 2,
                "item": {**shown, "status": "completed"},
            },
        )
    ]
    for event in (begun[0], ended[-1]):
        ResponseFunctionWebSearch.model_validate(event["item"], strict=True)


def test_a_failed_search_is_not_completed() -> None:
    item = item_of(OpenPage("https://a.example", 0, 10))
    item.open()
    item.settle(Told("The page could not be opened.", ok=False))
    (ended,) = events_of(item.close("completed"))
    assert ended["item"]["status"] == "failed"
    assert ended["item"]["action"] == {"type": "open_page", "url": "https://a.example"}
    ResponseFunctionWebSearch.model_validate(ended["item"], strict=True)


def test_sources_are_shown_to_who_asks_for_them() -> None:
    item = item_of(Search("sky", 10, Options()), shows_sources=True)
    assert "sources" not in item.current("in_progress")["action"]
    item.settle(Told("[3] Sky", ok=True, sources=(SKY,)))
    shown = item.current("completed")
    assert shown["action"]["sources"] == [{"type": "url", "url": "https://a.example/sky"}]
    ResponseFunctionWebSearch.model_validate(shown, strict=True)


def test_citations_in_openais_shape() -> None:
    known = Sources()
    known.add([SKY])
    (cited,) = search.citations("青い [3].", known)
    assert cited == {
        "type": "url_citation",
        "start_index": 3,
        "end_index": 6,
        "url": "https://a.example/sky",
        "title": "Sky",
    }
    AnnotationURLCitation.model_validate(cited, strict=True)


# -- what is sealed -------------------------------------------------------------------------------


@pytest.mark.parametrize("thinking", [None, "", "Now I know – 看。"])
def test_a_round_comes_back_as_it_was(thinking: str | None) -> None:
    token = search.token(ROUND, seal, thinking)
    assert search.is_round(token)
    kept = search.unsealed(token, unseal)
    assert kept is not None
    assert (tuple(kept.round.calls), tuple(kept.round.sources)) == (ROUND.calls, ROUND.sources)
    assert kept.entries(ToolTable(TOOL_NAME_LIMIT)) == [
        ToolCall("call_0", "web_search", '{"query": "sky"}'),
        ToolCall("call_1", "open_page", '{"url": "https://a.example/sky"}'),
        ToolResult("call_0", None, (TextPart("[3] Sky"),)),
        ToolResult("call_1", None, (TextPart("青い"),)),
        *([] if thinking is None else [Thinking(thinking)]),
    ]


def test_a_round_knows_its_tools_under_their_alias() -> None:
    table = ToolTable(TOOL_NAME_LIMIT)
    table.declare(Tool(ToolKind.FUNCTION, "web_search"), None, {})
    call = ROUND.entries(table)[0]
    assert isinstance(call, ToolCall)
    assert table.client_tool(call.name) == WEB_SEARCH


@pytest.mark.parametrize(
    "token",
    [
        "searches.",
        "searches.foreign",
        "searches." + seal(Purpose.REASONING, "Hm"),
        "searches." + seal(Purpose.SEARCHES, "Hm"),
        "searches." + seal(Purpose.SEARCHES, "[]"),
        "searches."
        + seal(Purpose.SEARCHES, '{"calls": [["dance", "c", "", ""]], "sources": [], "thinking": ""}'),
        "searches."
        + seal(Purpose.SEARCHES, '{"calls": [["function", "c", "", ""]], "sources": [], "thinking": ""}'),
        "searches."
        + seal(Purpose.SEARCHES, '{"calls": [["web_search", "c"]], "sources": [], "thinking": ""}'),
        "searches." + seal(Purpose.SEARCHES, '{"calls": [], "sources": [["x", "", ""]], "thinking": ""}'),
    ],
)
def test_a_round_that_is_broken_does_not_open(token: str) -> None:
    assert search.is_round(token)
    assert search.unsealed(token, unseal) is None


def test_thinking_alone_is_no_round() -> None:
    assert not search.is_round(seal(Purpose.REASONING, "Hm"))
