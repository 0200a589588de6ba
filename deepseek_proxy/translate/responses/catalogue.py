"""The model list, in one body that OpenAI's SDKs (`data`) and Codex (`models`) both read.

Codex rejects the whole catalogue, silently, for one malformed entry; the fields and values here were
accepted by its versions 0.118 to 0.169.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from deepseek_proxy.models import Model
from deepseek_proxy.translate.responses.codex_prompt import BASE_INSTRUCTIONS

_EFFORTS: Final = (
    ("none", "No thinking: the quickest answers"),
    ("low", "A little thinking, for simple work"),
    ("high", "Thorough thinking, for most work"),
    ("max", "As much thinking as it takes, for the hardest work"),
)
_TOOL_OUTPUT_TOKENS: Final = 10_000


def openai_model(model: Model, name: str | None = None) -> dict[str, Any]:
    """A `model` object of OpenAI's list; `name` is an alias under which it is shown."""
    return {
        "id": name or model.id,
        "object": "model",
        "created": model.released,
        "owned_by": "deepseek",
        "name": model.display_name,
        "context_window": model.context_window,
        "max_output_tokens": model.max_output_tokens,
        "input_modalities": _modalities(model),
        "output_modalities": ["text"],
    }


def codex_model(model: Model, priority: int, *, max_effort: bool) -> dict[str, Any]:
    """A `ModelInfo` of Codex's catalogue. `max_effort`: whether the client knows the effort `max`."""
    efforts = _EFFORTS if max_effort else _EFFORTS[:-1]
    return {
        "slug": model.id,
        "display_name": model.display_name,
        "description": model.description,
        "default_reasoning_level": model.default_effort,
        "supported_reasoning_levels": [{"effort": e, "description": text} for e, text in efforts],
        "shell_type": "unified_exec",
        "visibility": "list",
        "supported_in_api": True,
        "priority": priority,
        "additional_speed_tiers": [],
        "service_tiers": [],
        "availability_nux": None,
        "upgrade": None,
        "model_messages": None,
        "base_instructions": BASE_INSTRUCTIONS,
        "supports_reasoning_summaries": True,
        "supports_reasoning_summary_parameter": True,
        "default_reasoning_summary": "auto",
        "support_verbosity": False,
        "default_verbosity": None,
        "apply_patch_tool_type": "freeform",
        "web_search_tool_type": "text",
        "truncation_policy": {"mode": "tokens", "limit": _TOOL_OUTPUT_TOKENS},
        "supports_parallel_tool_calls": True,
        "supports_image_detail_original": False,
        "context_window": model.context_window,
        "max_context_window": model.context_window,
        "auto_compact_token_limit": None,
        "effective_context_window_percent": 95,
        "experimental_supported_tools": [],
        "input_modalities": _modalities(model),
        "supports_search_tool": False,
        "use_responses_lite": False,
        "prefer_websockets": False,
        "minimal_client_version": "0.0.1",
        "include_skills_usage_instructions": False,
        "multi_agent_version": "v1",
        "reasoning_summary_format": "none",
        "default_service_tier": None,
    }


def model_list(
    models: Iterable[Model], aliases: Iterable[tuple[str, Model]], *, max_effort: bool
) -> dict[str, Any]:
    """The whole body; the operator's `aliases` are shown to SDKs only."""
    known = tuple(models)
    return {
        "object": "list",
        "data": [openai_model(m) for m in known] + [openai_model(m, name) for name, m in aliases],
        "models": [codex_model(m, priority, max_effort=max_effort) for priority, m in enumerate(known, 1)],
    }


def _modalities(model: Model) -> list[str]:
    return ["text", "image"] if model.vision else ["text"]
