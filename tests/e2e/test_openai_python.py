"""The official `openai` package for Python through a real gateway, with its strict validation of answers."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from typing import Any

import openai
import pytest
from e2e.backend import Backend, added_messages, results, text_of
from e2e.conftest import Start
from e2e.samples import CALLS, MODEL, PNG, PNG_URL, WEATHER
from harness.gateway import CLIENT_KEY, Gateway
from openai import OpenAI
from openai.types.responses import Response, ResponseFunctionToolCall, ResponseReasoningItem
from pydantic import BaseModel


class Trip(BaseModel):
    """An answer bound to a schema, with what schemas are made of."""

    class Stop(BaseModel):
        city: str
        nights: int

    stops: list[Stop]
    currency: str | None


def client_of(gateway: Gateway, **options: Any) -> OpenAI:
    return OpenAI(
        base_url=f"http://127.0.0.1:{gateway.port}/v1",
        api_key=CLIENT_KEY,
        _strict_response_validation=True,
        **{"max_retries": 0, "timeout": 30, **options},
    )


@pytest.fixture
def client(gateway: Gateway) -> Iterator[OpenAI]:
    with client_of(gateway) as made:
        yield made


@pytest.fixture(params=[False, True], ids=["whole", "streamed"])
def streamed(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def ask(client: OpenAI, streamed: bool, **fields: Any) -> Response:
    """One answer by `create`; of a stream, the Response of its terminal event."""
    fields = {"model": MODEL, **fields}
    if not streamed:
        answer: Response = client.responses.create(**fields)
        return answer
    with client.responses.create(stream=True, **fields) as stream:
        events = list(stream)
    assert [event.sequence_number for event in events] == list(range(len(events)))
    final: Response = events[-1].response
    shown = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert shown == final.output_text
    return final


def replayed(answer: Response) -> list[dict[str, Any]]:
    """The answer's items as input of the next request, exactly as they came."""
    return [item.to_dict() for item in answer.output]


# -- answers ---------------------------------------------------------------------------------------


def test_answer(client: OpenAI, backend: Backend, streamed: bool) -> None:
    backend.says({"reasoning": "A greeting.", "text": "Grüße, 世界 👋"})
    answer = ask(client, streamed, input="Greet the world.", instructions="Be brief.")
    assert answer.output_text == "Grüße, 世界 👋"
    assert answer.status == "completed"
    assert answer.model == MODEL
    thought, message = answer.output
    assert isinstance(thought, ResponseReasoningItem)
    assert [part.text for part in thought.summary] == ["A greeting."]
    assert message.type == "message"
    assert answer.usage is not None
    assert answer.usage.output_tokens > answer.usage.output_tokens_details.reasoning_tokens > 0
    (body,) = backend.bodies()
    assert [text_of(message) for message in body["messages"]] == ["Be brief.", "Greet the world."]


def test_answer_without_thinking(client: OpenAI, streamed: bool) -> None:
    answer = ask(client, streamed, input="Say hello", reasoning={"effort": "none"})
    assert [item.type for item in answer.output] == ["message"]
    assert answer.output_text == "hello"


def test_answer_cut_by_the_limit(client: OpenAI, streamed: bool) -> None:
    answer = ask(client, streamed, input="Say one two three four", max_output_tokens=8)
    assert answer.status == "incomplete"
    assert answer.incomplete_details is not None
    assert answer.incomplete_details.reason == "max_output_tokens"


def test_log_probabilities(client: OpenAI, streamed: bool) -> None:
    answer = ask(client, streamed, input="Say hello", top_logprobs=2, reasoning={"effort": "none"})
    (part,) = answer.output[0].content
    assert "".join(entry.token for entry in part.logprobs) == "hello"
    assert len(part.logprobs[0].top_logprobs) == 2


