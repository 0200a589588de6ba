"""OpenAI's Agents SDK for Python through a real gateway, whose answers its client validates strictly."""

from __future__ import annotations

import pytest
from agents import (
    Agent,
    MaxTurnsExceeded,
    ModelSettings,
    RunConfig,
    Runner,
    SQLiteSession,
)
from agents.result import RunResultBase
from e2e.agent_runs import Weather, result_of, run
from e2e.backend import Backend, added_messages, results, text_of
from e2e.samples import MODEL
from harness.gateway import Gateway
from openai import AsyncOpenAI
from pydantic import BaseModel


class Trip(BaseModel):
    """What a traveller wants to know."""

    city: str
    nights: int


@pytest.fixture(params=[False, True], ids=["whole", "streamed"])
def streamed(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def test_tools(gateway: Gateway, backend: Backend, streamed: bool) -> None:
    weather = Weather()
    calls = [{"name": "get_weather", "arguments": {"city": city}} for city in ("Köln", "北京")]
    backend.says({"reasoning": "Two cities.", "calls": calls}, {"text": "Sunny in both."})
    agent = Agent(name="Guide", instructions="Be brief.", model=MODEL, tools=[weather.tool])

    async def work(_client: AsyncOpenAI, config: RunConfig) -> RunResultBase:
        return await result_of(streamed, agent, "How is the weather?", run_config=config)

    assert run(gateway, work).final_output == "Sunny in both."
    assert sorted(weather.asked) == ["Köln", "北京"]
    earlier, later = backend.bodies()
    answered, *_ = added_messages(later, earlier)
    assert answered["reasoning_content"] == "Two cities."
    assert results(later) == ["Sunny in Köln.", "Sunny in 北京."]


def test_handoff(gateway: Gateway, backend: Backend, streamed: bool) -> None:
    weather = Weather()
    expert = Agent(name="Weather expert", instructions="You know weather.", model=MODEL, tools=[weather.tool])
    desk = Agent(name="Front desk", instructions="Send people on.", model=MODEL, handoffs=[expert])
    backend.says(
        {"calls": [{"name": "transfer_to_weather_expert"}]},
        {"calls": [{"name": "get_weather", "arguments": {"city": "Bonn"}}]},
        {"text": "Take no umbrella."},
    )

    async def work(_client: AsyncOpenAI, config: RunConfig) -> RunResultBase:
        return await result_of(streamed, desk, "Do I need an umbrella?", run_config=config)

    result = run(gateway, work)
    assert result.final_output == "Take no umbrella."
    assert result.last_agent is expert
    first, second, _ = backend.bodies()
    assert text_of(first["messages"][0]) == "Send people on."
    assert text_of(second["messages"][0]) == "You know weather."
    assert [message["role"] for message in second["messages"][1:]] == ["user", "assistant", "tool"]


def test_answer_in_a_type(gateway: Gateway, backend: Backend, streamed: bool) -> None:
    backend.says({"text": '{"city": "Bonn", "nights": 2}'})
    agent = Agent(name="Guide", model=MODEL, output_type=Trip)

    async def work(_client: AsyncOpenAI, config: RunConfig) -> RunResultBase:
        return await result_of(streamed, agent, "Plan a trip.", run_config=config)

    assert run(gateway, work).final_output == Trip(city="Bonn", nights=2)


def test_agent_that_is_another_ones_tool(gateway: Gateway, backend: Backend) -> None:
    translator = Agent(name="Translator", instructions="Translate to German.", model=MODEL)

    async def work(_client: AsyncOpenAI, config: RunConfig) -> RunResultBase:
        tool = translator.as_tool("translate", "Translates to German.", run_config=config)
        asking = Agent(name="Guide", model=MODEL, tools=[tool])
        return await Runner.run(asking, "How do Germans greet?", run_config=config)

    backend.says(
        {"calls": [{"name": "translate", "arguments": {"input": "hello"}}]},
        {"text": "hallo"},
        {"text": "They say hallo."},
    )
    assert run(gateway, work).final_output == "They say hallo."
    assert results(backend.bodies()[-1]) == ["hallo"]


def test_model_settings(gateway: Gateway, backend: Backend, streamed: bool) -> None:
    settings = ModelSettings(
        temperature=0.2, max_tokens=50, tool_choice="required", parallel_tool_calls=False, store=False
    )
    weather = Weather()
    agent = Agent(name="Guide", model=MODEL, tools=[weather.tool], model_settings=settings)
    calls = [{"name": "get_weather", "arguments": {"city": city}} for city in ("Köln", "北京")]
    backend.says({"calls": calls}, {"text": "Sunny."})

    async def work(_client: AsyncOpenAI, config: RunConfig) -> RunResultBase:
        return await result_of(streamed, agent, "Weather?", run_config=config)

    assert run(gateway, work).final_output == "Sunny."
    assert weather.asked == ["Köln"]
    first = backend.bodies()[0]
    assert (first["temperature"], first["max_tokens"], first["tool_choice"]) == (0.2, 50, "required")


def test_endless_calls_are_ended_by_the_client(gateway: Gateway, backend: Backend) -> None:
    agent = Agent(name="Guide", model=MODEL, tools=[Weather().tool])
    backend.says({"calls": [{"name": "get_weather", "arguments": {"city": "Bonn"}}], "repeat": 3})

    async def work(_client: AsyncOpenAI, config: RunConfig) -> RunResultBase:
        return await Runner.run(agent, "Weather?", run_config=config, max_turns=3)

    with pytest.raises(MaxTurnsExceeded):
        run(gateway, work)


def test_session_that_the_client_keeps(gateway: Gateway, backend: Backend, streamed: bool) -> None:
    agent = Agent(name="Guide", model=MODEL, tools=[Weather().tool])
    backend.says(
        {"reasoning": "Look.", "calls": [{"name": "get_weather", "arguments": {"city": "Bonn"}}]},
        {"text": "Sunny in Bonn."},
        {"text": "Better still."},
    )

    async def work(_client: AsyncOpenAI, config: RunConfig) -> RunResultBase:
        session = SQLiteSession("one")
        for said in ("Weather in Bonn?", "And tomorrow?"):
            last = await result_of(streamed, agent, said, session=session, run_config=config)
        return last

    assert run(gateway, work).final_output == "Better still."
    first, second, third = backend.bodies()
    assert added_messages(second, first)
    assert [message["role"] for message in added_messages(third, second)] == ["assistant", "user"]
