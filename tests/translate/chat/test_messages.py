from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from deepseek_proxy.errors import InvalidRequest
from deepseek_proxy.translate.chat import searches
from deepseek_proxy.translate.chat.calls import legacy_call_id
from deepseek_proxy.translate.chat.messages import MessageReader
from deepseek_proxy.translate.content import UNREADABLE_PART
from deepseek_proxy.translate.history import (
    AssistantText,
    Entry,
    ImagePart,
    SystemText,
    TextPart,
    Thinking,
    ToolCall,
    ToolResult,
    UserMessage,
)
from deepseek_proxy.translate.search import Session
from deepseek_proxy.translate.sources import Source
from deepseek_proxy.translate.tools import ToolTable

URL = "https://example.com/a.png"


def read(*messages: Any, notes: Counter[str] | None = None) -> list[Entry]:
    counted = Counter[str]() if notes is None else notes
    return MessageReader(ToolTable(64), counted, lambda _: None).read(list(messages))


def user(text: str) -> UserMessage:
    return UserMessage((TextPart(text),))


@pytest.mark.parametrize(
    ("message", "entries"),
    [
        ({"role": "system", "content": "a"}, [SystemText("a")]),
        ({"role": "developer", "content": [{"type": "text", "text": "a"}, "b"]}, [SystemText("a\n\nb")]),
        ({"role": "latest_reminder", "content": "a"}, [SystemText("a")]),
        ({"role": "user", "content": "a", "name": "x"}, [user("a")]),
        ({"role": "user", "content": None}, [UserMessage(())]),
        ({"role": "user"}, [UserMessage(())]),
        (
            {"role": "user", "content": [{"type": "image_url", "image_url": {"url": URL}}]},
            [UserMessage((ImagePart(URL),))],
        ),
        ({"role": "assistant", "content": "a"}, [AssistantText("a")]),
        ({"role": "assistant", "content": None, "tool_calls": None}, [AssistantText("")]),
        ({"role": "assistant", "content": [{"type": "text", "text": "a"}, "b"]}, [AssistantText("ab")]),
        ({"role": "assistant", "content": None, "refusal": "No."}, [AssistantText("No.")]),
        ({"role": "assistant", "content": "a", "reasoning_content": ""}, [Thinking(""), AssistantText("a")]),
        ({"role": "assistant", "content": "a", "reasoning": "t"}, [Thinking("t"), AssistantText("a")]),
        ({"role": "assistant", "content": "a", "reasoning_content": None}, [AssistantText("a")]),
        ({"role": "assistant", "content": "a", "reasoning_content": {"an": "object"}}, [AssistantText("a")]),
        (
            {"role": "tool", "tool_call_id": "c", "content": "a"},
            [ToolResult("c", None, (TextPart("a"),))],
        ),
        ({"role": "tool", "content": None}, [ToolResult(None, None, ())]),
        ({"role": "function", "name": "f", "content": "a"}, [ToolResult(None, "f", (TextPart("a"),))]),
    ],
)
def test_a_message(message: dict[str, Any], entries: list[Entry]) -> None:
    assert read(message) == entries


@pytest.mark.parametrize(
    ("call", "entry"),
    [
        (
            {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}},
            ToolCall("c", "f", "{}"),
        ),
        ({"function": {"name": "f"}}, ToolCall("", "f", "{}")),
        ({"id": "c", "function": {"name": "f", "arguments": {"a": 1}}}, ToolCall("c", "f", '{"a":1}')),
        (
            {"id": "c", "type": "custom", "custom": {"name": "p", "input": "x\n"}},
            ToolCall("c", "p", '{"input":"x\\n"}'),
        ),
    ],
)
def test_a_call(call: dict[str, Any], entry: ToolCall) -> None:
    message = {"role": "assistant", "content": None, "reasoning_content": "t", "tool_calls": [call]}
    assert read(message) == [Thinking("t"), AssistantText(""), entry]


