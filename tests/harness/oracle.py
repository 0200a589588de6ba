"""DeepSeek's own count of a prompt: `deepseek-recipe` renders and encodes it, with DeepSeek's tokenizer.

The published tokenizer lacks the one special token of V4.1's prompts; another one stands in for it, which
changes a number and no count.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import deepseek_recipe as recipe
from tokenizer.regenerate import published

_OPTIONS = (
    recipe.ConversionOptions(reasoning_content_behavior=recipe.ReasoningContentBehavior.Reject)
    .with_model_alias("deepseek-flash", recipe.ModelVersion.DeepseekV41Flash)
    .with_model_alias("deepseek-v4-pro", recipe.ModelVersion.DeepseekV4Pro)
)


@functools.cache
def tokenizer() -> recipe.Tokenizer:
    return recipe.Tokenizer.from_file(str(published()))


@functools.cache
def encoding(version: recipe.ModelVersion) -> Any:
    """Made once: it takes a copy of the tokenizer, which is slow."""
    if version == recipe.ModelVersion.DeepseekV41Flash:
        stand_in = recipe.SpecialTokens(system="<｜place▁holder▁no▁7｜>")
        return recipe.DeepseekV41Encoding().with_special_tokens(stand_in).with_tokenizer(tokenizer())
    return recipe.DeepseekV4Encoding().with_tokenizer(tokenizer())


def prompt_tokens(body: Mapping[str, Any]) -> int:
    """Tokens of the prompt of `body`; an image counts as one. Raises for what DeepSeek would refuse."""
    converted = recipe.ChatCompletionRequest(dict(body)).convert(_OPTIONS)
    return len(encoding(converted.model_version).encode(converted.conversation))


def image_tokens(width: int, height: int) -> int:
    """Tokens of an image of this size, as DeepSeek's preprocessing leaves it."""
    images = recipe.MultiModalData([recipe.ImageInfo(b"", width, height)])
    return int(images.image_token_adjustment()) + 1
