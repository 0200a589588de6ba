"""Codex searches the web through the gateway: the hosted tool, and its own standalone search."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import pytest
from e2e.backend import Backend, added_messages, results
from e2e.codex import NEWEST, OLDEST, Codex
from e2e.conftest import Start

from deepseek_proxy.simulator.search import UNREACHABLE_HOST

LIVE: Final = {"web_search": "live"}
QUERY: Final = {"name": "web_search", "arguments": {"query": "blue sky"}}
STANDALONE: Final = {
    "model_providers.gateway.supports_standalone_web_search": True,
    "features.standalone_web_search": True,
}


@pytest.fixture
def codex(tmp_path: Path, start: Start, backend: Backend) -> Codex:
    return Codex(tmp_path, start("search", web_search="deepseek"))


@pytest.fixture(params=[NEWEST, OLDEST])
def any_codex(request: pytest.FixtureRequest, tmp_path: Path, start: Start, backend: Backend) -> Codex:
    return Codex(tmp_path, start("search", web_search="deepseek"), request.param)


def looked_up(backend: Backend) -> list[Any]:
    """What DeepSeek was asked to find and to open."""
    return [record["body"] for record in backend.records() if "/tools/" in record["path"]]


def opening(url: str) -> dict[str, Any]:
    return {"name": "open_page", "arguments": {"url": url}}


def test_search(any_codex: Codex, backend: Backend) -> None:
    """Codex shows the searches, and sends back on resuming what repeats them byte for byte."""
    page = "https://example.org/sky"
    backend.says(
        {"reasoning": "I need to look.", "text": "I will look.", "calls": [QUERY, opening(page)]},
        {"reasoning": "Now I know.", "text": "Light is scattered [1]."},
        {"text": "Quite sure."},
    )
    codex = any_codex
    run = codex.exec("Why is the sky blue?", config=LIVE)
    assert run.answer == "Light is scattered [1]."
    assert run.warnings == []
    searched, opened = (item["action"] for item in run.items("web_search"))
    assert searched == {"type": "search", "query": "blue sky"}
    named = {"type": "open_page", "url": page}
    assert opened == (named if codex.version == NEWEST else {"type": "other"})
    assert codex.exec("resume", run.thread, "Are you sure?", config=LIVE).answer == "Quite sure."
    first, second, third = backend.bodies()
    looked, found, read = added_messages(second, first)
    assert looked["reasoning_content"] == "I need to look."
    assert found["content"].startswith("[1] Result 1 for blue sky\n")
    assert read["content"].startswith("[4] Page at example.org\n")
    answered, _ = added_messages(third, second)
    assert answered["reasoning_content"] == "Now I know."
    assert sorted(looked_up(backend), key=len) == [{"url": page}, {"query": "blue sky", "count": 10}]


def test_search_beside_a_command(codex: Codex, backend: Backend) -> None:
    """Codex's own call is run; the model searches when it has the result."""
    command = {"name": "exec_command", "arguments": {"cmd": "echo one"}}
    backend.says({"calls": [QUERY, command]}, {"calls": [QUERY]}, {"text": "Both."})
    run = codex.exec("Do both.", config=LIVE)
    assert run.answer == "Both."
    assert [item["aggregated_output"] for item in run.items("command_execution")] == ["one\n"]
    assert len(run.items("web_search")) == len(looked_up(backend)) == 1


def test_searches_without_end(codex: Codex, backend: Backend) -> None:
    """Codex stops at once, and shows why: a retry would search as much again."""
    backend.says({"calls": [QUERY], "repeat": 10})
    run = codex.exec("Search for ever.", config=LIVE)
    assert run.failure.startswith("The model kept searching")
    assert len(looked_up(backend)) == 8
    assert len(backend.bodies()) == 10


def test_long_searches_do_not_compact_the_thread(codex: Codex, backend: Backend) -> None:
    """The turns of an answer read the same conversation; Codex must not take their sum for its length."""
    backend.says(*[{"calls": [QUERY]}] * 6, {"text": "Found."}, {"text": "Still here."})
    length = {**LIVE, "model_auto_compact_token_limit": 20_000}
    run = codex.exec("Search well.", config=length)
    assert run.answer == "Found."
    assert codex.exec("resume", run.thread, "Go on.", config=length).answer == "Still here."


def test_standalone_search(codex: Codex, backend: Backend) -> None:
    commands = {
        "search_query": [{"q": "blue sky", "domains": ["example.com"]}, {"q": "red sky"}],
        "open": [{"ref_id": "https://example.org/sky"}, {"ref_id": f"https://{UNREACHABLE_HOST}/"}],
        "find": [{"ref_id": "https://example.org/sky", "pattern": "TEXT OF"}],
        "weather": [{"location": "Berlin"}],
    }
    backend.refusals_expected = True
    backend.says({"calls": [{"name": "web__run", "arguments": commands}]}, {"text": "Done."})
    run = codex.exec("Search.", config={**LIVE, **STANDALONE})
    assert run.answer == "Done."
    (text,) = results(backend.bodies()[-1])
    for expected in (
        "## Search: blue sky\n\nResult 1 for blue sky site:example.com\nhttps://example.com/blue%20sky",
        "## Search: red sky\n\nResult 1 for red sky\n",
        "## Page https://example.org/sky\n\n(Lines 1 to 3 of 3.)\n# Page at example.org\n",
        "The page could not be opened: it cannot be reached, or is of a kind that cannot be read.",
        "“TEXT OF” in https://example.org/sky\n\nL1: # Page at example.org\n",
        "## weather\n\nThis is not available here",
    ):
        assert expected in text


def test_standalone_search_that_is_off(tmp_path: Path, start: Start, backend: Backend) -> None:
    codex = Codex(tmp_path, start("gateway"))
    search = {"name": "web__run", "arguments": {"search_query": [{"q": "blue sky"}]}}
    backend.says({"calls": [search]}, {"text": "I cannot."})
    run = codex.exec("Search.", config={**LIVE, **STANDALONE})
    assert run.answer == "I cannot."
    assert "Web search is off." in results(backend.bodies()[-1])[0]
