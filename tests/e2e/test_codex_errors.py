"""What Codex says and does when DeepSeek fails: how often it asks, and what its user reads.

Codex multiplies: a status that it takes for a passing fault is asked for up to thirty times. All failures of
one version are played at once, because most of the time Codex waits.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, NamedTuple

import pytest
from e2e.backend import Backend
from e2e.codex import NEWEST, OLDER, OLDEST, Codex, Run
from e2e.conftest import Start

AT_ONCE: Final = 4
ONE_RETRY: Final = {"model_providers.gateway.stream_max_retries": 1}


class Outcome(NamedTuple):
    """How many requests Codex made, and whether it completed the turn with an answer."""

    requests: int
    completed: bool


class Scene(NamedTuple):
    """A fault of the simulator, the outcome, and words that the user reads."""

    fault: str
    outcome: Outcome
    words: str = ""
    config: dict[str, int] = {}


STOPS: Final = Outcome(1, completed=False)
GIVES_UP: Final = Outcome(6, completed=False)
SCENES: Final = {
    "empty account": Scene("402", STOPS, "Quota exceeded"),
    "wrong key": Scene("401", STOPS, "refused the API key"),
    "context too long": Scene("context-length", STOPS, "ran out of room in the model's context window"),
    "moderation": Scene("content-risk", STOPS, "Content Exists Risk"),
    "wrong request": Scene("400 message=Nonsense", STOPS, "Nonsense"),
    "rate limit": Scene("429 retry-after=1", GIVES_UP, "Too many requests"),
    "rate limit that passes": Scene("429 retry-after=1 times=4", Outcome(2, completed=True)),
    "failure": Scene("500", GIVES_UP, "DeepSeek failed"),
    "cut stream": Scene("truncate after=3", GIVES_UP, "cut off"),
    "cut stream that is whole in the end": Scene("truncate after=3 times=2", Outcome(3, completed=True)),
    "reset": Scene("reset after=3 times=1", Outcome(2, completed=True)),
    "interrupted": Scene("insufficient_system_resource times=1", Outcome(2, completed=True)),
}
OVERLOAD: Final = {
    # Only the newest waits; with five retries it takes half a minute.
    NEWEST: Scene("503", Outcome(2, completed=False), "overloaded", ONE_RETRY),
    OLDER: Scene("503", STOPS, "at capacity"),
    OLDEST: Scene("503", STOPS, "at capacity"),
}


@pytest.mark.parametrize("version", [NEWEST, OLDER, OLDEST])
def test_failures(tmp_path: Path, start: Start, backend: Backend, version: str) -> None:
    gateway = start("quick", retry_max_seconds=0.1)
    backend.refusals_expected = True
    scenes = {**SCENES, "overload": OVERLOAD[version]}

    def play(name: str) -> Run:
        folder = tmp_path / name.replace(" ", "-")
        folder.mkdir()
        prompt = f"Say hello to {name} [[simulate: fault {scenes[name].fault}]]"
        return Codex(folder, gateway, version).exec(prompt, config=scenes[name].config)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        runs = dict(zip(scenes, pool.map(play, scenes)))
    outcomes = {
        name: Outcome(backend.client_requests(f"to {name} [["), completed=run.code == 0)
        for name, run in runs.items()
    }
    assert outcomes == {name: scene.outcome for name, scene in scenes.items()}
    for name, scene in scenes.items():
        run = runs[name]
        assert (f"to {name}" in run.answer) if scene.outcome.completed else (scene.words in run.failure), run
