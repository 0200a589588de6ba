"""`python -m benchmarks`: measures, prints, and ends with 0 whatever the figures are."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import platform
import resource
import sys
from pathlib import Path

from benchmarks import report
from benchmarks.measure import Cores, Measurement, measure
from benchmarks.scenarios import SCENARIOS
from benchmarks.targets import NGINX, available, stores


def main() -> None:
    chosen = _arguments()
    cores = Cores.of_this_machine()
    os.sched_setaffinity(0, cores.rig)
    _lift_file_limit()
    targets = available()
    print(f"Python {platform.python_version()}, {os.cpu_count()} cores, {chosen.rounds} rounds", flush=True)
    if NGINX not in targets:
        print("nginx is not installed: there is nothing to compare with.")
    if cores.target == cores.rig:
        print("There is one core only: target and load generator disturb each other.")
    everything: list[Measurement] = []
    for name in chosen.scenarios:
        scenario = SCENARIOS[name].scaled(chosen.scale)
        measured: list[Measurement] = []
        for number in range(chosen.rounds):
            for target in stores() if scenario.stored else targets:
                print(f"{name}, round {number + 1}, {target.name} ...", file=sys.stderr, flush=True)
                measured.append(measure(target, scenario, number, cores))
        print(f"\n{report.table(scenario, measured)}")
        for warning in report.warnings(measured):
            print(f"  warning: {warning}")
        sys.stdout.flush()
        everything += measured
    if chosen.json:
        chosen.json.write_text(json.dumps([dataclasses.asdict(each) for each in everything], indent=1))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measures the gateway and its stores, nginx that only passes bytes through, and "
        "nothing in between.",
    )
    parser.add_argument(
        "--scenarios",
        type=_names,
        default=list(SCENARIOS),
        metavar="NAMES",
        help=f"comma-separated; all of them: {','.join(SCENARIOS)}",
    )
    parser.add_argument("--rounds", type=int, default=3, help="how often each is measured (default: 3)")
    parser.add_argument("--scale", type=float, default=1, help="size of the load; the goals hold for 1")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every measurement to FILE")
    return parser.parse_args()


def _names(text: str) -> list[str]:
    names = text.split(",")
    if unknown := [name for name in names if name not in SCENARIOS]:
        raise argparse.ArgumentTypeError(f"no such scenario: {', '.join(unknown)}")
    return names


def _lift_file_limit() -> None:
    """Thousands of streams need thousands of descriptors; processes that are started inherit the limit."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


if __name__ == "__main__":
    main()
