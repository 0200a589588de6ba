"""Runs of OpenAI's Agents SDK for Python through a gateway."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from agents import Agent, OpenAIProvider, RunConfig, Runner, function_tool
from agents.result import RunResultBase
from harness.gateway import CLIENT_KEY, Gateway
from openai import AsyncOpenAI

Work = Callable[[AsyncOpenAI, RunConfig], Coroutine[Any, Any, Any]]
"""What is done with a client of the gateway, and the configuration that has the SDK use it."""


@dataclass
class Weather:
    """A tool, and the cities it was asked for."""

    asked: list[str] = field(default_factory=list)

    @property
    def tool(self) -> Any:
        @function_tool
        def get_weather(city: str) -> str:
            """The weather in a city."""
            self.asked.append(city)
            return f"Sunny in {city}."

        return get_weather


def run(gateway: Gateway, work: Work, *, websocket: bool = False, strict: bool = True) -> Any:
    """What comes of some work. `strict`: the client validates every answer."""

    async def working() -> Any:
        async with AsyncOpenAI(
            base_url=f"http://127.0.0.1:{gateway.port}/v1",
            api_key=CLIENT_KEY,
            max_retries=0,
            timeout=30,
            _strict_response_validation=strict,
        ) as client:
            provider = OpenAIProvider(openai_client=client, use_responses_websocket=websocket)
            try:
                return await work(client, RunConfig(model_provider=provider, tracing_disabled=True))
            finally:
                await provider.aclose()

    return asyncio.run(working())


async def result_of(streamed: bool, agent: Agent[Any], *arguments: Any, **options: Any) -> RunResultBase:
    """The result of one run; of a streamed one, what was shown on the way is what it ends with."""
    if not streamed:
        return await Runner.run(agent, *arguments, **options)
    running = Runner.run_streamed(agent, *arguments, **options)
    shown = ""
    async for event in running.stream_events():
        if event.type != "raw_response_event":
            continue
        if event.data.type == "response.created":
            shown = ""
        elif event.data.type == "response.output_text.delta":
            shown += event.data.delta
    if isinstance(running.final_output, str):
        assert running.final_output == shown
    return running
