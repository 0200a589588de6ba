"""What the gateway keeps for clients, by the official `openai` package for Python with strict validation."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from e2e.backend import Backend, added_messages, results, text_of
from e2e.samples import CALLS, MODEL, PNG, PNG_URL, WEATHER
from harness.gateway import CLIENT_KEY, Gateway
from openai import OpenAI
from openai.types.responses import Response, ResponseFunctionToolCall

OTHER_KEY = "sk-client-other-77ab"
PATIENCE_SECONDS = 10


def client_of(gateway: Gateway, key: str = CLIENT_KEY, *, strict: bool = True) -> OpenAI:
    return OpenAI(
        base_url=f"http://127.0.0.1:{gateway.port}/v1",
        api_key=key,
        max_retries=0,
        timeout=30,
        _strict_response_validation=strict,
    )


@pytest.fixture
def client(gateway: Gateway) -> Iterator[OpenAI]:
    with client_of(gateway) as made:
        yield made


@pytest.fixture
def stranger(gateway: Gateway) -> Iterator[OpenAI]:
    with client_of(gateway, OTHER_KEY) as made:
        yield made


@pytest.fixture(params=[False, True], ids=["whole", "streamed"])
def streamed(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def ask(client: OpenAI, streamed: bool, **fields: Any) -> Response:
    """One answer; of a stream, the one that the SDK's helper puts together."""
    if not streamed:
        answer: Response = client.responses.create(model=MODEL, **fields)
        return answer
    with client.responses.stream(model=MODEL, **fields) as stream:
        return stream.get_final_response()


