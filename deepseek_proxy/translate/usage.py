"""Token counts in each dialect's own words. All are integers; cost is not computed here."""

from __future__ import annotations

from typing import Any

from deepseek_proxy.translate.hub import Usage


def added(one: Usage | None, other: Usage | None) -> Usage | None:
    """The counts of two turns together; None where neither has any."""
    if one is None or other is None:
        return one or other
    return Usage(*map(sum, zip(one, other, strict=True)))


def chat_usage(usage: Usage) -> dict[str, Any]:
    """`CompletionUsage` of OpenAI's Chat Completions, with DeepSeek's two own counts of the prompt."""
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "prompt_cache_hit_tokens": usage.cached_tokens,
        "prompt_cache_miss_tokens": usage.prompt_tokens - usage.cached_tokens,
    }


def responses_usage(usage: Usage, total_of: Usage | None = None) -> dict[str, Any]:
    """`ResponseUsage`. openai-python 3.52 requires `cache_write_tokens`; DeepSeek bills none.

    `total_of` are the tokens that `total_tokens` is of, where those are not all.
    """
    total = total_of or usage
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {"cached_tokens": usage.cached_tokens, "cache_write_tokens": 0},
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "total_tokens": total.prompt_tokens + total.completion_tokens,
    }
