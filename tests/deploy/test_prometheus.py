"""Alert rules, scrape configuration and dashboard: they parse, they fire, and what they ask for is there."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from harness.programs import program
from prometheus_client import CollectorRegistry

from deepseek_proxy.errors import RateLimited
from deepseek_proxy.ops.metrics import Level, Metrics
from deepseek_proxy.ops.record import RequestRecord
from deepseek_proxy.upstream.overview import LEVELS

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "prometheus"
RULES = yaml.safe_load((FOLDER / "alerts.yml").read_text())["groups"][0]["rules"]
DASHBOARD = json.loads((FOLDER / "grafana-dashboard.json").read_text())
OWN_LABELS = {"instance", "job"}
"""Prometheus adds these to what it scrapes."""


def promtool(*arguments: str | Path) -> str:
    """What Prometheus' own checker says of what it finds nothing wrong with."""
    done = subprocess.run(
        [program("promtool"), *arguments],
        cwd=FOLDER,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def dashboard_queries() -> Iterator[str]:
    for panel in DASHBOARD["panels"]:
        for target in panel["targets"]:
            query = target["expr"].replace("$__rate_interval", "5m").replace("$__range", "1h")
            yield query.replace("$instance", ".*")


QUERIES = [rule["expr"] for rule in RULES] + list(dashboard_queries())


@pytest.fixture(scope="module")
def exposed() -> dict[str, set[str]]:
    """Every series that the gateway has, with its labels."""
    metrics = Metrics(CollectorRegistry())
    metrics.observe_request(
        RequestRecord(
            request_id="r",
            dialect="responses",
            method="POST",
            path="/",
            status=200,
            duration_seconds=1,
            stream=True,
            first_token_seconds=1,
            input_tokens=2,
            cached_tokens=1,
            output_tokens=2,
            reasoning_tokens=1,
            client_gone=True,
            repairs={"a": 1},
            unknown_fields=("b",),
            account="a",
        )
    )
    metrics.upstream_failed(RateLimited("x"))
    metrics.seal_failed("foreign")
    levels = [Level(name, text, dict.fromkeys(labels, "x"), 1) for name, (text, labels) in LEVELS.items()]
    found: dict[str, set[str]] = {"up": set()}
    for name, labels in re.findall(
        r"^(deepseek_proxy_\w+)(?:\{(.*)\})? ", metrics.render(levels)[0].decode(), re.M
    ):
        found.setdefault(name, set()).update(re.findall(r"(\w+)=\"", labels))
    return found


@pytest.mark.parametrize("query", QUERIES, ids=range(len(QUERIES)))
def test_every_series_and_label_that_is_asked_for_is_there(query: str, exposed: dict[str, set[str]]) -> None:
    labels = set(OWN_LABELS)
    selectors = re.findall(r"\b(deepseek_proxy_\w+|up)\b(?:\{([^}]*)\})?", query)
    assert selectors
    for name, matchers in selectors:
        assert name in exposed, name
        labels |= exposed[name]
        assert set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", matchers)) <= exposed[name] | OWN_LABELS
    for group in re.findall(r"\bby \(([^)]*)\)", query):
        assert set(re.split(r",\s*", group)) <= labels


def test_every_series_is_on_the_dashboard(exposed: dict[str, set[str]]) -> None:
    shown = set(re.findall(r"deepseek_proxy_\w+", " ".join(dashboard_queries())))
    shown = {re.sub("_(bucket|sum|count)$", "", name) for name in shown}
    assert shown == {re.sub("_(bucket|sum|count)$", "", name) for name in exposed} - {"up"}


def test_kinds_and_reasons_in_queries_exist(exposed: dict[str, set[str]]) -> None:
    """A misspelt value of a label never matches, and an alert on it never fires."""
    metrics = Metrics(CollectorRegistry())
    kinds = set(re.findall(r'upstream_errors_total\{kind="(\w+)"\}', metrics.render()[0].decode()))
    kinds |= {"cache_hit", "cache_miss", "reasoning", "output"}
    for query in QUERIES:
        for value in re.findall(r'\bkind=~?"([^"]+)"', query):
            assert [kind for kind in kinds if re.fullmatch(value, kind)], value
            for word in re.findall(r"upstream_\((.*)\)", value):
                assert {f"upstream_{part}" for part in word.split("|")} <= kinds


def test_every_alert_says_what_happened_and_what_to_do() -> None:
    assert len({rule["alert"] for rule in RULES}) == len(RULES)
    for rule in RULES:
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert "instance" in rule["annotations"]["summary"]
        assert len(rule["annotations"]["description"]) > 40


def test_every_alert_is_shown_firing_and_silent() -> None:
    tests = yaml.safe_load((FOLDER / "alerts.test.yml").read_text())["tests"]
    cases = [case for test in tests for case in test["alert_rule_test"]]
    names = {rule["alert"] for rule in RULES}
    assert {case["alertname"] for case in cases if case.get("exp_alerts")} == names
    assert {case["alertname"] for case in cases if not case.get("exp_alerts")} == names


def test_promtool_accepts_the_rules_and_sees_them_fire() -> None:
    assert f"{len(RULES)} rules found" in promtool("check", "rules", "alerts.yml")
    assert "SUCCESS" in promtool("test", "rules", "alerts.test.yml")
    assert "SUCCESS" in promtool("check", "config", "--syntax-only", "prometheus.yml")


def test_promtool_accepts_the_queries_of_the_dashboard(tmp_path: Path) -> None:
    rules: list[dict[str, Any]] = [
        {"record": f"panel:{number}", "expr": query} for number, query in enumerate(dashboard_queries())
    ]
    file = tmp_path / "dashboard.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    assert f"{len(rules)} rules found" in promtool("check", "rules", file)


def test_the_dashboard_can_be_imported_anywhere() -> None:
    """No panel is bound to one data source, none lies upon another, and each says what it shows."""
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        assert panel["datasource"]["uid"] == "${datasource}"
        assert panel["title"]
        assert panel["description"]
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert place["x"] + place["w"] <= 24
        assert not cells & taken
        taken |= cells
        assert all("$instance" in target["expr"] for target in panel["targets"])
