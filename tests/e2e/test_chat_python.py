"""Chat Completions with OpenAI's package for Python, through a real gateway with several workers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import pairwise
from typing import Any, Final

import openai
import pytest
from e2e.backend import Backend, added_messages, images, results, text_of
from e2e.conftest import Start
from e2e.samples import CALLS, MODEL, PNG_URL, WEATHER
from harness.gateway import CLIENT_KEY, Gateway
from openai import OpenAI
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from pydantic import BaseModel

TOOL: Final[Any] = {
    "type": "function",
    "function": {key: value for key, value in WEATHER.items() if key != "type"},
}
ASKED: Final[list[Any]] = [{"role": "user", "content": "How is the weather?"}]


class Stop(BaseModel):
    city: str
    nights: int


@pytest.fixture
def gateway(start: Start, backend: Backend) -> Gateway:
    return start("team", workers=3)


@pytest.fixture
def client(gateway: Gateway) -> Iterator[OpenAI]:
    with client_of(gateway) as made:
        yield made


def client_of(gateway: Gateway, **options: Any) -> OpenAI:
    return OpenAI(
        base_url=f"http://127.0.0.1:{gateway.port}/v1",
        api_key=CLIENT_KEY,
        _strict_response_validation=True,
        **{"max_retries": 0, "timeout": 30, **options},
    )


@pytest.fixture(params=["create", "streamed", "helper"])
def way(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def ask(client: OpenAI, way: str, **fields: Any) -> ChatCompletion:
    """One answer by `create`, by the stream helper's accumulator, or by the helper itself."""
    fields = {"model": MODEL, "messages": ASKED, **fields}
    if way == "create":
        answer: ChatCompletion = client.chat.completions.create(**fields)
        return answer
    with client.chat.completions.stream(**fields) as stream:
        for event in stream:
            if event.type == "chunk":
                assert isinstance(event.chunk, ChatCompletionChunk)
        return stream.get_final_completion()


def test_answer(client: OpenAI, backend: Backend, way: str) -> None:
    backend.says({"reasoning": "A greeting.", "text": "Grüße, 世界 👋"})
    asked = [("developer", "Be brief."), ("user", "Greet the world.")]
    answer = ask(client, way, messages=[{"role": role, "content": text} for role, text in asked])
    (choice,) = answer.choices
    assert choice.message.content == "Grüße, 世界 👋"
    assert choice.message.to_dict()["reasoning_content"] == "A greeting."
    assert choice.finish_reason == "stop"
    assert answer.model == MODEL
    (body,) = backend.bodies()
    assert [text_of(message) for message in body["messages"]] == ["Be brief.", "Greet the world."]


def test_usage_comes_only_where_it_is_asked_for(client: OpenAI) -> None:
    fields: dict[str, Any] = {"model": "deepseek-chat", "messages": ASKED, "stream": True}
    plain = list(client.chat.completions.create(**fields))
    assert all(chunk.usage is None and chunk.choices for chunk in plain)
    *said, last = client.chat.completions.create(**fields, stream_options={"include_usage": True})
    assert all(chunk.usage is None for chunk in said)
    assert last.choices == []
    assert last.usage is not None
    assert last.usage.total_tokens == last.usage.prompt_tokens + last.usage.completion_tokens > 0


def test_tools_round_trip(client: OpenAI, backend: Backend, way: str) -> None:
    """The message goes back as it came: the thinking with it, and the prefix stays the same."""
    backend.says({"reasoning": "Two cities.", "text": "Looking.", "calls": CALLS}, {"text": "Sunny in both."})
    first = ask(client, way, tools=[TOOL]).choices[0]
    assert first.finish_reason == "tool_calls"
    calls = first.message.tool_calls or []
    assert [json.loads(call.function.arguments) for call in calls] == [call["arguments"] for call in CALLS]
    outputs = [
        {"role": "tool", "tool_call_id": call.id, "content": f"sunny {i}"} for i, call in enumerate(calls)
    ]
    history = [*ASKED, first.message.to_dict(), *outputs]
    second = ask(client, way, messages=history, tools=[TOOL])
    assert second.choices[0].message.content == "Sunny in both."
    earlier, later = backend.bodies()
    answered, *_ = added_messages(later, earlier)
    assert (answered["content"], answered["reasoning_content"]) == ("Looking.", "Two cities.")
    assert results(later) == ["sunny 0", "sunny 1"]