def test_an_elder_call_gets_an_id() -> None:
    message = {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": "{}"}}
    assert read(message) == [AssistantText(""), ToolCall(legacy_call_id("f", "{}"), "f", "{}")]


def test_an_unknown_role_speaks_as_a_user_and_is_counted() -> None:
    notes: Counter[str] = Counter()
    assert read({"role": "critic", "content": "a"}, notes=notes) == [user("a")]
    assert notes == {"unknown_role": 1}


@pytest.mark.parametrize(
    ("messages", "param"),
    [
        (None, "messages"),
        ("Hi", "messages"),
        ([], "messages"),
        (["Hi"], "messages[0]"),
        ([{"content": "Hi"}], "messages[0].role"),
        ([{"role": 5}], "messages[0].role"),
        ([{"role": "user", "content": 5}], "messages[0].content"),
        ([{"role": "user", "content": [{"type": "input_audio"}]}], "messages[0].content[0]"),
        ([{"role": "assistant", "tool_calls": {}}], "messages[0].tool_calls"),
        ([{"role": "assistant", "tool_calls": [5]}], "messages[0].tool_calls[0]"),
        ([{"role": "assistant", "tool_calls": [{}]}], "messages[0].tool_calls[0].function.name"),
        ([{"role": "assistant", "function_call": {"arguments": ""}}], "messages[0].function_call.name"),
    ],
)
def test_what_is_no_message_is_refused_with_its_path(messages: Any, param: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        MessageReader(ToolTable(64), Counter(), lambda _: None).read(messages)
    assert refused.value.param == param


def test_a_part_that_cannot_be_read_is_refused_only_when_it_is_new() -> None:
    audio = {"role": "user", "content": [{"type": "input_audio"}]}
    notes: Counter[str] = Counter()
    entries = read(audio, {"role": "assistant", "content": "a"}, notes=notes)
    assert entries[0] == UserMessage((TextPart(UNREADABLE_PART),))
    assert notes == {"part_left_out": 1}
    with pytest.raises(InvalidRequest):
        read({"role": "assistant", "content": "a"}, audio)


@pytest.mark.parametrize("part", [{"type": "video_url", "video_url": {"url": "https://a.example"}}, {}])
def test_a_part_of_an_unknown_type_is_refused_only_when_it_is_new(part: dict[str, Any]) -> None:
    asked = {"role": "user", "content": [{"type": "text", "text": "What is this?"}, part]}
    notes: Counter[str] = Counter()
    entries = read(asked, {"role": "assistant", "content": [part]}, notes=notes)
    assert entries == [UserMessage((TextPart("What is this?"),)), AssistantText("")]
    assert notes == {"part_left_out": 2}
    with pytest.raises(InvalidRequest) as refused:
        read({"role": "assistant", "content": "a"}, asked)
    assert refused.value.param == "messages[1].content[1].type"


# -- answers that searched --------------------------------------------------------------------------

LINKED = "Blue [[1]](https://a.example)."
SKY = Source(1, "https://a.example", "Sky")
SAID: list[Entry] = [
    ToolCall("s", "web_search", "{}"),
    ToolResult("s", None, (TextPart("[1] Sky"),)),
    Thinking("Ah"),
    AssistantText("Blue [1]."),
]


def searched(message: dict[str, Any], kept: dict[str, str]) -> tuple[list[Entry], Session]:
    session = Session()
    return MessageReader(ToolTable(64), Counter(), kept.get, session).read([message]), session


def test_an_answer_that_searched_is_the_same_messages_again() -> None:
    kept = {searches.key_of([], LINKED): searches.pack(SAID, [SKY])}
    message = {"role": "assistant", "content": LINKED, "reasoning_content": "Hm\n\nAh"}
    entries, session = searched(message, kept)
    assert entries == SAID
    assert session.sources.get(1) == SKY


def test_so_it_is_where_it_ended_in_calls() -> None:
    kept = {searches.key_of(["c"], ""): searches.pack(SAID[:3], [SKY])}
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    entries, _ = searched({"role": "assistant", "content": None, "tool_calls": [call]}, kept)
    assert entries == [*SAID[:3], ToolCall("c", "f", "{}")]


@pytest.mark.parametrize("packed", [None, "of another version"])
def test_where_nothing_was_kept_the_answer_stands_alone(packed: str | None) -> None:
    kept = {searches.key_of([], LINKED): packed} if packed else {}
    entries, session = searched({"role": "assistant", "content": LINKED}, kept)
    assert entries == [AssistantText("Blue [1].")]
    assert session.sources.has("https://a.example")


def test_without_a_search_a_link_is_a_text_like_any_other() -> None:
    assert read({"role": "assistant", "content": LINKED}) == [AssistantText(LINKED)]
