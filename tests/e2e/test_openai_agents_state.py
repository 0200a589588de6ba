"""OpenAI's Agents SDK for Python with what the gateway keeps: conversations and chains of responses."""

from __future__ import annotations

from typing import Any

import pytest
from agents import (
    Agent,
    OpenAIConversationsSession,
    OpenAIResponsesCompactionSession,
    RunConfig,
    SQLiteSession,
)
from agents.result import RunResultBase
from e2e.agent_runs import Weather, result_of, run
from e2e.backend import Backend, added_messages, results
from e2e.samples import MODEL
from harness.gateway import Gateway
from openai import AsyncOpenAI

TURNS = (
    {"reasoning": "Look.", "calls": [{"name": "get_weather", "arguments": {"city": "Bonn"}}]},
    {"text": "Sunny in Bonn."},
    {"text": "Better still."},
)
SAID = ("Weather in Bonn?", "And tomorrow?")


@pytest.fixture(params=[False, True], ids=["whole", "streamed"])
def streamed(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def guide() -> Agent[Any]:
    return Agent(name="Guide", instructions="Be brief.", model=MODEL, tools=[Weather().tool])


def check_turns(backend: Backend) -> None:
    """Each request said what those before it had said, byte for byte, and what was new."""
    first, second, third = backend.bodies()
    assert added_messages(second, first)[0]["reasoning_content"] == "Look."
    assert results(second) == ["Sunny in Bonn."]
    assert [message["role"] for message in added_messages(third, second)] == ["assistant", "user"]


def test_session_in_a_conversation(gateway: Gateway, backend: Backend, streamed: bool) -> None:
    backend.says(*TURNS)

    async def work(client: AsyncOpenAI, config: RunConfig) -> tuple[RunResultBase, list[Any]]:
        session = OpenAIConversationsSession(openai_client=client)
        for said in SAID:
            last = await result_of(streamed, guide(), said, session=session, run_config=config)
        items = await session.get_items()
        popped = await session.pop_item()
        assert popped == items[-1]
        assert await session.get_items() == items[:-1]
        await session.clear_session()
        return last, items

    last, items = run(gateway, work)
    assert last.final_output == "Better still."
    check_turns(backend)
    kinds = [item["type"] for item in items if item["type"] != "reasoning"]
    assert kinds == [
        "message",
        "function_call",
        "function_call_output",
        "message",
        "message",
        "message",
    ]


def test_turns_that_go_on_from_a_response(gateway: Gateway, backend: Backend, streamed: bool) -> None:
    backend.says(*TURNS)

    async def work(_client: AsyncOpenAI, config: RunConfig) -> RunResultBase:
        previous = None
        for said in SAID:
            options = {"auto_previous_response_id": True, "previous_response_id": previous}
            last = await result_of(streamed, guide(), said, run_config=config, **options)
            previous = last.last_response_id
        return last

    assert run(gateway, work).final_output == "Better still."
    check_turns(backend)


def test_turns_in_a_conversation(gateway: Gateway, backend: Backend, streamed: bool) -> None:
    backend.says(*TURNS)

    async def work(client: AsyncOpenAI, config: RunConfig) -> RunResultBase:
        conversation = await client.conversations.create()
        for said in SAID:
            last = await result_of(
                streamed, guide(), said, run_config=config, conversation_id=conversation.id
            )
        return last

    assert run(gateway, work).final_output == "Better still."
    check_turns(backend)


def test_handoff_in_a_conversation(gateway: Gateway, backend: Backend, streamed: bool) -> None:
    expert = Agent(name="Expert", instructions="You know weather.", model=MODEL)
    desk = Agent(name="Desk", instructions="Send people on.", model=MODEL, handoffs=[expert])
    backend.says({"calls": [{"name": "transfer_to_expert"}]}, {"text": "Take no umbrella."})

    async def work(client: AsyncOpenAI, config: RunConfig) -> RunResultBase:
        conversation = await client.conversations.create()
        return await result_of(
            streamed, desk, "Umbrella?", run_config=config, conversation_id=conversation.id
        )

    result = run(gateway, work)
    assert result.final_output == "Take no umbrella."
    assert result.last_agent is expert


@pytest.mark.parametrize("mode", ["input", "previous_response_id"])
def test_session_that_is_compacted(gateway: Gateway, backend: Backend, mode: Any) -> None:
    """The gateway makes the summary; what the model is told afterwards is that in place of all there was."""
    summary = {"text": "Summary: the word is heron."}
    backend.says({"text": "Noted."}, summary, {"text": "It is heron."}, summary)

    async def work(client: AsyncOpenAI, config: RunConfig) -> list[Any]:
        kept = SQLiteSession("one")
        session = OpenAIResponsesCompactionSession(
            "one",
            kept,
            client=client,
            model="gpt-5",  # the session takes no other names; it becomes the gateway's default model
            compaction_mode=mode,
            should_trigger_compaction=lambda _context: True,
        )
        agent = Agent(name="Guide", model=MODEL)
        for said in ("The code word is heron.", "What is the code word?"):
            last = await result_of(False, agent, said, session=session, run_config=config)
        assert last.final_output == "It is heron."
        return await kept.get_items()

    items = run(gateway, work, strict=False)  # the SDK's type has no place for the users' messages
    assert [item["type"] for item in items][-1] == "compaction"
    assert "Summary: the word is heron." in str(backend.bodies()[2])
