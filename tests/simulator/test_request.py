from __future__ import annotations

from typing import Any

import pytest

from deepseek_proxy import models
from deepseek_proxy.simulator.request import ChatRequest, image_count, text_of

USER = {"role": "user", "content": "hi"}
TOOLS = [{"type": "function", "function": {"name": name}} for name in ("f", "g")]


def request(**body: Any) -> ChatRequest:
    return ChatRequest({"model": "deepseek-flash", "messages": [USER], **body}, "sk-x")


@pytest.mark.parametrize(
    ("body", "thinking", "effort", "limit"),
    [
        ({}, True, "high", 65_536),
        ({"reasoning_effort": "minimal"}, True, "low", 65_536),
        ({"reasoning_effort": "xhigh"}, True, "high", 65_536),
        ({"reasoning_effort": "ultra"}, True, "max", 131_072),
        ({"reasoning_effort": "none"}, False, "high", 8_192),
        ({"thinking": {"type": "disabled"}, "reasoning_effort": "max"}, False, "max", 8_192),
        ({"thinking": {"type": "enabled"}, "reasoning_effort": "none"}, True, "high", 65_536),
        ({"thinking": {"type": "adaptive"}, "max_tokens": 5}, True, "high", 5),
    ],
)
def test_mode(body: dict[str, Any], thinking: bool, effort: str, limit: int) -> None:
    asked = request(**body)
    assert (asked.thinking, asked.effort, asked.max_tokens) == (thinking, effort, limit)


def test_defaults() -> None:
    asked = request()
    assert (asked.stream, asked.include_usage, asked.json_mode, asked.must_call) == (False,) * 4
    assert (list(asked.stop), list(asked.tools), asked.forced_tool) == ([], [], None)
    assert request(stop="a").stop == ["a"]
    assert request(stream=True, stream_options={"include_usage": True}).include_usage


def test_model() -> None:
    assert request(model="deepseek-v4-flash").model is models.FLASH
    assert request(model="deepseek-v4-pro").model is models.PRO


def test_tools() -> None:
    named = {"type": "function", "function": {"name": "g"}}
    assert [tool["name"] for tool in request(tools=TOOLS).tools] == ["f", "g"]
    assert [tool["name"] for tool in request(tools=TOOLS, tool_choice=named).tools] == ["g"]
    assert request(tools=TOOLS, tool_choice="none").tools == []
    assert request(tools=TOOLS, tool_choice=named).must_call
    assert request(tools=TOOLS, tool_choice="required").must_call
    assert not request(tool_choice="required").must_call
    assert not request(tools=TOOLS, tool_choice="auto").must_call


def test_the_prompt_is_what_the_user_typed() -> None:
    said = {"role": "assistant", "content": "x"}
    image = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://x"}}]}
    block = {"role": "user", "content": "<environment_context>\n<cwd>/</cwd>\n</environment_context>"}
    asked = request(
        messages=[USER, said, {"role": "user", "content": "Go <b>on</b>"}, block, said, said, image]
    )
    assert (asked.prompt, asked.turn_number) == ("Go <b>on</b>", 2)
    assert request(messages=[block]).prompt == block["content"]
    empty = request(messages=[{"role": "system", "content": "x"}, said])
    assert (empty.prompt, empty.prompt_position, empty.turn_number) == ("", -1, 1)


def test_parts() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "image_url"}, {"type": "text", "text": "b"}]
    assert text_of({"content": parts}) == "a\n\nb"
    assert image_count({"content": parts}) == 1
    assert (text_of({"content": None}), text_of({}), image_count({"content": "x"})) == ("", "", 0)
