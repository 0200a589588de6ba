"""Codex CLI over WebSockets (`supports_websockets = true`): the same work, and the same for DeepSeek."""

from __future__ import annotations

import time
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import pytest
from e2e.backend import Backend, added_messages, results
from e2e.codex import NEWEST, OLDER, Codex, Run
from e2e.conftest import Start
from harness.gateway import Gateway

WEBSOCKET: Final = {"model_providers.gateway.supports_websockets": True}


def over_websocket(codex: Codex, *arguments: str, **config: Any) -> Run:
    return codex.exec(*arguments, config={**WEBSOCKET, **config})


def ways(gateway: Gateway) -> list[str]:
    """How each response was asked for: `WS` or `POST`. Lines of the log may be late."""
    time.sleep(0.3)
    lines = [line for line in gateway.log.splitlines() if '"logger":"deepseek_proxy.requests"' in line]
    methods = {'"method":"WS"': "WS", '"method":"POST"': "POST"}
    return [way for line in lines for mark, way in methods.items() if mark in line]


def command(line: str) -> dict[str, object]:
    return {"name": "exec_command", "arguments": {"cmd": line}}


@pytest.fixture
def own_gateway(start: Start, backend: Backend) -> Gateway:
    return start("websocket")


def test_hello_after_a_warm_up_that_costs_nothing(
    tmp_path: Path, own_gateway: Gateway, backend: Backend
) -> None:
    before = len(ways(own_gateway))
    run = over_websocket(Codex(tmp_path, own_gateway), "Say hello")
    assert run.answer == "hello"
    assert run.warnings == []
    assert run.retries == []
    assert ways(own_gateway)[before:] == ["WS", "WS"]
    assert len(backend.bodies()) == 1


def test_deepseek_is_sent_what_it_is_sent_over_http(
    tmp_path: Path, own_gateway: Gateway, backend: Backend
) -> None:
    """Byte for byte: what is left out on the way to the gateway is put back in its place."""
    script = (
        {"reasoning": "I look.", "text": "Looking.", "calls": [command("echo one"), command("echo two")]},
        {"calls": [{"name": "apply_patch", "arguments": {"input": "*** Begin Patch\n*** End Patch"}}]},
        {"text": "Done."},
    )
    codex = Codex(tmp_path, own_gateway)
    bodies = []
    for config in ({}, WEBSOCKET):
        backend.reset()
        backend.says(*script)
        assert codex.exec("Run both.", config=config).answer == "Done."
        bodies.append(backend.bodies())
    plain, over = bodies
    assert len(plain) == len(over) == 3
    for earlier, later in pairwise(over):
        assert added_messages(later, earlier)
    for one, other in zip(plain, over):
        assert [shape(message) for message in one["messages"]] == [shape(m) for m in other["messages"]]
        assert one["tools"] == other["tools"]


def shape(message: dict[str, Any]) -> dict[str, Any]:
    """A message without what differs from run to run: ids of calls, and the times that Codex measures."""
    if message["role"] == "tool":
        return {"role": "tool"}
    calls = [call["function"] for call in message.get("tool_calls", ())]
    return {**message, "tool_calls": calls}


def test_a_thread_goes_on_over_a_new_connection(
    tmp_path: Path, own_gateway: Gateway, backend: Backend
) -> None:
    codex = Codex(tmp_path, own_gateway)
    backend.says({"reasoning": "Hm.", "text": "One."}, {"text": "Two."})
    assert over_websocket(codex, "First").answer == "One."
    assert over_websocket(codex, "resume", "--last", "Second").answer == "Two."
    earlier, later = backend.bodies()
    answered, _ = added_messages(later, earlier)
    assert (answered["content"], answered["reasoning_content"]) == ("One.", "Hm.")


def test_a_connection_that_was_closed_meanwhile_is_opened_again(
    tmp_path: Path, start: Start, backend: Backend
) -> None:
    """By the idle limit, while a command runs: the whole conversation is sent, and nobody notices."""
    gateway = start("idle", websocket_idle_seconds=1)
    backend.says({"calls": [command("sleep 2.5; echo late")]}, {"text": "Done."})
    run = over_websocket(Codex(tmp_path, gateway), "Wait.")
    assert run.answer == "Done."
    assert run.warnings == []
    earlier, later = backend.bodies()
    assert added_messages(later, earlier)
    assert results(later)[0].endswith("late\n")
    assert set(ways(gateway)) == {"WS"}


def test_where_there_is_none_it_goes_on_over_http_at_once(
    tmp_path: Path, start: Start, backend: Backend
) -> None:
    gateway = start("without", websocket="off")
    run = over_websocket(Codex(tmp_path, gateway), "Say hello")
    assert run.answer == "hello"
    assert run.retries == []
    assert ways(gateway) == ["POST"]


@pytest.mark.parametrize(
    ("directive", "requests", "words"),
    [
        ("fault 402", 1, "Quota exceeded"),
        ("fault 401", 1, "refused the API key"),
        ("fault context-length", 1, "ran out of room in the model's context window"),
        ("fault content-risk", 1, "Content Exists Risk"),
    ],
)
def test_failures_are_told_as_they_are_over_http(
    tmp_path: Path, own_gateway: Gateway, backend: Backend, directive: str, requests: int, words: str
) -> None:
    backend.refusals_expected = True
    run = over_websocket(Codex(tmp_path, own_gateway), f"Say hello [[simulate: {directive}]]")
    assert words in run.failure
    assert backend.client_requests() == requests


@pytest.mark.parametrize("fault", ["truncate after=3 times=1", "503 times=4", "reset after=3 times=1"])
def test_failures_that_pass_are_passed(
    tmp_path: Path, own_gateway: Gateway, backend: Backend, fault: str
) -> None:
    """A turn that failed is forgotten on its connection; Codex sends the whole conversation again."""
    backend.refusals_expected = True
    backend.says({"calls": [command("echo one")]}, {"text": "Done."})
    run = over_websocket(Codex(tmp_path, own_gateway), f"Run it. [[simulate: fault {fault}]]")
    assert run.answer == "Done."
    assert run.warnings == []


@pytest.mark.parametrize("version", [OLDER, NEWEST])
def test_versions(tmp_path: Path, own_gateway: Gateway, backend: Backend, version: str) -> None:
    backend.says({"calls": [command("echo one")]}, {"text": "Done."})
    run = over_websocket(Codex(tmp_path, own_gateway, version), "Run it.")
    assert run.answer == "Done."
    earlier, later = backend.bodies()
    assert added_messages(later, earlier)
