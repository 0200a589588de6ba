"""One measurement: a fresh upstream, a fresh target, a warm-up, and a load that is watched from outside."""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import json
import os
import subprocess
import sys
import time
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from benchmarks import bodies
from benchmarks.load import Load, Plan, Result
from benchmarks.meter import Meter, Usage, cpu_ns
from benchmarks.scenarios import Scenario
from benchmarks.targets import Target, end, running, spawn

START_SECONDS: Final = 30
SAMPLE_SECONDS: Final = 0.2
SETTLE_SECONDS: Final = 0.3


@dataclass(frozen=True, slots=True)
class Cores:
    """The target's own, and those of the rig: upstream and load generator."""

    target: set[int]
    rig: set[int]

    @classmethod
    def of_this_machine(cls) -> Cores:
        allowed = sorted(os.sched_getaffinity(0))
        return cls({allowed[0]}, set(allowed[1:3])) if len(allowed) > 1 else cls(set(allowed), set(allowed))


@dataclass(frozen=True, slots=True)
class Measurement:
    """`usage` is None where nothing stands in between. `rig_share` is how busy upstream and load generator
    kept their core; the busier one's, where each has its own."""

    target: str
    scenario: str
    round: int
    streams: int
    asked: int
    load: Result
    usage: Usage | None
    rig_share: float


def measure(target: Target, scenario: Scenario, number: int, cores: Cores) -> Measurement:
    """Runs one scenario against one target. Raises `RuntimeError` where the target does not come up."""
    body = bodies.responses_body(scenario.body_bytes, store=target.store).decode()
    with _upstream(cores) as upstream, running(target, upstream.port, cores.target) as ready:
        warming = scenario.warming()
        upstream.answer_as(warming)
        _wait_until_it_answers(_plan(target, ready.port, replace(warming, streams=1, requests=1), body))
        _run(_plan(target, ready.port, warming, body), cores)
        upstream.answer_as(scenario)
        time.sleep(SETTLE_SECONDS)
        meter = Meter(ready.pid) if ready.pid is not None else None
        before = cpu_ns(upstream.pid)
        load = _run(_plan(target, ready.port, scenario, body), cores, meter)
        usage = meter.result() if meter else None
        served = (cpu_ns(upstream.pid) - before) / 1e9
    parts = (served, load.cpu_seconds)
    busiest = max(parts) if len(cores.rig) > 1 else sum(parts)
    asked = scenario.streams * scenario.requests
    return Measurement(
        target.name, scenario.name, number, scenario.streams, asked, load, usage, busiest / load.wall_seconds
    )


def _plan(target: Target, port: int, scenario: Scenario, body: str) -> Plan:
    return Plan(
        port=port,
        path=target.path,
        body=body,
        head=target.head,
        last=target.last,
        streams=scenario.streams,
        requests=scenario.requests,
        tokens=scenario.tokens,
        ramp_seconds=scenario.ramp_seconds,
        limit_seconds=scenario.limit_seconds,
    )


def _wait_until_it_answers(plan: Plan) -> None:
    deadline = time.monotonic() + START_SECONDS
    while (result := Load(plan).run()).good == 0:
        if time.monotonic() > deadline:
            raise RuntimeError(f"the target does not answer as it should: {result.errors}")
        time.sleep(0.05)


def _run(plan: Plan, cores: Cores, meter: Meter | None = None) -> Result:
    command = [sys.executable, "-m", "benchmarks.load"]
    with spawn(command, {max(cores.rig)}, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        with process.stdin as plan_file:
            plan_file.write(json.dumps(dataclasses.asdict(plan)).encode())
        while process.poll() is None:
            time.sleep(SAMPLE_SECONDS)
            if meter:
                meter.sample()
        return Result(**json.load(process.stdout))


@dataclass(frozen=True, slots=True)
class _Upstream:
    pid: int
    port: int

    def answer_as(self, scenario: Scenario) -> None:
        chosen = {
            "tokens": scenario.tokens,
            "gap_ns": int(scenario.gap_seconds * 1e9),
            "per_write": scenario.per_write,
        }
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        connection.request("PUT", "/?" + urllib.parse.urlencode(chosen))
        connection.getresponse().read()
        connection.close()


@contextlib.contextmanager
def _upstream(cores: Cores) -> Iterator[_Upstream]:
    process = spawn([sys.executable, "-m", "benchmarks.upstream"], {min(cores.rig)}, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        with process.stdout:
            yield _Upstream(process.pid, int(process.stdout.readline()))
    finally:
        end(process)