def test_an_answer_bound_to_a_schema(client: OpenAI, backend: Backend) -> None:
    backend.says({"text": '{"city": "Köln", "nights": 2}'})
    parsed = client.chat.completions.parse(model=MODEL, messages=ASKED, response_format=Stop)
    assert parsed.choices[0].message.parsed == Stop(city="Köln", nights=2)
    assert backend.bodies()[0]["response_format"] == {"type": "json_object"}


def test_a_fenced_answer_is_parsed_while_it_streams(client: OpenAI, backend: Backend) -> None:
    backend.says({"text": '```json\n{"city": "Köln", "nights": 2}\n```'})
    with client.chat.completions.stream(model=MODEL, messages=ASKED, response_format=Stop) as stream:
        parsed = stream.get_final_completion().choices[0].message.parsed
    assert parsed == Stop(city="Köln", nights=2)


@pytest.mark.parametrize("searches", [False, True], ids=["tools", "tools and search"])
@pytest.mark.parametrize("keeps_thinking", [True, False], ids=["kept", "dropped"])
def test_every_request_of_a_long_conversation_begins_with_the_one_before(
    start: Start, backend: Backend, keeps_thinking: bool, searches: bool
) -> None:
    """Twenty turns, whether or not the client sends the thinking back.

    What the gateway has to remember, another worker may not know yet when a client goes on within
    milliseconds.
    """
    settings: dict[str, object] = {"web_search": "deepseek"} if searches else {}
    remembers = searches or not keeps_thinking
    gateway = start(f"remembers {searches}", **settings) if remembers else start("team", workers=3)
    model = "deepseek-r1-search" if searches else MODEL
    query = {"name": "web_search", "arguments": {"query": "blue sky"}}
    for turn in range(20):
        looks = [{"reasoning": f"Search {turn}.", "calls": [query]}] if searches else []
        called = {"reasoning": f"Look {turn}.", "text": f"Looking {turn}.", "calls": CALLS}
        backend.says(called, *looks, {"reasoning": f"Seen {turn}.", "text": f"Sunny {turn} [1]."})
    history: list[Any] = []
    with client_of(gateway) as client:
        for turn in range(20):
            history.append({"role": "user", "content": f"Question {turn}"})
            while True:
                way = "streamed" if turn % 2 else "create"
                message = ask(client, way, model=model, messages=history, tools=[TOOL]).choices[0].message
                said = message.to_dict()
                if not keeps_thinking:
                    del said["reasoning_content"]
                history.append(said)
                if not message.tool_calls:
                    break
                history += [
                    {"role": "tool", "tool_call_id": call.id, "content": "sunny"}
                    for call in message.tool_calls
                ]
    bodies = backend.bodies()
    assert len(bodies) == 20 * (3 if searches else 2)
    for earlier, later in pairwise(bodies):
        added_messages(later, earlier)


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
def test_the_middle_of_a_text(client: OpenAI, stream: bool) -> None:
    asked: dict[str, Any] = {
        "model": "deepseek-v3",
        "prompt": "say one two",
        "suffix": "four",
        "max_tokens": 99,
    }
    if not stream:
        whole = client.completions.create(**asked)
        assert (whole.choices[0].text, whole.choices[0].finish_reason) == ("one two", "stop")
        assert whole.usage
        return
    # The SDK's type of a chunk has no finish reason that is null, which OpenAI's own chunks have.
    with OpenAI(base_url=client.base_url, api_key=client.api_key, max_retries=0) as lenient:
        chunks = [*lenient.completions.create(**asked, stream=True, stream_options={"include_usage": True})]
    assert "".join(choice.text for chunk in chunks for choice in chunk.choices) == "one two"
    assert chunks[-1].usage
    assert (chunks[-1].choices, chunks[-2].choices[0].finish_reason) == ([], "stop")


def test_deepseeks_words_about_a_wrong_completion(client: OpenAI, backend: Backend) -> None:
    backend.refusals_expected = True
    with pytest.raises(openai.BadRequestError, match=r"range of max_tokens is \[1, 4096\]"):
        client.completions.create(model=MODEL, prompt="say one", max_tokens=5000)


def test_a_message_that_is_begun(client: OpenAI, backend: Backend) -> None:
    begun: Any = [*ASKED, {"role": "assistant", "content": "It is", "prefix": True}]
    assert client.chat.completions.create(model=MODEL, messages=begun).choices[0].message.content
    assert backend.records()[-1]["path"] == "/beta/chat/completions"


