"""The series of the store."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, generate_latest

from deepseek_proxy.ops.metrics import Metrics

PREFIX = "deepseek_proxy_store_"


def samples(registry: CollectorRegistry) -> dict[str, float]:
    lines = generate_latest(registry).decode().splitlines()
    pairs = (line.rsplit(" ", 1) for line in lines if line.startswith(PREFIX))
    return {name.removeprefix(PREFIX): float(value) for name, value in pairs}


def test_they_are_there_from_the_beginning() -> None:
    registry = CollectorRegistry()
    Metrics(registry)
    assert samples(registry) == {
        "bytes": 0,
        "responses": 0,
        "conversations": 0,
        "waiting_bytes": 0,
        "errors_total": 0,
        'lost_total{kind="events"}': 0,
        'lost_total{kind="response"}': 0,
        'lost_total{kind="thought"}': 0,
    }


def test_they_say_what_they_were_told() -> None:
    registry = CollectorRegistry()
    metrics = Metrics(registry).store
    metrics.held(1000, 20, 3)
    metrics.waiting(44)
    metrics.failed()
    metrics.failed()
    metrics.lost("events")
    found = samples(registry)
    assert (found["bytes"], found["responses"], found["conversations"]) == (1000, 20, 3)
    assert (found["waiting_bytes"], found["errors_total"]) == (44, 2)
    assert found['lost_total{kind="events"}'] == 1
