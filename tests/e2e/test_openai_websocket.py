"""WebSocket mode of the official `openai` package for Python, sync and async, and of OpenAI's Agents SDK."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest
import websockets
from agents import Agent, RunConfig
from e2e import agent_runs
from e2e.agent_runs import Weather, result_of
from e2e.backend import Backend, added_messages, results
from e2e.samples import CALLS, MODEL, WEATHER
from harness.gateway import CLIENT_KEY, Gateway
from harness.responses_grammar import assert_responses_grammar
from openai import AsyncOpenAI, OpenAI
from openai.types.responses import Response


@pytest.fixture
def client(gateway: Gateway) -> Iterator[OpenAI]:
    with OpenAI(base_url=url_of(gateway), api_key=CLIENT_KEY, _strict_response_validation=True) as made:
        yield made


def url_of(gateway: Gateway) -> str:
    return f"http://127.0.0.1:{gateway.port}/v1"


def ask(connection: Any, **fields: Any) -> Response:
    """One answer, judged event by event."""
    connection.response.create(**{"model": MODEL, "store": False, **fields})
    sent = [connection.recv_bytes()]
    while (event := connection.parse_event(sent[-1])).type not in ("response.completed", "error"):
        sent.append(connection.recv_bytes())
    assert_responses_grammar(map(json.loads, sent))
    final: Response = event.response
    return final


@pytest.mark.parametrize("store", [True, False])
def test_turns_over_one_connection(client: OpenAI, backend: Backend, store: bool) -> None:
    backend.says({"reasoning": "Hm.", "text": "One."}, {"text": "Two."})
    with client.responses.connect() as connection:
        first = ask(connection, input="First", store=store)
        second = ask(connection, input="Second", store=store, previous_response_id=first.id)
    assert (first.output_text, second.output_text) == ("One.", "Two.")
    earlier, later = backend.bodies()
    answered, _ = added_messages(later, earlier)
    assert answered["content"] == "One."


def test_a_tool_over_one_connection(client: OpenAI, backend: Backend) -> None:
    backend.says({"calls": [CALLS[0]]}, {"text": "Sunny."})
    with client.responses.connect() as connection:
        called = ask(connection, input="Weather?", tools=[WEATHER])
        call = called.output[-1]
        assert call.type == "function_call"
        result = {"type": "function_call_output", "call_id": call.call_id, "output": "sun"}
        answered = ask(connection, input=[result], tools=[WEATHER], previous_response_id=called.id)
    assert answered.output_text == "Sunny."
    assert results(backend.bodies()[1]) == ["sun"]


def test_an_error_leaves_the_connection_open(client: OpenAI) -> None:
    with client.responses.connect() as connection:
        connection.response.create(model=MODEL, input="hi", previous_response_id="resp_unknown")
        error = connection.recv()
        assert error.type == "error"
        assert error.error.code == "previous_response_not_found"
        assert ask(connection, input="Say hello").output_text == "hello"


def test_a_stored_response_is_gone_on_from_over_http(client: OpenAI, backend: Backend) -> None:
    with client.responses.connect() as connection:
        made = ask(connection, input="Say hello", store=True)
    client.responses.create(model=MODEL, input="Say bye", previous_response_id=made.id)
    earlier, later = backend.bodies()
    assert [message["role"] for message in added_messages(later, earlier)] == ["assistant", "user"]


def test_a_wrong_key_is_refused_before_the_connection_is_open(gateway: Gateway) -> None:
    with (
        OpenAI(base_url=url_of(gateway), api_key="two words") as client,
        pytest.raises(websockets.InvalidStatus, match="401"),
        client.responses.connect(),
    ):
        pass


def test_async(gateway: Gateway) -> None:
    async def run() -> str:
        client = AsyncOpenAI(base_url=url_of(gateway), api_key=CLIENT_KEY)
        async with client, client.responses.connect() as connection:
            await connection.response.create(model=MODEL, input="Say hello")
            async for event in connection:
                if event.type == "response.completed":
                    return event.response.output_text
        return ""

    assert asyncio.run(run()) == "hello"


@pytest.mark.parametrize("streamed", [True, False], ids=["streamed", "whole"])
def test_agents(gateway: Gateway, backend: Backend, streamed: bool) -> None:
    """Two runs over one connection, the first with tools."""
    weather = Weather()
    backend.says({"reasoning": "Look.", "calls": CALLS}, {"text": "Sunny in both."}, {"text": "Rain, later."})
    agent = Agent(name="Guide", instructions="Be brief.", model=MODEL, tools=[weather.tool])

    async def work(_client: AsyncOpenAI, config: RunConfig) -> list[Any]:
        first = await result_of(streamed, agent, "How is the weather?", run_config=config)
        again = [*first.to_input_list(), {"role": "user", "content": "And later?"}]
        second = await result_of(streamed, agent, again, run_config=config)
        return [first.final_output, second.final_output]

    assert agent_runs.run(gateway, work, websocket=True) == ["Sunny in both.", "Rain, later."]
    assert sorted(weather.asked) == ["Köln", "北京"]
    one, two, three = backend.bodies()
    assert added_messages(two, one)
    assert added_messages(three, two)
    assert '"method":"WS"' in gateway.log
