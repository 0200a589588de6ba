from __future__ import annotations

from openai.types import CompletionUsage
from openai.types.responses import ResponseUsage

from deepseek_proxy.translate.hub import Usage
from deepseek_proxy.translate.usage import chat_usage, responses_usage


def test_usage_in_the_words_of_the_responses_api() -> None:
    usage = responses_usage(Usage(40, 32, 9, 4))
    assert usage == {
        "input_tokens": 40,
        "input_tokens_details": {"cached_tokens": 32, "cache_write_tokens": 0},
        "output_tokens": 9,
        "output_tokens_details": {"reasoning_tokens": 4},
        "total_tokens": 49,
    }
    ResponseUsage.model_validate(usage, strict=True)


def test_usage_in_the_words_of_chat_completions() -> None:
    usage = chat_usage(Usage(40, 32, 9, 4))
    assert usage == {
        "prompt_tokens": 40,
        "completion_tokens": 9,
        "total_tokens": 49,
        "prompt_tokens_details": {"cached_tokens": 32},
        "completion_tokens_details": {"reasoning_tokens": 4},
        "prompt_cache_hit_tokens": 32,
        "prompt_cache_miss_tokens": 8,
    }
    CompletionUsage.model_validate(usage, strict=True)
