"""LangChain's chat models, that for OpenAI and that for DeepSeek, through a gateway with several workers."""

from __future__ import annotations

from typing import Any

import openai
import pytest
from e2e.backend import Backend, results
from e2e.conftest import Start
from e2e.samples import CALLS, MODEL
from e2e.test_chat_python import TOOL
from harness.gateway import CLIENT_KEY, Gateway
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_deepseek import ChatDeepSeek
from langchain_openai import ChatOpenAI
from pydantic import BaseModel

ASKED = [SystemMessage("Be brief."), HumanMessage("How is the weather?")]


class Stop(BaseModel):
    """A stop of a trip."""

    city: str
    nights: int


@pytest.fixture
def gateway(start: Start, backend: Backend) -> Gateway:
    return start("team", workers=3)


@pytest.fixture(params=[ChatOpenAI, ChatDeepSeek], ids=["openai", "deepseek"])
def chat(request: pytest.FixtureRequest, gateway: Gateway) -> Any:
    url = f"http://127.0.0.1:{gateway.port}/v1"
    where = {"base_url": url} if request.param is ChatOpenAI else {"api_base": url}
    return request.param(model=MODEL, api_key=CLIENT_KEY, max_retries=0, timeout=30, **where)


def test_answer(chat: Any, backend: Backend) -> None:
    backend.says({"reasoning": "A greeting.", "text": "Grüße, 世界 👋"})
    answer = chat.invoke(ASKED)
    assert answer.content == "Grüße, 世界 👋"
    assert answer.response_metadata["finish_reason"] == "stop"
    assert answer.usage_metadata["total_tokens"] > 0


def test_streamed_answer(chat: Any, backend: Backend) -> None:
    backend.says({"reasoning": "A greeting.", "text": "one two three"})
    pieces = list(chat.stream(ASKED))
    assert len(pieces) > 3
    assert "".join(piece.text for piece in pieces) == "one two three"


def test_deepseeks_own_shows_the_thinking(gateway: Gateway, backend: Backend) -> None:
    backend.says({"reasoning": "A greeting.", "text": "Hi"})
    url = f"http://127.0.0.1:{gateway.port}/v1"
    chat = ChatDeepSeek(model=MODEL, api_key=CLIENT_KEY, api_base=url, max_retries=0)
    thoughts = [piece.additional_kwargs.get("reasoning_content", "") for piece in chat.stream(ASKED)]
    assert "".join(thoughts) == "A greeting."


@pytest.mark.parametrize("streamed", [False, True])
def test_tools_round_trip(chat: Any, backend: Backend, streamed: bool) -> None:
    backend.says({"reasoning": "Two cities.", "calls": CALLS}, {"text": "Sunny in both."})
    bound = chat.bind_tools([TOOL])
    if streamed:
        first, *rest = bound.stream(ASKED)
        for piece in rest:
            first += piece
        answer = AIMessage(first.content, tool_calls=first.tool_calls)
    else:
        answer = bound.invoke(ASKED)
    assert [call["args"] for call in answer.tool_calls] == [call["arguments"] for call in CALLS]
    outputs = [ToolMessage("sunny", tool_call_id=call["id"]) for call in answer.tool_calls]
    assert bound.invoke([*ASKED, answer, *outputs]).content == "Sunny in both."
    assert results(backend.bodies()[-1]) == ["sunny", "sunny"]


@pytest.mark.parametrize("method", ["function_calling", "json_mode", "json_schema"])
def test_structured_output(gateway: Gateway, backend: Backend, method: Any) -> None:
    arguments = {"city": "Köln", "nights": 2}
    called = {"calls": [{"name": "Stop", "arguments": arguments}]}
    backend.says(called if method == "function_calling" else {"text": '{"city": "Köln", "nights": 2}'})
    url = f"http://127.0.0.1:{gateway.port}/v1"
    chat = ChatOpenAI(model=MODEL, api_key=CLIENT_KEY, base_url=url, max_retries=0)
    answer = chat.with_structured_output(Stop, method=method).invoke("Plan a stop, as JSON.")
    assert answer == Stop(**arguments)


def test_a_refusal(chat: Any) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        chat.invoke(ASKED, n=2)
    assert refused.value.param == "n"


def test_a_stream_that_breaks(chat: Any, backend: Backend) -> None:
    backend.says({"text": "one two three four five six seven eight", "fault": "reset after=6"})
    with pytest.raises(openai.APIError):
        list(chat.stream(ASKED))
