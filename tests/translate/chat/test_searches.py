from __future__ import annotations

import pytest

from deepseek_proxy.translate.chat import searches
from deepseek_proxy.translate.history import (
    AssistantText,
    Entry,
    SystemText,
    TextPart,
    Thinking,
    ToolCall,
    ToolResult,
)
from deepseek_proxy.translate.sources import Source

SAID: list[Entry] = [
    Thinking("Hm"),
    AssistantText("I will look."),
    ToolCall("call_1", "web_search", '{"query": "sky"}'),
    ToolResult("call_1", None, (TextPart("[1] Sky"),)),
    Thinking(""),
    AssistantText("Blue [1]. 青"),
]
SOURCES = [Source(1, "https://a.example", "Sky")]


def test_what_was_packed_comes_out_again() -> None:
    assert searches.unpack(searches.pack(SAID, SOURCES)) == searches.Kept(SAID, SOURCES)


@pytest.mark.parametrize(
    "packed",
    ["", "null", "[]", "{}", '{"said": [["x", "y"]], "sources": []}', '{"said": [], "sources": [1]}'],
)
def test_what_another_version_packed_is_not_known(packed: str) -> None:
    assert searches.unpack(packed) is None


def test_only_parts_of_an_answer_are_packed() -> None:
    with pytest.raises(TypeError):
        searches.pack([SystemText("x")], [])


def test_a_key_is_of_the_calls_or_of_the_text() -> None:
    assert searches.key_of(["call_1"], "a") == searches.key_of(["call_1"], "b")
    assert searches.key_of([], "a") != searches.key_of([], "b")
    assert "a text" not in searches.key_of([], "a text")
