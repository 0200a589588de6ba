from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from deepseek_proxy import models
from deepseek_proxy.translate import reasoning

Check = Callable[[dict[str, Any]], tuple[int, str | None]]

DISABLED = {"thinking": {"type": "disabled"}}


def enabled(effort: str) -> dict[str, Any]:
    return {"thinking": {"type": "enabled"}, "reasoning_effort": effort}


def fields(effort: str | None, *, alias: bool | None = None, forced: bool = False) -> dict[str, Any]:
    return reasoning.choose(effort, alias=alias, forced_tool=forced, default_effort="high").fields()


@pytest.mark.parametrize(
    ("effort", "expected"),
    [
        ("none", DISABLED),
        ("minimal", enabled("low")),
        ("low", enabled("low")),
        ("medium", enabled("high")),
        ("high", enabled("high")),
        ("xhigh", enabled("high")),
        ("max", enabled("max")),
        ("ultra", enabled("max")),
    ],
)
def test_each_effort_of_a_client(effort: str, expected: dict[str, Any]) -> None:
    assert fields(effort) == expected


def test_the_effort_table_is_tested_whole() -> None:
    assert set(reasoning.EFFORTS) == {"none", "minimal", "low", "medium", "high", "xhigh", "max", "ultra"}


@pytest.mark.parametrize("effort", [None, "", "HIGH", "extreme"])
def test_no_effort_and_an_unknown_one_mean_the_models_default(effort: str | None) -> None:
    mode = reasoning.choose(effort, alias=None, forced_tool=False, default_effort="low")
    assert mode.fields() == enabled("low")


@pytest.mark.parametrize(
    ("effort", "alias", "forced", "expected"),
    [
        (None, False, False, DISABLED),
        (None, True, False, enabled("high")),
        ("extreme", False, False, DISABLED),
        # the client's effort wins over the alias
        ("max", False, False, enabled("max")),
        ("none", True, False, DISABLED),
        # a forced tool wins over everything
        (None, None, True, DISABLED),
        ("max", None, True, DISABLED),
        ("max", True, True, DISABLED),
    ],
)
def test_precedence(effort: str | None, alias: bool | None, forced: bool, expected: dict[str, Any]) -> None:
    assert fields(effort, alias=alias, forced=forced) == expected


@pytest.mark.parametrize(
    ("switch", "effort", "alias", "forced", "expected"),
    [
        (False, "max", True, False, DISABLED),
        (True, "none", None, False, enabled("high")),  # as DeepSeek does
        (True, None, False, False, enabled("high")),
        (True, "low", None, False, enabled("low")),
        (True, None, None, True, DISABLED),
    ],
)
def test_deepseeks_own_switch_wins_over_the_effort_and_the_name(
    switch: bool, effort: str | None, alias: bool | None, forced: bool, expected: dict[str, Any]
) -> None:
    mode = reasoning.choose(effort, alias=alias, forced_tool=forced, default_effort="high", switch=switch)
    assert mode.fields() == expected


def test_a_forced_tool_is_accepted_only_because_thinking_goes_off(deepseek_check: Check) -> None:
    body = {
        "model": models.FLASH.id,
        "messages": [{"role": "user", "content": "Hi"}],
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}],
        "tool_choice": "required",
    }
    assert deepseek_check({**body, **fields("high", forced=True)}) == (200, None)
    status, error = deepseek_check({**body, **fields("high")})
    assert (status, error) == (400, "Thinking mode does not support this tool_choice")


@pytest.mark.parametrize("model", models.MODELS.values(), ids=lambda model: model.id)
@pytest.mark.parametrize("effort", [None, *reasoning.EFFORTS])
def test_deepseek_accepts_every_mode(deepseek_check: Check, model: models.Model, effort: str | None) -> None:
    mode = reasoning.choose(effort, alias=None, forced_tool=False, default_effort=model.default_effort)
    body = {"model": model.id, "messages": [{"role": "user", "content": "Hi"}], **mode.fields()}
    assert deepseek_check(body) == (200, None)
    assert mode.enabled is (effort != "none")
    assert mode.effort is None or mode.effort in model.effort_levels
