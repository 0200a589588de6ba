"""A conversation is known again by its beginning."""

from __future__ import annotations

from typing import Any

from deepseek_proxy.translate.affinity import affinity

SYSTEM = {"role": "system", "content": "be brief"}
FIRST = {"role": "user", "content": "hello"}


def named(*messages: Any, model: str = "deepseek-flash", key: str | None = None) -> str | None:
    return affinity({"model": model, "messages": list(messages)}, key)


def test_a_conversation_that_goes_on_keeps_its_name() -> None:
    later = ({"role": "assistant", "content": "hi"}, {"role": "user", "content": "and?"})
    assert named(SYSTEM, FIRST) == named(SYSTEM, FIRST, *later)


def test_another_beginning_or_another_model_is_another_conversation() -> None:
    names = {
        named(SYSTEM, FIRST),
        named(SYSTEM, {"role": "user", "content": "other"}),
        named(FIRST),
        named(SYSTEM, FIRST, model="deepseek-v4-pro"),
    }
    assert len(names) == 4
    assert named() is None


def test_the_clients_own_name_counts_before_the_beginning() -> None:
    assert named(SYSTEM, FIRST, key="k") == named(FIRST, key="k") != named(FIRST)
    assert named(FIRST, key="k") != named(FIRST, key="k", model="deepseek-v4-pro")
    assert named(FIRST, key="\ud800")
    assert len(named(FIRST) or "") == 24
