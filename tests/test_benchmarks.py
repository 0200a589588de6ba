"""The benchmark at a tiny scale: every load runs, bad answers are noticed, and the arithmetic is right."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from harness.fake_upstream import FakeUpstream
from harness.programs import find
from harness.wire import Handler, Request, Wire

from benchmarks import report
from benchmarks.bodies import responses_body
from benchmarks.load import Load, Plan, Result
from benchmarks.measure import Cores, Measurement, measure
from benchmarks.meter import Usage
from benchmarks.scenarios import SCENARIOS
from benchmarks.targets import DIRECT

ROOT = Path(__file__).parents[1]


def test_the_command_measures_and_prints(tmp_path: Path) -> None:
    results = tmp_path / "results.json"
    options = ["--scenarios", "throughput", "--rounds", "1", "--scale", "0.02", "--json", str(results)]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", *options], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert "throughput: 32 streams" in done.stdout
    assert "CPU µs/token" in done.stdout
    measured = json.loads(results.read_text())
    targets = ["direct", "nginx", "gateway"] if find("nginx") else ["direct", "gateway"]
    assert [each["target"] for each in measured] == targets
    for each in measured:
        assert each["load"]["good"] == each["asked"] == 1
        assert each["load"]["tokens"] == 10
    assert measured[-1]["usage"]["cpu_seconds"] > 0


@pytest.mark.parametrize("name", SCENARIOS)
def test_every_load_runs(name: str) -> None:
    scenario = SCENARIOS[name].scaled(0.02)
    measured = measure(DIRECT, scenario, 0, Cores.of_this_machine())
    assert measured.load.errors == {}
    assert measured.load.good == measured.asked == scenario.streams * scenario.requests
    assert measured.load.tokens == measured.asked * scenario.tokens
    latency, gap = measured.load.latency["p50"], scenario.gap_seconds
    assert 0 < latency < 0.1
    assert measured.load.wall_seconds > gap * 0.8 * scenario.tokens


@pytest.mark.parametrize("size", [0, 100_000])
def test_a_body_has_its_size_and_is_the_same_every_time(size: int) -> None:
    body = responses_body(size)
    assert size <= len(body) < size + 50_000
    assert body == responses_body(size)
    assert json.loads(body)["stream"] is True


# -- the load generator ---------------------------------------------------------------------------

TOKEN = b'data: {"delta":"~0000000000000001"}\n\n'


@pytest.fixture
def upstream() -> Iterator[FakeUpstream]:
    server = FakeUpstream()
    yield server
    server.close()


def answers(*chunks: bytes, end: bool = True) -> Handler:
    def handler(_: Request, wire: Wire) -> None:
        wire.start_stream()
        for chunk in chunks:
            wire.chunk(chunk)
        if end:
            wire.end()

    return handler


def load(upstream: FakeUpstream, handler: Handler, **changes: float) -> Result:
    upstream.serve(handler)
    plan = Plan(
        port=upstream.port,
        path="/",
        body="{}",
        head='"delta":"~',
        last="event: good",
        streams=1,
        requests=2,
        tokens=2,
        ramp_seconds=0,
        limit_seconds=5,
    )
    return Load(replace(plan, **changes)).run()  # type: ignore[arg-type]


def test_good_answers_are_counted(upstream: FakeUpstream) -> None:
    result = load(upstream, answers(TOKEN, TOKEN, b'event: good\ndata: {"text":"~0000000000000001"}\n\n'))
    assert (result.good, result.tokens, result.errors) == (2, 4, {})
    assert (len(upstream.requests), upstream.connections) == (2, 1)
    assert upstream.requests[0].body == b"{}"


def test_events_may_be_split_anywhere(upstream: FakeUpstream) -> None:
    content = TOKEN + TOKEN + b"event: good\n\n"
    pieces = [content[start : start + 7] for start in range(0, len(content), 7)]
    assert load(upstream, answers(*pieces)).good == 2


@pytest.mark.parametrize(
    ("handler", "reason"),
    [
        (answers(TOKEN, TOKEN, b"event: failed\n\n"), "failed"),
        (answers(TOKEN, b"event: good\n\n"), "tokens are missing"),
        (answers(TOKEN, end=False), "cut"),
        (lambda _, wire: wire.respond(503, b""), "status 503"),
        (lambda _, wire: wire.close(), "closed"),
    ],
)
def test_bad_answers_are_not(upstream: FakeUpstream, handler: Handler, reason: str) -> None:
    result = load(upstream, handler)
    assert (result.good, result.errors) == (0, {reason: 2})


def test_what_takes_too_long_is_bad(upstream: FakeUpstream) -> None:
    result = load(upstream, lambda _, wire: wire.wait_closed(10), limit_seconds=0.2)
    assert result.errors == {"not done in time": 2}


# -- the report -----------------------------------------------------------------------------------


def measured(
    target: str, number: int, cpu_seconds: float, latency: float, rig_share: float = 0.5
) -> Measurement:
    usage = Usage(cpu_seconds, 0.5, 10, 1000, 2000) if target != "direct" else None
    percentiles = {"p50": latency, "p95": latency, "p99": latency}
    result = Result(100, 1000, 1, 0.5, percentiles, percentiles)
    return Measurement(target, "paced", number, 100, 100, result, usage, rig_share)


def test_figures_are_compared_within_their_round() -> None:
    """The second round was four times as slow for everybody: the ratio does not see it."""
    text = report.table(
        SCENARIOS["paced"],
        [
            measured("direct", 0, 0, 0.0001),
            measured("nginx", 0, 0.01, 0.0002),
            measured("gateway", 0, 0.02, 0.0004),
            measured("direct", 1, 0, 0.0004),
            measured("nginx", 1, 0.04, 0.0008),
            measured("gateway", 1, 0.12, 0.0016),
        ],
    )
    gateway = text.splitlines()[-1]
    assert gateway.split("  ")[1] == "gateway"
    assert "200 of 200" in gateway
    assert "70.0 (20.0-120)" in gateway  # CPU µs per token
    assert "1.00 (0.40-1.60)" in gateway  # latency, ms
    assert "2.50 (2.00-3.00)" in gateway  # times nginx
    assert "0.75 (0.30-1.20)" in gateway  # added latency, ms
    assert "goal: at most 3.2 x nginx" in text


def test_without_nginx_there_is_no_ratio() -> None:
    text = report.table(SCENARIOS["paced"], [measured("gateway", 0, 0.02, 0.0004)])
    assert text.splitlines()[-1].split() == ["gateway", "100", "of", "100", "20.0", "0.40", "-", "-"]


def test_other_sizes_have_no_goals() -> None:
    scenario = SCENARIOS["paced"].scaled(0.1)
    assert "goal" not in report.table(scenario, [measured("gateway", 0, 0.02, 0.0004)])


def test_doubtful_figures_are_named() -> None:
    doubtful = measured("gateway", 1, 0.02, 0.0004, rig_share=0.93)
    doubtful.load.errors["cut"] = 3
    share, errors = report.warnings([measured("nginx", 0, 0.01, 0.0002), doubtful])
    assert share.startswith("paced, gateway, round 2: ")
    assert "93% of a core" in share
    assert errors == "paced, gateway, round 2: 3 x cut"
