"""What an answer holds while it is under way. What it says is tested with its dialect."""

from __future__ import annotations

import gc
from typing import Any

import pytest
from harness.fake_upstream import FakeUpstream
from harness.halves import Halves
from harness.waiting import wait_for

from deepseek_proxy.translate.chat.request import ChatRequest
from deepseek_proxy.translate.responses.request import ResponsesRequest


def requests_held() -> int:
    gc.collect()
    return sum(isinstance(each, ResponsesRequest | ChatRequest) for each in gc.get_objects())


@pytest.fixture
def halves(upstream: FakeUpstream) -> Halves:
    handler = Halves()
    upstream.serve(handler)
    return handler


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/responses", {"store": True}),
        ("/v1/responses", {"store": False}),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "hi"}]}),
    ],
    ids=["stored", "not stored", "chat"],
)
def test_a_stream_does_not_hold_the_conversation(
    face: Any, halves: Halves, path: str, body: dict[str, Any]
) -> None:
    """It may be megabytes, and the stream may take an hour."""
    before = requests_held()
    response = face.ask(path=path, stream=True, **body)
    frames = iter(response.response)
    assert next(frames)
    assert requests_held() == before
    halves.curtain.set()
    assert b"lo" in b"".join(frames)
    response.close()


def test_a_background_response_does_not_hold_it_either(face: Any, halves: Halves) -> None:
    before = requests_held()
    id = face.ask(background=True).json["id"]
    headers = {"Authorization": "Bearer sk-client-0123456789"}

    def status() -> Any:
        return face.request("GET", f"/v1/responses/{id}", headers=headers).json["status"]

    wait_for(lambda: status() == "in_progress")
    assert requests_held() == before
    halves.curtain.set()
    wait_for(lambda: status() == "completed")
