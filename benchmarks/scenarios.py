"""What is asked of a target, as data. The targets of each figure are those of `docs/performance.md`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

MIN_TOKENS: Final = 3


@dataclass(frozen=True, slots=True)
class Scenario:
    """A load, and the figure that counts.

    `streams` are open at a time, begun over `ramp_seconds`; each connection makes `requests`, one after the
    other. An answer has `tokens`, one every `gap_seconds` (0: as fast as they are taken, `per_write` in one
    write). `body_bytes` is the size of a request; 0: a small one. `figure` is a key of `report.FIGURES`.
    `stored`: what storing costs is measured, and not what the gateway does.
    """

    name: str
    about: str
    figure: str
    goal: str
    streams: int
    tokens: int
    requests: int = 1
    gap_seconds: float = 0
    per_write: int = 1
    ramp_seconds: float = 0
    body_bytes: int = 0
    limit_seconds: float = 40
    stored: bool = False

    def scaled(self, factor: float) -> Scenario:
        """A smaller or larger load of the same kind; the goals do not apply to it."""
        if factor == 1:
            return self
        return replace(
            self,
            streams=max(1, round(self.streams * factor)),
            requests=max(1, round(self.requests * factor)),
            tokens=max(min(self.tokens, MIN_TOKENS), round(self.tokens * factor)),
            ramp_seconds=self.ramp_seconds * factor,
        )

    def warming(self) -> Scenario:
        """A short load of the same kind that fills pools and caches."""
        return replace(
            self,
            streams=min(self.streams, 32),
            requests=min(self.requests, 20) if self.streams == 1 else 1,
            tokens=min(self.tokens, 50),
            gap_seconds=0,
            ramp_seconds=0,
        )


_ALL: Final = (
    Scenario(
        "paced",
        "200 streams, a token every 20 ms: a realistic decode",
        figure="cpu_us_per_token",
        goal="at most 3.2 x nginx, and 0.15 ms of added latency",
        streams=200,
        tokens=300,
        gap_seconds=0.02,
        ramp_seconds=0.4,
    ),
    Scenario(
        "throughput",
        "32 streams of 500 tokens, as fast as they go",
        figure="cpu_us_per_token",
        goal="at most 4 x nginx",
        streams=32,
        requests=8,
        tokens=500,
        per_write=2,
    ),
    Scenario(
        "many",
        "2,000 open streams, a token every 500 ms",
        figure="kb_per_stream",
        goal="at most 60 KB per stream",
        streams=2000,
        tokens=10,
        gap_seconds=0.5,
        ramp_seconds=2,
    ),
    Scenario(
        "ttft",
        "one request at a time, one token",
        figure="added_ttft_ms",
        goal="at most 1.5 ms added",
        streams=1,
        requests=300,
        tokens=1,
    ),
    Scenario(
        "big",
        "2 MB of conversation in, one token out",
        figure="cpu_ms_per_request",
        goal="at most 40 ms of CPU per request",
        streams=1,
        requests=20,
        tokens=1,
        body_bytes=2_000_000,
    ),
    Scenario(
        "stored",
        "500 streams, a token every 50 ms, each kept in a store",
        figure="cpu_us_per_token",
        goal="at most 1.05 x the same without storing",
        streams=500,
        tokens=300,
        gap_seconds=0.05,
        ramp_seconds=5,
        stored=True,
    ),
)
SCENARIOS: Final[Mapping[str, Scenario]] = {scenario.name: scenario for scenario in _ALL}
