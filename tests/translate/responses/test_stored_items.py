from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from openai.types.conversations import ConversationItem
from openai.types.responses import ResponseItem
from pydantic import TypeAdapter

from deepseek_proxy.errors import InvalidRequest
from deepseek_proxy.translate.responses.items import InputReader
from deepseek_proxy.translate.responses.stored_items import MAX_ID_CHARACTERS, shown, stored_items
from deepseek_proxy.translate.tools import ToolTable

SHELL = {"commands": ["ls"]}
ITEMS: list[dict[str, Any]] = [
    {"role": "user", "content": "hi"},
    {"role": "user", "content": ["a", {"type": "input_text", "text": "b"}]},
    {
        "type": "message",
        "role": "user",
        "content": [{"type": "input_image", "image_url": "data:image/png;base64,AA"}],
    },
    {"type": "message", "role": "developer", "content": "Be brief.", "status": None},
    {"role": "assistant", "content": "hello", "phase": None},
    {"role": "assistant", "content": [{"type": "output_text", "text": "hello"}]},
    {"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}], "phase": "final_answer"},
    {"type": "reasoning", "summary": [], "encrypted_content": "gAAA"},
    {"type": "function_call", "name": "f", "arguments": "{}", "call_id": "call_1", "namespace": None},
    {"type": "function_call_output", "call_id": "call_1", "output": "done"},
    {"type": "function_call_output", "call_id": "call_1", "output": [{"type": "input_text", "text": "done"}]},
    {"type": "custom_tool_call", "name": "c", "input": "text", "call_id": "call_2"},
    {"type": "custom_tool_call_output", "call_id": "call_2", "output": "done"},
    {"type": "local_shell_call", "action": {"type": "exec", "command": [], "env": {}}, "call_id": "call_3"},
    {"type": "local_shell_call_output", "id": "call_3", "output": "done"},
    {"type": "shell_call", "action": SHELL, "call_id": "call_4"},
    {"type": "shell_call_output", "call_id": "call_4", "output": []},
    {
        "type": "apply_patch_call",
        "call_id": "call_5",
        "operation": {"type": "delete_file", "path": "a.txt"},
    },
    {"type": "apply_patch_call_output", "call_id": "call_5", "status": "completed"},
    {"type": "tool_search_call", "arguments": {}, "call_id": "call_6"},
    {"type": "tool_search_output", "tools": [], "call_id": "call_6"},
    {"type": "web_search_call", "action": {"type": "search", "query": "x", "queries": ["x"]}},
    {"type": "compaction", "encrypted_content": "gAAA"},
    {"type": "additional_tools", "role": "developer", "tools": []},
]


def counting() -> Callable[[str], str]:
    counter = itertools.count(1)
    return lambda prefix: f"{prefix}_{next(counter)}"


def stored(value: object) -> list[dict[str, Any]]:
    """The items as they are shown."""
    return [json.loads(shown(id, orjson.dumps(item))) for id, item in stored_items(value, counting())]


def entries(items: object) -> list[Any]:
    return InputReader(ToolTable(64), lambda _purpose, _token: None, Counter()).read(items)


def test_a_string_is_a_message_of_the_user() -> None:
    assert stored("hi") == [
        {
            "id": "msg_1",
            "role": "user",
            "content": [{"type": "input_text", "text": "hi"}],
            "type": "message",
            "status": "completed",
        }
    ]


@pytest.mark.parametrize("item", ITEMS, ids=lambda item: item.get("type") or item["role"])
def test_what_clients_may_leave_out_is_there_for_strict_readers(item: dict[str, Any]) -> None:
    (whole,) = stored([item])
    TypeAdapter(ResponseItem).validate_python(whole)
    TypeAdapter(ConversationItem).validate_python(whole)
    assert None not in whole.values()


def test_an_item_that_is_sent_again_is_the_same_bytes_again() -> None:
    first, second = (stored_items(ITEMS, counting()) for _ in range(2))
    assert [orjson.dumps(item) for _, item in first] == [orjson.dumps(item) for _, item in second]
    again = stored_items([item for _, item in first], counting())
    assert [orjson.dumps(item) for _, item in again] == [orjson.dumps(item) for _, item in first]


def test_an_item_that_is_shown_and_sent_back_stays_as_it_is() -> None:
    once = stored(ITEMS)
    assert stored_items(once, pytest.fail) == [(item["id"], item) for item in once]


def test_a_stored_item_reads_as_it_did_when_it_came() -> None:
    assert entries(stored(ITEMS)) == entries(ITEMS)


def test_ids_are_kept_where_they_are_ids() -> None:
    longest = "x" * MAX_ID_CHARACTERS
    given = ["msg_own", longest, longest + "x", "", None, 7]
    items = [{"id": value, "role": "user", "content": "hi"} for value in given]
    assert [item["id"] for item in stored(items)] == ["msg_own", longest, "msg_1", "msg_2", "msg_3", "msg_4"]


def test_the_result_of_a_local_shell_call_is_found_by_the_id_of_the_call_item() -> None:
    call = {"type": "local_shell_call", "id": "lsh_1", "action": {"command": ["ls"]}, "call_id": "call_1"}
    output = {"type": "local_shell_call_output", "id": "lsh_1", "output": "done"}
    read = entries(stored([call, output]))
    assert [entry.call_id for entry in read] == ["call_1", "call_1"]


def test_a_wish_for_compaction_is_not_kept() -> None:
    assert stored([{"type": "compaction_trigger"}]) == []


def test_an_item_of_an_unknown_type_is_kept() -> None:
    assert stored([{"type": "novelty", "value": 1}]) == [
        {"id": "item_1", "type": "novelty", "value": 1, "status": "completed"}
    ]


def test_two_items_with_one_id_are_refused() -> None:
    item = {"id": "msg_x", "role": "user", "content": "hi"}
    with pytest.raises(InvalidRequest, match="Duplicate item found with id msg_x") as caught:
        stored_items([item, item], pytest.fail, "items")
    assert caught.value.param == "items"


@pytest.mark.parametrize(
    ("value", "param"),
    [(7, "input"), (None, "input"), ([{"role": "user"}, 7], "input[1]"), ([{"text": "hi"}], "input[0].type")],
)
def test_what_is_no_list_of_items_is_refused(value: object, param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        stored(value)
    assert caught.value.param == param