def test_stream_helper(client: OpenAI, backend: Backend) -> None:
    backend.says({"reasoning": "Two of them.", "text": "I will look.", "calls": CALLS})
    with client.responses.stream(model=MODEL, input="Weather?", tools=[WEATHER]) as stream:
        events = list(stream)
        final = stream.get_final_response()
    assert "".join(e.delta for e in events if e.type == "response.output_text.delta") == "I will look."
    assert final.output_text == "I will look."
    calls = [item for item in final.output if item.type == "function_call"]
    assert [call.parsed_arguments for call in calls] == [call["arguments"] for call in CALLS]


def test_thirty_streams_at_once(gateway: Gateway, backend: Backend) -> None:
    words = [f"word-{i} " * 20 for i in range(30)]
    backend.says(*({"match": word, "text": word, "token_seconds": 0.005} for word in words))

    async def read(client: openai.AsyncOpenAI, word: str) -> str:
        async with client.responses.stream(model=MODEL, input=word) as stream:
            return (await stream.get_final_response()).output_text

    async def read_all() -> list[str]:
        url = f"http://127.0.0.1:{gateway.port}/v1"
        async with openai.AsyncOpenAI(
            base_url=url, api_key=CLIENT_KEY, max_retries=0, _strict_response_validation=True
        ) as client:
            return await asyncio.gather(*(read(client, word) for word in words))

    assert asyncio.run(read_all()) == words


# -- answers bound to a schema ---------------------------------------------------------------------


def test_parse(client: OpenAI, backend: Backend) -> None:
    answer = client.responses.parse(model=MODEL, input="Plan a trip.", text_format=Trip)
    assert isinstance(answer.output_parsed, Trip)
    (body,) = backend.bodies()
    assert body["response_format"] == {"type": "json_object"}


def test_parse_repairs_an_answer_that_does_not_fit(client: OpenAI, backend: Backend) -> None:
    good = {"stops": [{"city": "Bonn", "nights": 2}], "currency": "EUR"}
    backend.says({"text": '{"stops": "none"}'}, {"text": Trip(**good).model_dump_json()})
    answer = client.responses.parse(model=MODEL, input="Plan a trip.", text_format=Trip)
    assert answer.output_parsed == Trip(**good)
    assert len(backend.bodies()) == 2


def test_parse_a_stream(client: OpenAI) -> None:
    with client.responses.stream(model=MODEL, input="Plan a trip.", text_format=Trip) as stream:
        final = stream.get_final_response()
    assert isinstance(final.output_parsed, Trip)


def test_parse_beside_tools(client: OpenAI, backend: Backend) -> None:
    """The model calls a tool first, and answers in the schema after the result."""
    asked: list[Any] = [{"role": "user", "content": "Plan a trip where the weather is good."}]
    backend.says({"calls": CALLS[:1]})
    first = client.responses.parse(model=MODEL, input=asked, text_format=Trip, tools=[WEATHER])
    (call,) = [item for item in first.output if item.type == "function_call"]
    assert call.parsed_arguments == {"city": "Köln"}
    result = {"type": "function_call_output", "call_id": call.call_id, "output": "sunny"}
    second = client.responses.parse(
        model=MODEL, input=[*asked, *replayed(first), result], text_format=Trip, tools=[WEATHER]
    )
    assert isinstance(second.output_parsed, Trip)
    earlier, later = backend.bodies()
    assert added_messages(later, earlier)


# -- tools -----------------------------------------------------------------------------------------


