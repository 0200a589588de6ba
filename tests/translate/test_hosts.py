"""Requests as other hosts take them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from deepseek_proxy.translate.hosts import Host

ASSISTANT = {"role": "assistant", "content": "", "reasoning_content": "hm", "tool_calls": []}
REQUEST = {
    "model": "deepseek-flash",
    "messages": [{"role": "user", "content": "ä"}, ASSISTANT],
    "thinking": {"type": "enabled"},
    "reasoning_effort": "high",
    "stream": True,
}


def adapted(host: Host, **more: Any) -> dict[str, Any]:
    result: dict[str, Any] = json.loads(host.adapted(json.dumps({**REQUEST, **more}).encode()))
    return result


def test_deepseeks_own_needs_nothing() -> None:
    assert Host().is_deepseek
    assert Host(models={"deepseek-flash": "deepseek-flash"}).is_deepseek
    assert not Host(models={"deepseek-flash": "flash"}).is_deepseek
    assert not Host(omit=("thinking",)).is_deepseek
    assert adapted(Host()) == REQUEST


def test_the_model_has_the_hosts_name() -> None:
    host = Host(models={"deepseek-flash": "org/flash"})
    assert adapted(host)["model"] == "org/flash"
    assert adapted(host, model="other")["model"] == "other"


@pytest.mark.parametrize(("name", "kept"), [("reasoning", {"reasoning": "hm"}), ("", {})])
def test_thinking_has_the_hosts_name_or_is_left_out(name: str, kept: dict[str, str]) -> None:
    user, assistant = adapted(Host(reasoning_field=name))["messages"]
    assert user == REQUEST["messages"][0]
    assert assistant == {"role": "assistant", "content": "", **kept, "tool_calls": []}


def test_thinking_is_switched_as_the_host_does() -> None:
    host = Host(
        thinking_on={"chat_template_kwargs": {"thinking": True}}, thinking_off={"enable_thinking": False}
    )
    on, off = adapted(host), adapted(host, thinking={"type": "disabled"})
    assert "thinking" not in on
    assert on["chat_template_kwargs"] == {"thinking": True}
    assert "thinking" not in off
    assert off["enable_thinking"] is False


def test_what_a_host_does_not_take_is_left_out() -> None:
    assert "reasoning_effort" not in adapted(Host(omit=("reasoning_effort", "absent")))


def test_the_same_text_gives_the_same_text() -> None:
    host, body = Host(reasoning_field="reasoning"), json.dumps(REQUEST).encode()
    assert host.adapted(body) == host.adapted(body)


def test_a_request_without_messages_stays_one() -> None:
    assert json.loads(Host(reasoning_field="reasoning").adapted(b'{"model":"m","prompt":"x"}')) == {
        "model": "m",
        "prompt": "x",
    }
