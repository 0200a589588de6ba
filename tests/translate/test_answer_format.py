from __future__ import annotations

from typing import Any

import pytest

from deepseek_proxy.errors import InvalidRequest
from deepseek_proxy.translate import answer_format, schema
from deepseek_proxy.translate.history import AssistantText, Entry, SystemText, TextPart, UserMessage

SCHEMA = {"name": "reply", "schema": {"type": "object", "properties": {}}}


def user(text: str) -> UserMessage:
    return UserMessage((TextPart(text),))


def test_text_asks_for_nothing() -> None:
    assert answer_format.read(None, {}, "format", None, []).hints == []
    assert not answer_format.read("text", {}, "format", "medium", []).is_json


@pytest.mark.parametrize("verbosity", ["low", "high"])
def test_verbosity_is_a_sentence(verbosity: str) -> None:
    assert len(answer_format.read(None, {}, "format", verbosity, []).hints) == 1


def test_a_schema_is_told_and_checked() -> None:
    read = answer_format.read("json_schema", SCHEMA, "format", None, [])
    assert read.is_json
    assert read.structured is not None
    assert read.hints == [read.structured.instruction]


def test_a_wrong_schema_is_refused_with_its_path() -> None:
    with pytest.raises(InvalidRequest) as refused:
        answer_format.read("json_schema", {"name": "x", "schema": {"type": "array"}}, "format.it", None, [])
    assert refused.value.param == "format.it.schema"


@pytest.mark.parametrize(
    ("entries", "hinted"),
    [
        ([], True),
        ([user("Hi")], True),
        ([user("Give me JSON")], False),
        ([SystemText("Json!"), user("Hi")], False),
        # Later texts come and go: the hint must not.
        ([user("Hi"), AssistantText("Hello"), user("json")], True),
    ],
)
def test_the_word_json_is_said_where_the_opening_lacks_it(entries: list[Any], hinted: bool) -> None:
    hints = answer_format.read("json_object", {}, "format", None, entries).hints
    assert hints == ([schema.JSON_INSTRUCTION] if hinted else [])


def test_hints_go_behind_the_leading_system_texts() -> None:
    entries: list[Entry] = [SystemText("a"), user("b"), SystemText("c")]
    answer_format.tell(entries, ["hint"])
    assert entries == [SystemText("a"), SystemText("hint"), user("b"), SystemText("c")]