def test_tools_round_trip(client: OpenAI, backend: Backend, streamed: bool) -> None:
    """Items go back as they came: the thinking is restored byte for byte, and the prefix stays the same."""
    thoughts = "Two cities – „Köln“ and 北京.\n\n"
    backend.says({"reasoning": thoughts, "text": "Looking.", "calls": CALLS}, {"text": "Sunny in both."})
    asked: list[Any] = [{"role": "user", "content": "How is the weather?"}]
    first = ask(client, streamed, input=asked, tools=[WEATHER])
    calls = [item for item in first.output if isinstance(item, ResponseFunctionToolCall)]
    assert [item.type for item in first.output] == ["reasoning", "message", "function_call", "function_call"]
    outputs = [
        {"type": "function_call_output", "call_id": call.call_id, "output": f"sunny {i}"}
        for i, call in enumerate(calls)
    ]
    second = ask(client, streamed, input=[*asked, *replayed(first), *outputs], tools=[WEATHER])
    assert second.output_text == "Sunny in both."
    earlier, later = backend.bodies()
    answered, *_ = added_messages(later, earlier)
    assert answered["reasoning_content"] == thoughts
    assert answered["content"] == "Looking."
    assert [call["id"] for call in answered["tool_calls"]] == [call.call_id for call in calls]
    assert results(later) == ["sunny 0", "sunny 1"]


def test_forced_tool(client: OpenAI, backend: Backend, streamed: bool) -> None:
    choice = {"type": "function", "name": "get_weather"}
    answer = ask(client, streamed, input="Hello", tools=[WEATHER], tool_choice=choice)
    assert [item.type for item in answer.output] == ["function_call"]
    (body,) = backend.bodies()
    assert body["thinking"] == {"type": "disabled"}


def test_one_call_where_parallel_calls_are_off(client: OpenAI, backend: Backend, streamed: bool) -> None:
    backend.says({"calls": CALLS})
    answer = ask(client, streamed, input="Weather?", tools=[WEATHER], parallel_tool_calls=False)
    assert [item.type for item in answer.output].count("function_call") == 1


def test_custom_tool(client: OpenAI, backend: Backend, streamed: bool) -> None:
    program = 'print("tab\\t")\n# ünïcode\n'
    backend.says({"calls": [{"name": "run", "arguments": {"input": program}}]})
    tool = {"type": "custom", "name": "run", "description": "Runs Python."}
    asked: list[Any] = [{"role": "user", "content": "Run something."}]
    first = ask(client, streamed, input=asked, tools=[tool])
    call = first.output[-1]
    assert call.type == "custom_tool_call"
    assert call.input == program
    result = {"type": "custom_tool_call_output", "call_id": call.call_id, "output": "done"}
    ask(client, streamed, input=[*asked, *replayed(first), result], tools=[tool])
    earlier, later = backend.bodies()
    assert added_messages(later, earlier)
    assert results(later) == ["done"]


# -- images ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("model", "sees"), [("deepseek-flash", True), ("deepseek-v4-pro", False)])
def test_image(client: OpenAI, backend: Backend, model: str, sees: bool, streamed: bool) -> None:
    content = [
        {"type": "input_text", "text": "What is this?"},
        {"type": "input_image", "image_url": PNG_URL, "detail": "auto"},
    ]
    answer = ask(client, streamed, model=model, input=[{"role": "user", "content": content}])
    assert ("I see 1 image." in answer.output_text) == sees
    (body,) = backend.bodies()
    assert PNG not in "".join(map(text_of, body["messages"]))
    assert (PNG in str(body)) == sees


def test_picture_that_is_a_tool_result(client: OpenAI, backend: Backend, streamed: bool) -> None:
    backend.says({"calls": CALLS[:1]})
    asked: list[Any] = [{"role": "user", "content": "Weather map?"}]
    first = ask(client, streamed, input=asked, tools=[WEATHER])
    shown = [
        {"type": "input_text", "text": "the map:"},
        {"type": "input_image", "image_url": PNG_URL},
    ]
    result = {"type": "function_call_output", "call_id": first.output[-1].call_id, "output": shown}
    ask(client, streamed, input=[*asked, *replayed(first), result], tools=[WEATHER])
    _, later = backend.bodies()
    assert results(later)[0].startswith("the map:")
    assert PNG not in "".join(map(text_of, later["messages"]))
    assert PNG in str(later)


# -- models ----------------------------------------------------------------------------------------


