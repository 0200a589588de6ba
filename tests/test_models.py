"""The catalogue: what an answer costs, when the higher prices hold, and whom a name stands for."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from deepseek_proxy.models import ALIASES, FLASH, MODELS, PRO, Cost, cost, is_peak, resolve

MONDAY = datetime(2026, 11, 16, tzinfo=UTC)
MILLION = 1_000_000


@pytest.mark.parametrize(
    ("hour", "minute", "peak"),
    [
        (0, 59, False),
        (1, 0, True),
        (3, 59, True),
        (4, 0, False),
        (5, 59, False),
        (6, 0, True),
        (9, 59, True),
        (10, 0, False),
        (23, 0, False),
    ],
)
def test_peak_hours_include_their_first_minute_and_not_their_end(hour, minute, peak):
    assert is_peak(MONDAY.replace(hour=hour, minute=minute)) is peak


def test_peak_hours_are_from_monday_to_friday():
    days = [is_peak(MONDAY + timedelta(days=day, hours=2)) for day in range(7)]
    assert days == [True] * 5 + [False] * 2


def test_the_hour_is_that_of_the_moment_wherever_it_is_told():
    beijing = timezone(timedelta(hours=8))
    assert is_peak(datetime(2026, 11, 16, 9, 0, tzinfo=beijing))
    assert not is_peak(datetime(2026, 11, 16, 12, 0, tzinfo=beijing))
    # Sunday evening in California, Monday morning in Beijing.
    assert is_peak(datetime(2026, 11, 15, 17, 30, tzinfo=timezone(timedelta(hours=-8))))


@pytest.mark.parametrize(("hour", "factor"), [(0, 1), (2, 2)])
@pytest.mark.parametrize(
    ("model", "hit", "miss", "output"), [(FLASH, 0.003, 0.15, 0.60), (PRO, 0.022, 0.66, 1.98)]
)
def test_a_million_tokens_of_each_kind_cost_what_the_table_says(model, hit, miss, output, hour, factor):
    moment = MONDAY.replace(hour=hour)
    for kind, price in (("cache_hit", hit), ("cache_miss", miss), ("output", output)):
        tokens = {"cache_hit": 0, "cache_miss": 0, "output": 0, kind: MILLION}
        assert cost(model, moment, **tokens).spent == pytest.approx(price * factor)


def test_the_cache_saves_the_difference_and_only_on_what_it_had():
    found = cost(FLASH, MONDAY, cache_hit=900_000, cache_miss=100_000, output=1000)
    assert found.spent == pytest.approx(0.0027 + 0.015 + 0.0006)
    assert found.saved == pytest.approx(0.135 - 0.0027)
    without = cost(FLASH, MONDAY, cache_hit=0, cache_miss=MILLION, output=1000)
    assert without.saved == 0
    assert found.spent + found.saved == pytest.approx(without.spent)


def test_nothing_costs_nothing():
    assert cost(PRO, MONDAY, cache_hit=0, cache_miss=0, output=0) == Cost(0, 0)


def test_the_operators_names_win_over_the_built_in_ones_and_unknown_ones_need_a_default():
    assert resolve("deepseek-chat", {}, None).thinking is False
    assert resolve("deepseek-chat", {"deepseek-chat": PRO.id}, None).model is PRO
    assert resolve("gpt-5", {}, None) is None
    assert resolve("gpt-5", {}, "deepseek-reasoner").thinking is True
    assert resolve("gpt-5", {}, "gpt-5") is None
    assert {alias.model.id for alias in ALIASES.values()} <= set(MODELS)


@pytest.mark.parametrize(
    ("name", "model", "thinking", "search"),
    [
        ("deepseek-flash", FLASH, None, False),
        ("deepseek-flash-search", FLASH, None, True),
        ("deepseek-v4-pro-search", PRO, None, True),
        ("deepseek-chat-search", FLASH, False, True),
        ("deepseek-r1-search", FLASH, True, True),
        ("team", PRO, None, False),
        ("team-search", PRO, None, True),
        ("finder", FLASH, True, True),
        ("plain-search", PRO, None, False),  # the operator's word
        ("gpt-9", FLASH, False, False),
        ("gpt-9-search", FLASH, False, True),
    ],
)
def test_a_suffix_lets_any_model_search(name, model, thinking, search):
    aliases = {
        "team": "deepseek-v4-pro",
        "finder": "deepseek-r1-search",
        "plain-search": "deepseek-v4-pro",
    }
    found = resolve(name, aliases, "deepseek-chat")
    assert (found.requested, found.model, found.thinking, found.search) == (name, model, thinking, search)


@pytest.mark.parametrize("name", ["gpt-9-search", "-search", "-search-search", ""])
def test_a_suffix_makes_no_model_of_an_unknown_name(name):
    assert resolve(name, {}, None) is None