def test_elder_functions(client: OpenAI, backend: Backend) -> None:
    backend.says({"calls": CALLS[:1]}, {"text": "Sunny."})
    fields: dict[str, Any] = {"model": MODEL, "functions": [TOOL["function"]]}
    first = client.chat.completions.create(messages=ASKED, **fields).choices[0]
    assert first.finish_reason == "function_call"
    assert first.message.function_call is not None
    history = [
        *ASKED,
        first.message.to_dict(),
        {"role": "function", "name": first.message.function_call.name, "content": "sunny"},
    ]
    assert client.chat.completions.create(messages=history, **fields).choices[0].message.content == "Sunny."
    assert results(backend.bodies()[-1]) == ["sunny"]


def test_a_forced_tool_and_a_picture(client: OpenAI, backend: Backend) -> None:
    picture = {"type": "image_url", "image_url": {"url": PNG_URL}}
    messages = [{"role": "user", "content": [{"type": "text", "text": "Where is this?"}, picture]}]
    choice = {"type": "function", "function": {"name": "get_weather"}}
    answer = ask(client, "create", messages=messages, tools=[TOOL], tool_choice=choice)
    assert answer.choices[0].message.tool_calls
    (body,) = backend.bodies()
    assert body["thinking"] == {"type": "disabled"}
    assert images(body) == [PNG_URL]


def test_log_probabilities(client: OpenAI) -> None:
    messages = [{"role": "user", "content": "Say hello"}]
    for way in ("create", "streamed"):
        answer = ask(
            client, way, messages=messages, logprobs=True, top_logprobs=2, model="deepseek-chat"
        ).choices[0]
        assert answer.logprobs is not None
        assert "".join(entry.token for entry in answer.logprobs.content or ()) == "hello"


def test_the_limit_and_the_list(client: OpenAI) -> None:
    messages = [{"role": "user", "content": "Say one two three four"}]
    answer = ask(client, "create", messages=messages, max_completion_tokens=8)
    assert answer.choices[0].finish_reason == "length"
    assert {"deepseek-flash", "deepseek-chat", "deepseek-r1-search"} <= {m.id for m in client.models.list()}


@pytest.mark.parametrize(
    ("fields", "param"), [({"n": 2}, "n"), ({"messages": []}, "messages"), ({"model": "x-search"}, "model")]
)
def test_a_refusal_is_a_bad_request(client: OpenAI, fields: dict[str, Any], param: str) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        ask(client, "create", **fields)
    assert refused.value.param == param


@pytest.mark.parametrize(
    ("fault", "error", "code"),
    [
        ("401", openai.AuthenticationError, "invalid_api_key"),
        ("402", openai.RateLimitError, "insufficient_quota"),
        ("429", openai.RateLimitError, "rate_limit_exceeded"),
        ("503", openai.InternalServerError, "server_error"),
    ],
)
def test_deepseeks_failures(start: Start, backend: Backend, fault: str, error: Any, code: str) -> None:
    backend.breaks(fault)
    quick = start("quick", retry_max_seconds=0.1)
    with client_of(quick) as client, pytest.raises(error) as failed:
        client.chat.completions.create(model=MODEL, messages=ASKED, stream=True)
    assert failed.value.code == code


def test_a_stream_that_breaks(client: OpenAI, backend: Backend) -> None:
    backend.says({"text": "one two three four five six seven eight", "fault": "reset after=6"})
    stream = client.chat.completions.create(model=MODEL, messages=ASKED, stream=True)
    with pytest.raises(openai.APIError) as broken:
        list(stream)
    assert broken.value.code == "server_error"


def test_a_search(start: Start, backend: Backend) -> None:
    searching = start("search", web_search="deepseek")
    query = {"name": "web_search", "arguments": {"query": "blue sky"}}
    says = [{"reasoning": "Hm.", "calls": [query]}, {"text": "Light is scattered [1]."}]
    backend.says(*says, {"text": "As I said."})
    with client_of(searching) as client:
        first = ask(client, "streamed", model="deepseek-r1-search").choices[0].message
        assert first.content is not None
        assert first.content.startswith("Light is scattered [[1]](http")
        (cited,) = first.to_dict()["annotations"]
        place = cited["url_citation"]
        assert first.content[place["start_index"] : place["end_index"]].endswith(f"({place['url']})")
        history = [*ASKED, {"role": "assistant", "content": first.content}, *ASKED]
        ask(client, "create", model="deepseek-r1-search", messages=history)
    _, searched, later = backend.bodies()
    answered, _ = added_messages(later, searched)
    assert answered["content"] == "Light is scattered [1]."
