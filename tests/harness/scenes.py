"""Several handlers at once: each request names its scene in its prompt.

What takes seconds because a clock has to run out is played side by side, so that the suite stays fast.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

from harness.fake_upstream import FakeUpstream
from harness.gateway import PROMPT
from harness.wire import Handler, Request, Wire

_MARK: Final = re.compile(rb"\[scene ([^\]]*)\]")
Outcome = TypeVar("Outcome")


def prompt_of(scene: str) -> str:
    """The prompt by which the upstream knows the scene."""
    return f"{PROMPT} [scene {scene}]"


def scene_of(request: Request) -> str:
    found = _MARK.search(request.body)
    assert found, "a request without a scene"
    return found.group(1).decode()


def requests_of(upstream: FakeUpstream, scene: str) -> int:
    """How often the upstream was asked for this scene."""
    return sum(scene_of(request) == scene for request in upstream.requests)


def play(
    upstream: FakeUpstream, handlers: Mapping[str, Handler], act: Callable[[str], Outcome]
) -> dict[str, Outcome | BaseException]:
    """Runs `act(scene)` for all scenes at once; an act that raises leaves its exception as the outcome."""

    def handler(request: Request, wire: Wire) -> None:
        handlers[scene_of(request)](request, wire)

    def guarded(scene: str) -> Outcome | BaseException:
        try:
            return act(scene)
        except BaseException as failure:
            return failure

    upstream.serve(handler)
    with ThreadPoolExecutor(len(handlers)) as pool:
        return dict(zip(handlers, pool.map(guarded, handlers), strict=True))


def outcome_of(outcomes: Mapping[str, Outcome | BaseException], scene: str) -> Outcome:
    """What came of a scene; raises what its act raised."""
    outcome = outcomes[scene]
    if isinstance(outcome, BaseException):
        raise outcome
    return outcome
