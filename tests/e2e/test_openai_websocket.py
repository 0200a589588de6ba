"""The WebSocket mode by OpenAI's packages for Python: `connect()`, and the Agents SDK over it."""

from __future__ import annotations

from typing import Any

import pytest
from agents import Agent, RunConfig
from agents.result import RunResultBase
from e2e.agent_runs import Weather, result_of, run
from e2e.backend import Backend, added_messages, results
from e2e.samples import CALLS, MODEL, WEATHER
from harness.gateway import CLIENT_KEY, Gateway
from openai import AsyncOpenAI, OpenAI
from openai.types.responses import Response


def client_of(gateway: Gateway) -> OpenAI:
    return OpenAI(
        base_url=f"http://127.0.0.1:{gateway.port}/v1",
        api_key=CLIENT_KEY,
        max_retries=0,
        timeout=30,
        _strict_response_validation=True,
    )


def turn(connection: Any, **fields: Any) -> Response:
    """One answer on a connection, checked event by event."""
    connection.response.create(model=MODEL, **fields)
    events = []
    for event in connection:
        events.append(event)
        if event.type in ("response.completed", "response.failed", "response.incomplete", "error"):
            break
    assert [event.sequence_number for event in events] == list(range(len(events)))
    final: Response = events[-1].response
    shown = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert shown == final.output_text
    return final


@pytest.mark.parametrize("store", [True, False])
def test_turns_on_one_connection(gateway: Gateway, backend: Backend, store: bool) -> None:
    """A turn goes on from the one before, also where nothing is stored: the connection remembers it."""
    backend.says({"reasoning": "Look.", "calls": CALLS[:1]}, {"text": "Sunny."}, {"text": "Rain, later."})
    with client_of(gateway) as client, client.responses.connect() as connection:
        first = turn(connection, input="Weather?", tools=[WEATHER], store=store)
        result = {"type": "function_call_output", "call_id": first.output[-1].call_id, "output": "sun"}
        second = turn(connection, input=[result], tools=[WEATHER], store=store, previous_response_id=first.id)
        third = turn(connection, input="Later?", tools=[WEATHER], store=store, previous_response_id=second.id)
    assert third.output_text == "Rain, later."
    one, two, three = backend.bodies()
    assert added_messages(two, one)[0]["reasoning_content"] == "Look."
    assert results(two) == ["sun"]
    assert added_messages(three, two)


def test_a_mistake_does_not_end_the_connection(gateway: Gateway, backend: Backend) -> None:
    with client_of(gateway) as client, client.responses.connect() as connection:
        connection.response.create(model=MODEL, input="Hello", temperature=3)
        error = connection.recv()
        assert error.type == "error"
        assert turn(connection, input="Say hello").output_text == "hello"
    assert len(backend.bodies()) == 1


def test_a_wrong_key_is_told(gateway: Gateway, backend: Backend) -> None:
    backend.refusals_expected = True
    with (
        client_of(gateway).with_options(api_key="sk-simulator-invalid") as client,
        client.responses.connect() as connection,
    ):
        connection.response.create(model=MODEL, input="Hello")
        assert connection.recv().type == "error"


@pytest.mark.parametrize("streamed", [True, False])
def test_agents(gateway: Gateway, backend: Backend, streamed: bool) -> None:
    weather = Weather()
    backend.says({"reasoning": "Look.", "calls": CALLS}, {"text": "Sunny in both."})
    agent = Agent(name="Guide", instructions="Be brief.", model=MODEL, tools=[weather.tool])

    async def work(_client: AsyncOpenAI, config: RunConfig) -> RunResultBase:
        return await result_of(streamed, agent, "How is the weather?", run_config=config)

    assert run(gateway, work, websocket=True).final_output == "Sunny in both."
    assert sorted(weather.asked) == ["Köln", "北京"]
    earlier, later = backend.bodies()
    assert added_messages(later, earlier)
