"""What the requests of a process share: tenants, ids, and which model a name stands for."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from deepseek_proxy.api.gateway import OWN_TENANT, current_gateway, new_id, tenant_of
from deepseek_proxy.models import FLASH, PRO, Resolved
from deepseek_proxy.pipeline import Pace

Make = Callable[..., Any]
"""Of `conftest`."""


def test_a_tenant_is_the_same_for_a_key_and_does_not_show_it() -> None:
    key = "sk-client-0123456789"
    assert tenant_of(key) == tenant_of(key)
    assert re.fullmatch(r"[0-9a-f]{32}", tenant_of(key))
    assert len({tenant_of(key), tenant_of(key + "0"), tenant_of(""), OWN_TENANT}) == 4


def test_a_tenant_survives_a_new_release() -> None:
    """What is sealed for a tenant has to open after an update."""
    assert tenant_of("sk-1") == "9da56d5c876a7d592eea3ec726b2c924"


def test_ids_are_new_and_long_enough() -> None:
    made = {new_id("resp") for _ in range(1000)}
    assert len(made) == 1000
    assert all(re.fullmatch(r"resp_[0-9a-f]{24}", each) for each in made)


def test_the_pace_is_the_settings(make: Make) -> None:
    gateway = make(heartbeat_seconds=3, progress_seconds=7).gateway
    assert gateway.pace == Pace(heartbeat=3, progress=7)


@pytest.mark.parametrize(
    ("name", "settings", "found"),
    [
        ("deepseek-v4-pro", {}, Resolved("deepseek-v4-pro", PRO)),
        ("deepseek-chat", {}, Resolved("deepseek-chat", FLASH, thinking=False)),
        ("gpt-5", {}, Resolved("gpt-5", FLASH)),
        ("gpt-5", {"default_model": "deepseek-v4-pro"}, Resolved("gpt-5", PRO)),
        ("gpt-5", {"unknown_models": "reject"}, None),
        ("gpt-5", {"unknown_models": "reject", "model_aliases": {"gpt-5": PRO.id}}, Resolved("gpt-5", PRO)),
        ("mine", {"model_aliases": {"mine": "deepseek-r1"}}, Resolved("mine", FLASH, thinking=True)),
        ("deepseek-flash", {"model_aliases": {"deepseek-flash": PRO.id}}, Resolved("deepseek-flash", PRO)),
    ],
)
def test_a_name_stands_for_a_model(
    make: Make, name: str, settings: dict[str, Any], found: Resolved | None
) -> None:
    assert make(**settings).gateway.resolve(name) == found


@pytest.mark.parametrize("mode", ["off", "deepseek"])
def test_a_request_may_search_where_the_operator_wants_it(make: Make, mode: str) -> None:
    gateway = make(web_search=mode).gateway
    assert (gateway.search_session() is not None) is (mode == "deepseek")


def test_the_current_one_is_the_applications(make: Make) -> None:
    one = make()
    with one.app.app_context():
        assert current_gateway() is one.gateway
