from __future__ import annotations

from typing import Any

import pytest
from harness.machines import numbered_ids, table_of

from deepseek_proxy.errors import UpstreamError
from deepseek_proxy.translate import calling
from deepseek_proxy.translate.chat.options import StreamOptions
from deepseek_proxy.translate.hub import ToolCallDelta
from deepseek_proxy.translate.lookup import WEB_SEARCH, Options, Search
from deepseek_proxy.translate.rounds import Rounds
from deepseek_proxy.translate.search import Limits, Session
from deepseek_proxy.translate.tools import Tool, ToolKind, ToolTable

DOTTED = Tool(ToolKind.CUSTOM, "my.tool")
SEARCH = '{"query": "sky"}'


def begin(
    name: str | None,
    call_id: str | None = "c",
    *shown: str,
    table: ToolTable | None = None,
    rounds: Rounds | None = None,
    **choices: Any,
) -> tuple[Tool, str] | None:
    table = table or table_of(DOTTED)
    options = StreamOptions(table, numbered_ids(), lambda _key, _text: None, **choices)
    delta = ToolCallDelta(len(shown), call_id, name, SEARCH)
    return calling.begin(delta, options, rounds or Rounds(Session(), table), shown)


def test_a_call_is_told_in_the_clients_words() -> None:
    assert begin(table_of(DOTTED).upstream_name(DOTTED)) == (DOTTED, "c")
    assert begin("nobody_knows") == (Tool(ToolKind.FUNCTION, "nobody_knows"), "c")


@pytest.mark.parametrize("call_id", [None, "", "c"])
def test_every_call_has_an_id_of_its_own(call_id: str | None) -> None:
    assert begin("f", call_id, "c") == (Tool(ToolKind.FUNCTION, "f"), "call_1")


def test_what_the_client_rules_out_is_not_shown() -> None:
    assert begin("f", permitted=lambda name: name != "f") is None
    assert begin("f", "c", "b", parallel_tool_calls=False) is None
    assert begin("f", parallel_tool_calls=False) is not None


def test_a_search_is_for_the_gateway_and_counts_as_a_call() -> None:
    table, session = ToolTable(64), Session(Limits(8, 16, 60))
    session.offer(table, Options())
    rounds = Rounds(session, table)
    assert begin("web_search", table=table, rounds=rounds) is None
    (action,) = rounds.plan()
    assert isinstance(action, Search)
    assert action.query == "sky"
    assert begin("f", table=table, rounds=rounds, parallel_tool_calls=False) is None


def test_a_search_of_an_earlier_request_is_for_the_client_to_say_that_it_is_gone() -> None:
    table = ToolTable(64)
    name = table.upstream_name(WEB_SEARCH)
    assert begin(name, table=table) == (Tool(ToolKind.FUNCTION, "web_search"), "c")


def test_a_call_without_a_name_cannot_be() -> None:
    with pytest.raises(UpstreamError, match="without a name"):
        begin(None)