def test_models(client: OpenAI) -> None:
    listed = [model.id for model in client.models.list()]
    assert {"deepseek-flash", "deepseek-v4-pro"} <= set(listed)
    for name in listed:
        assert client.models.retrieve(name).id == name


# -- errors ----------------------------------------------------------------------------------------


def test_wrong_key(gateway: Gateway, backend: Backend) -> None:
    backend.refusals_expected = True
    with (
        client_of(gateway, max_retries=2).with_options(api_key="sk-simulator-invalid") as client,
        pytest.raises(openai.AuthenticationError) as caught,
    ):
        client.responses.create(model=MODEL, input="Hello")
    assert caught.value.code == "invalid_api_key"
    assert len(backend.records()) == 1


def test_unknown_model(start: Start, backend: Backend) -> None:
    strict = start("rejecting", unknown_models="reject")
    with client_of(strict) as client, pytest.raises(openai.NotFoundError) as caught:
        client.responses.create(model="gpt-7", input="Hello")
    assert caught.value.code == "model_not_found"
    assert caught.value.param == "model"
    with client_of(strict) as client, pytest.raises(openai.NotFoundError):
        client.models.retrieve("gpt-7")
    assert backend.records() == []


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input": [{"role": "user", "content": 7}]}, "input[0].content"),
        ({"temperature": 3}, "temperature"),
        ({"tools": [WEATHER], "tool_choice": {"type": "function", "name": "other"}}, "tool_choice"),
        (
            {"text": {"format": {"type": "json_schema", "name": "x", "schema": {"type": 1}}}},
            "text.format.schema",
        ),
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_wrong_request(
    client: OpenAI, backend: Backend, fields: Mapping[str, Any], param: str, streamed: bool
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        ask(client, streamed, **{"input": "Hello", **fields})
    assert caught.value.param == param
    assert caught.value.request_id
    assert backend.records() == []


def test_empty_account_is_not_tried_again(gateway: Gateway, backend: Backend, streamed: bool) -> None:
    backend.breaks("402")
    with client_of(gateway, max_retries=2) as client, pytest.raises(openai.RateLimitError) as caught:
        ask(client, streamed, input="Hello")
    assert caught.value.code == "insufficient_quota"
    assert len(backend.bodies()) == 1


def test_rate_limit_is_waited_for(start: Start, backend: Backend, streamed: bool) -> None:
    """The gateway gives up after its own attempts; the client waits as long as `Retry-After` says."""
    quick = start("quick", retry_max_seconds=0.1)
    backend.breaks("429 retry-after=1 times=3")
    with client_of(quick, max_retries=1) as client:
        assert ask(client, streamed, input="Say hello").output_text == "hello"
    assert len(backend.bodies()) == 4


def test_context_overflow(client: OpenAI, backend: Backend, streamed: bool) -> None:
    backend.breaks("context-length")
    with pytest.raises(openai.BadRequestError) as caught:
        ask(client, streamed, input="Hello")
    assert caught.value.code == "context_length_exceeded"


def test_stream_that_breaks(client: OpenAI, backend: Backend) -> None:
    backend.says({"text": "one two three four five six seven eight", "fault": "reset after=6"})
    seen = []

    def read() -> None:
        with client.responses.create(model=MODEL, input="Count.", stream=True) as stream:
            seen.extend(event.type for event in stream)

    with pytest.raises(openai.APIError) as caught:
        read()
    assert caught.value.code == "server_error"
    assert "response.completed" not in seen


def test_answer_that_is_not_waited_for(client: OpenAI, backend: Backend) -> None:
    backend.says({"text": "one two three four five six seven eight", "token_seconds": 0.5})
    with client.responses.create(model=MODEL, input="Count.", stream=True) as stream:
        for event in stream:
            if event.type == "response.output_text.delta":
                break
    (record,) = backend.records()
    assert record["outcome"] == "client gone"
