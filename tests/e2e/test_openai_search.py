"""The hosted web search with OpenAI's packages: whole, streamed, through their helpers, and sent back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import pytest
from e2e.backend import Backend, added_messages
from e2e.conftest import Start
from e2e.samples import MODEL
from e2e.test_openai_npm import Node
from harness.gateway import CLIENT_KEY, Gateway
from openai import BadRequestError, OpenAI

TOOL: Final = {"type": "web_search", "search_context_size": "low"}
SOURCES: Final = ["web_search_call.action.sources"]
PAGE: Final = {"name": "open_page", "arguments": {"url": "https://example.org/sky"}}
QUERY: Final = {"name": "web_search", "arguments": {"query": "blue sky"}}
TEXT: Final = "Light is scattered [1][4]."


@pytest.fixture
def gateway(start: Start, backend: Backend) -> Gateway:
    return start("search", web_search="deepseek")


@pytest.fixture
def client(gateway: Gateway) -> Iterator[OpenAI]:
    url = f"http://127.0.0.1:{gateway.port}/v1"
    with OpenAI(base_url=url, api_key=CLIENT_KEY, max_retries=0, _strict_response_validation=True) as made:
        yield made


def create(client: OpenAI, **fields: Any) -> dict[str, Any]:
    return client.responses.create(**fields).to_dict()


def create_streamed(client: OpenAI, **fields: Any) -> dict[str, Any]:
    with client.responses.create(stream=True, **fields) as stream:
        events = list(stream)
    stages = [event.type for event in events if "web_search_call" in event.type]
    assert stages[-2:] == ["response.web_search_call.completed"] * 2
    annotations = [event for event in events if event.type == "response.output_text.annotation.added"]
    assert [event.annotation_index for event in annotations] == [0, 1]
    final: dict[str, Any] = events[-1].response.to_dict()
    return final


def helper(client: OpenAI, **fields: Any) -> dict[str, Any]:
    with client.responses.stream(**fields) as stream:
        for _ in stream:
            pass
        return stream.get_final_response().to_dict()


def assert_searched(answer: Mapping[str, Any]) -> None:
    _, search, opened, _, message = answer["output"]
    assert (search["status"], search["action"]["query"]) == ("completed", "blue sky")
    assert len(search["action"]["sources"]) == 3
    assert opened["action"] == {"type": "open_page", "url": "https://example.org/sky"}
    (part,) = message["content"]
    assert part["text"] == TEXT
    cited = [(TEXT[a["start_index"] : a["end_index"]], a["title"]) for a in part["annotations"]]
    assert cited == [("[1]", "Result 1 for blue sky"), ("[4]", "Page at example.org")]


@pytest.mark.parametrize("way", [create, create_streamed, helper])
def test_python(client: OpenAI, backend: Backend, way: Callable[..., dict[str, Any]]) -> None:
    backend.says(
        {"reasoning": "I look.", "calls": [QUERY, PAGE]},
        {"reasoning": "I know.", "text": TEXT},
        {"text": "Quite sure."},
    )
    asked: list[Any] = [{"role": "user", "content": "Why is the sky blue?"}]
    answer = way(client, model=MODEL, input=asked, tools=[TOOL], include=SOURCES)
    assert_searched(answer)
    again = [*asked, *answer["output"], {"role": "user", "content": "Sure?"}]
    assert create(client, model=MODEL, input=again, tools=[TOOL])["output"][-1]["status"] == "completed"
    first, second, third = backend.bodies()
    assert added_messages(second, first)
    assert [message["role"] for message in added_messages(third, second)] == ["assistant", "user"]


@pytest.mark.parametrize("way", ["create", "streamed create", "stream"])
def test_node(gateway: Gateway, backend: Backend, way: str) -> None:
    backend.says({"reasoning": "I look.", "calls": [QUERY, PAGE]}, {"reasoning": "I know.", "text": TEXT})
    *streamed, call = way.split()
    fields = {"stream": True} if streamed else {}
    answer = Node(gateway).answer(call, input="Why?", tools=[TOOL], include=SOURCES, **fields)
    assert_searched(answer)


def test_a_forced_search(client: OpenAI, backend: Backend) -> None:
    """No script: the simulated model has to call what it is told to, and answers from what it reads."""
    choice = {"type": "web_search_preview"}  # the only name of it that the package's types have
    answer = create(client, model=MODEL, input="Blue sky?", tools=[TOOL], tool_choice=choice)
    types = [item["type"] for item in answer["output"]]
    assert types == ["web_search_call", "reasoning", "message"]
    first, second = backend.bodies()
    assert first["thinking"] == second["thinking"] == {"type": "disabled"}
    assert "tool_choice" not in second


def test_where_it_is_off(start: Start, backend: Backend) -> None:
    url = f"http://127.0.0.1:{start('gateway').port}/v1"
    with OpenAI(base_url=url, api_key=CLIENT_KEY, max_retries=0) as client:
        fields: Any = {"model": MODEL, "input": "Say hello", "tools": [TOOL]}
        assert client.responses.create(**fields).output_text == "hello"
        with pytest.raises(BadRequestError, match="Tool choice 'web_search' not found"):
            client.responses.create(**fields, tool_choice={"type": "web_search"})
