"""Measurements -> a table in plain text: medians, their spread over the rounds, and ratios within a round."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from benchmarks.measure import Measurement
from benchmarks.scenarios import SCENARIOS, Scenario
from benchmarks.targets import DIRECT, GATEWAY, NGINX

BUSY_SHARE: Final = 0.8
_MILLISECONDS: Final = 1000
_MICROSECONDS: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Figure:
    """`of` a measurement, None where it does not apply; less is better."""

    title: str
    of: Callable[[Measurement], float | None]


def _per_token(measured: Measurement) -> float | None:
    usage, tokens = measured.usage, measured.load.tokens
    return usage.cpu_seconds * _MICROSECONDS / tokens if usage and tokens else None


def _per_request(measured: Measurement) -> float | None:
    usage, good = measured.usage, measured.load.good
    return usage.cpu_seconds * _MILLISECONDS / good if usage and good else None


def _per_stream(measured: Measurement) -> float | None:
    usage, streams = measured.usage, measured.streams
    return (usage.peak_kb - usage.idle_kb) / streams if usage else None


def _median_latency(measured: Measurement) -> float | None:
    return measured.load.latency["p50"] * _MILLISECONDS if measured.load.latency else None


def _median_first_token(measured: Measurement) -> float | None:
    return measured.load.first_token["p50"] * _MILLISECONDS if measured.load.first_token else None


CPU_PER_TOKEN: Final = Figure("CPU µs/token", _per_token)
CPU_PER_REQUEST: Final = Figure("CPU ms/request", _per_request)
MEMORY: Final = Figure("KB/stream", _per_stream)
LATENCY: Final = Figure("latency ms", _median_latency)
FIRST_TOKEN: Final = Figure("first token ms", _median_first_token)

# The first figure of a scenario is compared: with nginx, or with the gateway that stores nothing.
FIGURES: Final = {
    "paced": (CPU_PER_TOKEN, LATENCY),
    "throughput": (CPU_PER_TOKEN,),
    "many": (MEMORY, CPU_PER_TOKEN),
    "ttft": (FIRST_TOKEN, CPU_PER_REQUEST),
    "big": (CPU_PER_REQUEST, FIRST_TOKEN),
    "stored": (CPU_PER_TOKEN, CPU_PER_REQUEST, LATENCY),
}
ADDED: Final = {"paced": LATENCY, "ttft": FIRST_TOKEN}
"""Figures that say the most as a difference from what is there with nothing in between."""


def table(scenario: Scenario, measured: Sequence[Measurement]) -> str:
    """One scenario's part of the report."""
    figures = FIGURES[scenario.name]
    added = ADDED.get(scenario.name)
    base = GATEWAY if scenario.stored else NGINX
    header = ["", "good answers", *(figure.title for figure in figures), f"{figures[0].title} / {base.name}"]
    if added:
        header.append(f"added {added.title}")
    rows = [header]
    for name in dict.fromkeys(each.target for each in measured):
        own = [each for each in measured if each.target == name]
        row = [name, f"{sum(each.load.good for each in own)} of {sum(each.asked for each in own)}"]
        row += [spread(figure.of(each) for each in own) for figure in figures]
        row.append(spread(_against(figures[0], own, measured, base.name, lambda a, b: a / b)))
        if added:
            row.append(spread(_against(added, own, measured, DIRECT.name, lambda a, b: a - b)))
        rows.append(row)
    goal = f"\n  goal: {scenario.goal}" if scenario is SCENARIOS[scenario.name] else ""
    return f"{scenario.name}: {scenario.about}{goal}\n{_columns(rows)}"


def warnings(measured: Iterable[Measurement]) -> list[str]:
    """What makes figures doubtful, a line each."""
    found = []
    for each in measured:
        place = f"{each.scenario}, {each.target}, round {each.round + 1}"
        if each.usage and each.rig_share > BUSY_SHARE:
            found.append(
                f"{place}: fake upstream or load generator used {each.rig_share:.0%} of a core, "
                "so part of what was measured is the benchmark itself"
            )
        found += [f"{place}: {count} x {reason}" for reason, count in each.load.errors.items()]
    return found


def spread(values: Iterable[float | None]) -> str:
    """The median, and the smallest and largest value where there are several."""
    known = [value for value in values if value is not None]
    if not known:
        return "-"
    median = _number(statistics.median(known))
    return median if len(known) == 1 else f"{median} ({_number(min(known))}-{_number(max(known))})"


def _against(
    figure: Figure,
    own: Sequence[Measurement],
    measured: Sequence[Measurement],
    base: str,
    compare: Callable[[float, float], float],
) -> list[float]:
    """A figure of `own` compared with that of `base` in the same round."""
    bases = {each.round: figure.of(each) for each in measured if each.target == base}
    found = []
    for each in own:
        value, other = figure.of(each), bases.get(each.round)
        if value is not None and other:
            found.append(compare(value, other))
    return found


def _number(value: float) -> str:
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    return f"{value:.{digits}f}"


def _columns(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )
