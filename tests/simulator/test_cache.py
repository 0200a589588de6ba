"""The cache hits what DeepSeek's would: the longest prefix of whole blocks, and nothing behind a change."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from werkzeug.test import TestResponse

from deepseek_proxy.simulator import cache
from deepseek_proxy.simulator.cache import PrefixCache
from deepseek_proxy.simulator.request import ChatRequest

Ask = Callable[..., TestResponse]
LONG = "A sentence that is there to be long enough. " * 40
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}


def hit(answer: TestResponse) -> int:
    usage = answer.get_json()["usage"]
    assert usage["prompt_cache_hit_tokens"] + usage["prompt_cache_miss_tokens"] == usage["prompt_tokens"]
    assert usage["prompt_tokens_details"]["cached_tokens"] == usage["prompt_cache_hit_tokens"]
    hit_tokens: int = usage["prompt_cache_hit_tokens"]
    assert hit_tokens % cache.BLOCK_TOKENS == 0
    return hit_tokens


def turn(ask: Ask, messages: list[dict[str, Any]], **body: Any) -> tuple[TestResponse, list[dict[str, Any]]]:
    """One turn, and the messages with the answer added."""
    answer = ask(messages, **body)
    return answer, [*messages, answer.get_json()["choices"][0]["message"]]


def test_a_conversation_that_only_grows_hits_nearly_all(ask: Ask) -> None:
    messages = [{"role": "system", "content": LONG}, {"role": "user", "content": "hi"}]
    answer, messages = turn(ask, messages, tools=[TOOL])
    assert hit(answer) == 0
    for question in ("Why?", "How?"):
        before = answer.get_json()["usage"]
        (call,) = messages[-1].get("tool_calls") or [None]
        if call:
            messages.append({"role": "tool", "tool_call_id": call["id"], "content": LONG})
        messages.append({"role": "user", "content": question})
        answer, messages = turn(ask, messages, tools=[TOOL])
        assert hit(answer) > before["prompt_tokens"] - cache.BLOCK_TOKENS


CHANGES: dict[str, dict[str, Any]] = {
    "effort": {"reasoning_effort": "max"},
    "thinking": {"thinking": {"type": "disabled"}},
    "tools": {"tools": [{"type": "function", "function": {"name": "g"}}, TOOL]},
    "no tools": {"tool_choice": "none"},
    "user": {"user_id": "somebody-else"},
    "model": {"model": "deepseek-v4-pro"},
    "key": {"headers": {"Authorization": "Bearer sk-another-key"}},
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_what_loses_the_whole_prefix(change: dict[str, Any], ask: Ask) -> None:
    messages = [{"role": "user", "content": LONG}]
    body: dict[str, Any] = {"tools": [TOOL]}
    ask(messages, **body)
    assert hit(ask(messages, **body)) > 0
    assert hit(ask(messages, **{**body, **change})) == 0


def test_a_change_in_the_middle_keeps_what_is_before_it(ask: Ask) -> None:
    def messages(middle: str) -> list[dict[str, Any]]:
        return [
            {"role": role, "content": text}
            for role, text in (("system", LONG), ("user", middle), ("user", LONG))
        ]

    ask(messages("one"))
    before = len(LONG) // 4
    assert before - 2 * cache.BLOCK_TOKENS < hit(ask(messages("two"))) <= before
    assert hit(ask(messages("one"))) > before


def rendered(messages: list[dict[str, Any]], **body: Any) -> bytes:
    return cache.render(ChatRequest({"model": "deepseek-flash", "messages": messages, **body}, "k"))


def test_earlier_thinking_counts_only_with_tools() -> None:
    said = {"role": "assistant", "content": "b", "reasoning_content": "SECRET"}
    messages = [{"role": "user", "content": "a"}, said, {"role": "user", "content": "c"}]
    assert b"SECRET" not in rendered(messages)
    assert b"SECRET" in rendered(messages, tools=[TOOL])
    assert b"SECRET" in rendered(messages[:2]), "since the last user message it always counts"


def test_where_system_messages_stand() -> None:
    late = {"role": "system", "content": "LATE"}
    messages = [{"role": "system", "content": "FIRST"}, {"role": "user", "content": "QUESTION"}, late]
    flash = rendered(messages)
    assert flash.index(b"QUESTION") < flash.index(b"LATE")
    pro = rendered(messages, model="deepseek-v4-pro")
    assert pro.index(b"LATE") < pro.index(b"QUESTION"), "hoisted to the front"


def test_images_count_on_the_model_that_sees() -> None:
    messages = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://x"}}]}]
    extra = len(rendered(messages)) - len(rendered(messages, model="deepseek-v4-pro"))
    assert extra == cache.IMAGE_TOKENS * 4


def test_memory_is_bounded() -> None:
    prefixes = PrefixCache(max_blocks=4)
    asked = ChatRequest({"model": "deepseek-flash", "messages": []}, "k")
    old, new = b"a" * 1024, b"b" * 1024
    prefixes.remember(asked, old)
    assert prefixes.hit_tokens(asked, old + b"x") == 4 * cache.BLOCK_TOKENS
    prefixes.remember(asked, new)
    assert prefixes.hit_tokens(asked, old + b"x") == 0
    assert prefixes.hit_tokens(asked, new) == 3 * cache.BLOCK_TOKENS, "never the whole prompt"
    prefixes.clear()
    assert prefixes.hit_tokens(asked, new) == 0