def ended(client: OpenAI, id: str) -> Response:
    """A response in the background, once it has ended."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while (response := client.responses.retrieve(id)).status in ("queued", "in_progress"):
        assert time.monotonic() < deadline, f"the response is still {response.status}"
        time.sleep(0.05)
    return response


# -- responses -------------------------------------------------------------------------------------


def test_a_response_is_found_again_until_it_is_deleted(client: OpenAI, streamed: bool) -> None:
    if streamed:
        with client.responses.create(model=MODEL, input="Say hello", stream=True) as stream:
            made = list(stream)[-1].response
    else:
        made = client.responses.create(model=MODEL, input="Say hello")
    assert made.output_text == "hello"
    assert client.responses.retrieve(made.id) == made
    client.responses.delete(made.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(made.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.delete(made.id)


def test_a_response_that_is_not_to_be_stored_is_not(client: OpenAI, streamed: bool) -> None:
    made = ask(client, streamed, input="Say hello", store=False)
    assert made.store is False
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(made.id)


def test_a_stream_is_replayed_event_by_event(client: OpenAI, backend: Backend) -> None:
    backend.says({"reasoning": "Two.", "text": "I will look.", "calls": CALLS})
    with client.responses.create(model=MODEL, input="Weather?", tools=[WEATHER], stream=True) as stream:
        events = list(stream)
    id = events[0].response.id
    with client.responses.retrieve(id, stream=True) as stream:
        assert list(stream) == events
    with client.responses.retrieve(id, stream=True, starting_after=4) as stream:
        assert list(stream) == events[5:]
    with client.responses.stream(response_id=id, starting_after=4) as stream:
        assert stream.get_final_response().output_text == "I will look."


def test_input_items_are_listed(client: OpenAI, streamed: bool) -> None:
    content = [{"type": "input_text", "text": "three"}, {"type": "input_image", "image_url": PNG_URL}]
    asked: list[Any] = [
        {"role": "developer", "content": "one"},
        {"role": "user", "content": "two"},
        {"role": "assistant", "content": "aha"},
        {"role": "user", "content": content},
    ]
    made = ask(client, streamed, input=asked)
    items = list(client.responses.input_items.list(made.id, order="asc", limit=3))
    assert [item.content[0].text for item in items] == ["one", "two", "aha", "three"]
    assert items[-1].content[1].image_url == PNG_URL
    newest = client.responses.input_items.list(made.id, limit=1)
    assert (newest.data[0].id, newest.has_more) == (items[-1].id, True)


def test_a_turn_goes_on_from_the_one_before(client: OpenAI, backend: Backend, streamed: bool) -> None:
    thoughts = "Two cities – „Köln“ and 北京.\n\n"
    backend.says(
        {"reasoning": thoughts, "text": "Looking.", "calls": CALLS},
        {"text": "Sunny in both."},
        {"text": "Rain, later."},
    )
    instructions = "Be brief."
    first = ask(client, streamed, input="Weather?", tools=[WEATHER], instructions=instructions)
    outputs = [
        {"type": "function_call_output", "call_id": call.call_id, "output": f"sunny {i}"}
        for i, call in enumerate(item for item in first.output if isinstance(item, ResponseFunctionToolCall))
    ]
    go_on: dict[str, Any] = {"tools": [WEATHER], "instructions": instructions}
    second = ask(client, streamed, input=outputs, previous_response_id=first.id, **go_on)
    third = ask(client, streamed, input="And later?", previous_response_id=second.id, **go_on)
    assert third.output_text == "Rain, later."
    assert third.previous_response_id == second.id
    one, two, three = backend.bodies()
    assert added_messages(two, one)[0]["reasoning_content"] == thoughts
    assert results(two) == ["sunny 0", "sunny 1"]
    assert [message["role"] for message in added_messages(three, two)] == ["assistant", "user"]


def test_instructions_are_not_inherited(client: OpenAI, backend: Backend) -> None:
    first = ask(client, False, input="Say one", instructions="Be brief.")
    ask(client, False, input="Say two", previous_response_id=first.id)
    assert "Be brief." not in map(text_of, backend.bodies()[-1]["messages"])


def test_one_item_is_named_in_place_of_being_sent(client: OpenAI, backend: Backend) -> None:
    first = ask(client, False, input="Say one")
    message = first.output[-1]
    reference: Any = {"type": "item_reference", "id": message.id}
    ask(client, False, input=[reference, {"role": "user", "content": "Say two"}])
    assert [text_of(said) for said in backend.bodies()[-1]["messages"]] == ["one", "Say two"]


def test_what_another_key_keeps_does_not_exist(client: OpenAI, stranger: OpenAI, backend: Backend) -> None:
    made = ask(client, False, input="Say hello")
    for call in (stranger.responses.retrieve, stranger.responses.delete, stranger.responses.input_items.list):
        with pytest.raises(openai.NotFoundError):
            call(made.id)
    with pytest.raises(openai.BadRequestError) as caught:
        ask(stranger, False, input="Go on", previous_response_id=made.id)
    assert caught.value.code == "previous_response_not_found"
    assert client.responses.retrieve(made.id).id == made.id


# -- in the background -----------------------------------------------------------------------------


def test_background_response_is_polled(client: OpenAI, backend: Backend) -> None:
    backend.says({"text": "one two three", "token_seconds": 0.05})
    begun = client.responses.create(model=MODEL, input="Count.", background=True)
    assert begun.status in ("queued", "in_progress")
    assert begun.background
    assert ended(client, begun.id).output_text == "one two three"


def test_background_stream_is_taken_up_again(client: OpenAI, backend: Backend) -> None:
    backend.says({"text": "one two three four five six", "token_seconds": 0.05})
    seen = []
    with client.responses.create(model=MODEL, input="Count.", background=True, stream=True) as stream:
        for event in stream:
            seen.append(event)
            if event.type == "response.output_text.delta":
                break
    id = seen[0].response.id
    with client.responses.retrieve(id, stream=True, starting_after=seen[-1].sequence_number) as stream:
        seen += list(stream)
    assert [event.sequence_number for event in seen] == list(range(len(seen)))
    assert seen[-1].response.output_text == "one two three four five six"


def test_background_response_is_cancelled(client: OpenAI, backend: Backend) -> None:
    backend.says({"text": "one two three four five six seven eight", "token_seconds": 0.5})
    begun = client.responses.create(model=MODEL, input="Count.", background=True)
    client.responses.cancel(begun.id)
    assert ended(client, begun.id).status == "cancelled"
    assert client.responses.cancel(begun.id).status == "cancelled"
    assert all(record["outcome"] == "client gone" for record in backend.records())


def test_response_in_the_foreground_cannot_be_cancelled(client: OpenAI) -> None:
    made = ask(client, False, input="Say hello")
    with pytest.raises(openai.BadRequestError):
        client.responses.cancel(made.id)


# -- conversations ---------------------------------------------------------------------------------


def test_conversation_from_beginning_to_end(client: OpenAI, stranger: OpenAI) -> None:
    made = client.conversations.create(metadata={"topic": "birds"}, items=[{"role": "user", "content": "hi"}])
    assert client.conversations.retrieve(made.id) == made
    changed = client.conversations.update(made.id, metadata={"topic": "trees"})
    assert changed.metadata == {"topic": "trees"}
    said: list[Any] = [{"role": "assistant", "content": "hello"}, {"role": "user", "content": "bye"}]
    added = client.conversations.items.create(made.id, items=said)
    assert [item.content[0].text for item in added.data] == ["hello", "bye"]
    listed = list(client.conversations.items.list(made.id, order="asc", limit=2))
    assert [item.content[0].text for item in listed] == ["hi", "hello", "bye"]
    assert client.conversations.items.retrieve(listed[0].id, conversation_id=made.id) == listed[0]
    assert client.conversations.items.delete(listed[0].id, conversation_id=made.id) == changed
    assert len(list(client.conversations.items.list(made.id))) == 2
    with pytest.raises(openai.NotFoundError):
        stranger.conversations.retrieve(made.id)
    assert client.conversations.delete(made.id).deleted
    with pytest.raises(openai.NotFoundError):
        client.conversations.retrieve(made.id)


def test_turns_of_a_conversation(client: OpenAI, backend: Backend, streamed: bool) -> None:
    conversation = client.conversations.create().id
    backend.says({"reasoning": "Look.", "calls": CALLS[:1]}, {"text": "Sunny."}, {"text": "Rain, later."})
    first = ask(client, streamed, input="Weather?", tools=[WEATHER], conversation=conversation)
    assert first.conversation is not None
    assert first.conversation.id == conversation
    result: Any = {"type": "function_call_output", "call_id": first.output[-1].call_id, "output": "sunny"}
    ask(client, streamed, input=[result], tools=[WEATHER], conversation={"id": conversation})
    ask(client, streamed, input="And later?", tools=[WEATHER], conversation=conversation)
    one, two, three = backend.bodies()
    assert added_messages(two, one)[0]["reasoning_content"] == "Look."
    assert results(two) == ["sunny"]
    assert [message["role"] for message in added_messages(three, two)] == ["assistant", "user"]
    kinds = [item.type for item in client.conversations.items.list(conversation, order="asc")]
    assert [kind for kind in kinds if kind != "reasoning"] == [
        "message",
        "function_call",
        "function_call_output",
        "message",
        "message",
        "message",
    ]


def test_picture_in_a_conversation(client: OpenAI, backend: Backend) -> None:
    content: list[Any] = [{"type": "input_image", "image_url": PNG_URL, "detail": "auto"}]
    conversation = client.conversations.create(items=[{"role": "user", "content": content}]).id
    ask(client, False, input="What is this?", conversation=conversation)
    ask(client, False, input="Sure?", conversation=conversation)
    first, second = backend.bodies()
    assert PNG in str(first)
    assert added_messages(second, first)


def test_conversation_that_is_not_there(client: OpenAI, stranger: OpenAI, backend: Backend) -> None:
    conversation = client.conversations.create().id
    for who, id in [(stranger, conversation), (client, "conv_unknown")]:
        with pytest.raises(openai.NotFoundError) as caught:
            ask(who, False, input="Say hello", conversation=id)
        assert caught.value.param == "conversation"
    first = ask(client, False, input="Say hello")
    with pytest.raises(openai.BadRequestError):
        ask(client, False, input="x", conversation=conversation, previous_response_id=first.id)
    assert len(backend.bodies()) == 1


# -- counting and compacting -----------------------------------------------------------------------


def test_tokens_are_counted_without_an_answer(client: OpenAI, backend: Backend) -> None:
    few = client.responses.input_tokens.count(model=MODEL, input="hello").input_tokens
    many = client.responses.input_tokens.count(
        model=MODEL, input="hello " * 100, tools=[WEATHER]
    ).input_tokens
    assert 0 < few < many - 100
    assert backend.records() == []


def test_tokens_of_what_is_kept_are_counted(client: OpenAI) -> None:
    first = ask(client, False, input="Say " + "hello " * 100)
    alone = client.responses.input_tokens.count(model=MODEL, input="Go on").input_tokens
    behind = client.responses.input_tokens.count(model=MODEL, input="Go on", previous_response_id=first.id)
    assert behind.input_tokens > alone + 100


def test_compaction_of_what_was_sent_and_of_what_is_kept(gateway: Gateway, backend: Backend) -> None:
    backend.says({"text": "noted"}, {"text": "The word is heron."}, {"text": "The word is heron."})
    with client_of(gateway, strict=False) as client:  # the SDK's type has no place for the users' messages
        first = ask(client, False, input="The code word is heron.")
        sent = client.responses.compact(model=MODEL, input="The code word is heron.")
        kept = client.responses.compact(model=MODEL, previous_response_id=first.id)
        for compacted in (sent, kept):
            assert [item.type for item in compacted.output][-1] == "compaction"
            items: Any = [item.to_dict(warnings=False) for item in compacted.output]
            asked = [*items, {"role": "user", "content": "What is the code word?"}]
            assert "heron" in ask(client, False, input=asked).output_text
