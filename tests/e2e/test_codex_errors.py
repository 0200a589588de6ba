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

PAGE: Final = Path(__file__).parents[2] / "docs" / "clients" / "codex.md"
AT_ONCE: Final = 8
ONE_RETRY: Final = {"model_providers.gateway.stream_max_retries": 1}


class Outcome(NamedTuple):
    """How many requests Codex made, and whether it completed the turn with an answer."""

    requests: int
    completed: bool


class Scene(NamedTuple):
    """What the simulator is told to do, the outcome, and words that the user reads."""

    directive: str
    outcome: Outcome
    words: str = ""
    config: dict[str, int] = {}


STOPS: Final = Outcome(1, completed=False)
GIVES_UP: Final = Outcome(6, completed=False)
GOES_ON: Final = Outcome(2, completed=True)
SCENES: Final = {
    "empty account": Scene("fault 402", STOPS, "Quota exceeded"),
    "wrong key": Scene("fault 401", STOPS, "refused the API key"),
    "context too long": Scene("fault context-length", STOPS, "ran out of room in the model's context window"),
    "moderation": Scene("fault content-risk", STOPS, "Content Exists Risk"),
    "filtered answer": Scene("fault content_filter", STOPS, "content filter cut the answer off"),
    "wrong request": Scene("fault 400 message=Nonsense", STOPS, "Nonsense"),
    "wrong address": Scene("fault html", STOPS, "Check upstream_url"),
    "rate limit": Scene("fault 429 retry-after=1", GIVES_UP, "Too many requests"),
    "rate limit that passes": Scene("fault 429 retry-after=1 times=4", GOES_ON),
    "overload": Scene("fault 503", Outcome(2, completed=False), "overloaded", ONE_RETRY),
    "overload that passes": Scene("fault 503 times=4", GOES_ON),
    "failure": Scene("fault 500", GIVES_UP, "DeepSeek failed"),
    "failure that passes": Scene("fault 500 times=4", GOES_ON),
    "cut stream": Scene("fault truncate after=3", GIVES_UP, "cut off"),
    "cut stream that is whole in the end": Scene(
        "fault truncate after=3 times=2", Outcome(3, completed=True)
    ),
    "reset": Scene("fault reset after=3 times=1", GOES_ON),
    "interrupted": Scene("fault insufficient_system_resource times=1", GOES_ON),
}
TOO_LONG: Final = {
    # An answer without room is called incomplete: 0.130 to 0.162 ask for its rest, 0.118 for all of it again.
    NEWEST: Scene("finish length", STOPS, "max_output_tokens"),
    OLDER: Scene("finish length", GOES_ON),
    OLDEST: Scene("finish length", GIVES_UP, "max_output_tokens"),
}


def test_the_users_page_explains_every_message() -> None:
    page = PAGE.read_text("utf-8")
    words = {scene.words for scene in (*SCENES.values(), *TOO_LONG.values())} - {"Nonsense"}
    assert [text for text in words if text not in page] == []


@pytest.mark.parametrize("version", [NEWEST, OLDER, OLDEST])
def test_failures(tmp_path: Path, start: Start, backend: Backend, version: str) -> None:
    gateway = start("quick", retry_max_seconds=0.1)
    backend.refusals_expected = True
    scenes = {**SCENES, "too long": TOO_LONG[version]}

    def play(name: str) -> Run:
        folder = tmp_path / name.replace(" ", "-")
        folder.mkdir()
        prompt = f"Say hello to {name} [[simulate: {scenes[name].directive}]]"
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
