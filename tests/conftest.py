"""What every test may ask for: DeepSeek's own rules, from its `deepseek-recipe` package.

And no generated example has a time limit: how long one takes says how busy the machine is.
"""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Mapping
from typing import Any

import deepseek_recipe as recipe
import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "busy machine", settings.default, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("busy machine")

# `Reject` shows missing reasoning as DeepSeek does; the default fills it in silently.
OPTIONS = (
    recipe.ConversionOptions(reasoning_content_behavior=recipe.ReasoningContentBehavior.Reject)
    .with_model_alias("deepseek-flash", recipe.ModelVersion.DeepseekV41Flash)
    .with_model_alias("deepseek-v4-pro", recipe.ModelVersion.DeepseekV4Pro)
)


def pytest_configure() -> None:
    """What a shell starts in the background ignores Ctrl-C, and so would every server that a test starts."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def deepseek_check() -> Callable[[Mapping[str, Any]], tuple[int, str | None]]:
    """Body of a request -> (status, error message) as DeepSeek answers it; (200, None) for a good one."""

    def check(body: Mapping[str, Any]) -> tuple[int, str | None]:
        try:
            recipe.ChatCompletionRequest(json.dumps(body)).convert(OPTIONS)
        except recipe.ConversionError as error:
            return error.status_code, json.loads(error.body)["error"]["message"]
        except ValueError as error:  # the body does not fit the types
            return 422, str(error)
        return 200, None

    return check


@pytest.fixture(scope="session")
def deepseek_prompt() -> Callable[[Mapping[str, Any]], str]:
    """Body of a good request -> the prompt the model reads, up to where its own turn opens."""

    def prompt(body: Mapping[str, Any]) -> str:
        request = recipe.ChatCompletionRequest(json.dumps(body)).convert(OPTIONS)
        flash = request.model_version == recipe.ModelVersion.DeepseekV41Flash
        encoding = recipe.DeepseekV41Encoding() if flash else recipe.DeepseekV4Encoding()
        rendered: str = encoding.render_conversation(request.conversation).prompt
        return rendered.rpartition("<｜Assistant｜>")[0]

    return prompt
