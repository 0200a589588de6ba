"""What the gateway keeps for clients, by the official `openai` package for Node."""

from __future__ import annotations

import time
from typing import Any

import pytest
from e2e.backend import Backend, added_messages, results
from e2e.node import Node
from e2e.samples import CALLS, MODEL, WEATHER
from harness.gateway import Gateway

PATIENCE_SECONDS = 20


@pytest.fixture
def node(gateway: Gateway) -> Node:
    return Node(gateway)


def text(answer: dict[str, Any]) -> str:
    parts = [part for item in answer["output"] if item["type"] == "message" for part in item["content"]]
    return "".join(part["text"] for part in parts)


def test_a_response_is_found_again_until_it_is_deleted(node: Node, backend: Backend) -> None:
    backend.says({"text": "I will look.", "calls": CALLS})
    asked = {"model": MODEL, "input": "Weather?", "tools": [WEATHER], "stream": True}
    events = node.do("responses.create", asked)
    id = events[0]["response"]["id"]
    assert text(node.do("responses.retrieve", id)) == "I will look."
    assert node.do("responses.retrieve", id, {"stream": True, "starting_after": 3}) == events[4:]
    replayed = node.do("responses.stream", {"response_id": id, "starting_after": 3})
    assert [event["sequence_number"] for event in replayed] == list(range(4, len(events)))
    (item,) = node.do("responses.inputItems.list", id)
    assert item["content"] == [{"type": "input_text", "text": "Weather?"}]
    node.do("responses.delete", id)
    assert node.refusal("responses.retrieve", id)["name"] == "NotFoundError"


def test_a_turn_goes_on_from_the_one_before(node: Node, backend: Backend) -> None:
    backend.says({"reasoning": "Look.", "calls": CALLS[:1]}, {"text": "Sunny."})
    first = node.answer("stream", input="Weather?", tools=[WEATHER])
    result = {"type": "function_call_output", "call_id": first["output"][-1]["call_id"], "output": "sun"}
    second = node.answer("stream", input=[result], tools=[WEATHER], previous_response_id=first["id"])
    assert text(second) == "Sunny."
    one, two = backend.bodies()
    assert added_messages(two, one)[0]["reasoning_content"] == "Look."
    assert results(two) == ["sun"]


def test_background_response(node: Node, backend: Backend) -> None:
    backend.says({"text": "one two three", "token_seconds": 0.05})
    made = node.do("responses.create", {"model": MODEL, "input": "Count.", "background": True})
    deadline = time.monotonic() + PATIENCE_SECONDS
    while (found := node.do("responses.retrieve", made["id"]))["status"] in ("queued", "in_progress"):
        assert time.monotonic() < deadline, f"the response is still {found['status']}"
    assert text(found) == "one two three"
    assert node.do("responses.cancel", made["id"])["status"] == "completed"


def test_conversation_from_beginning_to_end(node: Node) -> None:
    hello = {"role": "user", "content": "hi"}
    made = node.do("conversations.create", {"metadata": {"topic": "birds"}, "items": [hello]})
    id = made["id"]
    assert node.do("conversations.retrieve", id) == made
    assert node.do("conversations.update", id, {"metadata": {}}) == {**made, "metadata": {}}
    added = node.do("conversations.items.create", id, {"items": [{"role": "assistant", "content": "hello"}]})
    listed = node.do("conversations.items.list", id, {"order": "asc", "limit": 1})
    assert [item["content"][0]["text"] for item in listed] == ["hi", "hello"]
    assert listed[1] == added["data"][0]
    where = {"conversation_id": id}
    assert node.do("conversations.items.retrieve", listed[0]["id"], where) == listed[0]
    node.do("conversations.items.delete", listed[0]["id"], where)
    assert node.do("conversations.items.list", id) == listed[1:]
    assert node.do("conversations.delete", id)["deleted"]
    assert node.refusal("conversations.items.list", id)["name"] == "NotFoundError"


def test_turns_of_a_conversation(node: Node, backend: Backend) -> None:
    id = node.do("conversations.create", {})["id"]
    node.answer("stream", input="Say one", conversation=id)
    node.answer("create", input="Say two", conversation={"id": id})
    one, two = backend.bodies()
    assert [message["role"] for message in added_messages(two, one)] == ["assistant", "user"]
    said = node.do("conversations.items.list", id, {"order": "asc"})
    assert [item["content"][0]["text"] for item in said if item["type"] == "message"] == [
        "Say one",
        "one",
        "Say two",
        "two",
    ]


def test_tokens_are_counted(node: Node) -> None:
    counted = node.do("responses.inputTokens.count", {"model": MODEL, "input": "hello"})
    assert counted["input_tokens"] > 0


def test_compaction(node: Node, backend: Backend) -> None:
    backend.says({"text": "The code word is heron."}, {"text": "It is heron."})
    compacted = node.do("responses.compact", {"model": MODEL, "input": "The code word is heron."})
    asked = [*compacted["output"], {"role": "user", "content": "What is the code word?"}]
    assert text(node.answer("create", input=asked)) == "It is heron."
    assert "The code word is heron." in str(backend.bodies()[-1])
