from __future__ import annotations

from typing import Any

import pytest
from openai.types import Model as OpenAIModel

from deepseek_proxy.models import FLASH, MODELS, PRO
from deepseek_proxy.translate.responses import catalogue
from deepseek_proxy.translate.responses.codex_prompt import BASE_INSTRUCTIONS

# What Codex 0.169 reads of an entry, with the types it wants; one wrong entry makes it drop all of them.
CODEX_FIELDS: dict[str, type | tuple[type, ...]] = {
    "slug": str,
    "display_name": str,
    "description": str,
    "default_reasoning_level": str,
    "supported_reasoning_levels": list,
    "shell_type": str,
    "visibility": str,
    "supported_in_api": bool,
    "priority": int,
    "base_instructions": str,
    "supports_reasoning_summaries": bool,
    "support_verbosity": bool,
    "apply_patch_tool_type": str,
    "truncation_policy": dict,
    "supports_parallel_tool_calls": bool,
    "context_window": int,
    "experimental_supported_tools": list,
    "input_modalities": list,
}


def listed(**options: Any) -> dict[str, Any]:
    return catalogue.model_list(MODELS.values(), [("gpt-5.5", PRO)], **{"max_effort": True, **options})


def test_openais_list_has_the_models_and_the_operators_names() -> None:
    body = listed()
    assert body["object"] == "list"
    assert [(entry["id"], entry["name"]) for entry in body["data"]] == [
        ("deepseek-flash", "DeepSeek V4.1 Flash"),
        ("deepseek-v4-pro", "DeepSeek V4 Pro"),
        ("gpt-5.5", "DeepSeek V4 Pro"),
    ]
    for entry in body["data"]:
        OpenAIModel.model_validate(entry, strict=True)


@pytest.mark.parametrize(
    ("model", "modalities"), [(FLASH, ["text", "image"]), (PRO, ["text"])], ids=lambda x: str(x)[:20]
)
def test_an_entry_tells_the_limits(model: Any, modalities: list[str]) -> None:
    assert catalogue.openai_model(model) == {
        "id": model.id,
        "object": "model",
        "created": model.released,
        "owned_by": "deepseek",
        "name": model.display_name,
        "context_window": 1_048_576,
        "max_output_tokens": 393_216,
        "input_modalities": modalities,
        "output_modalities": ["text"],
    }


def test_codex_gets_every_field_it_reads() -> None:
    entries = listed()["models"]
    assert [entry["slug"] for entry in entries] == [*MODELS]
    assert [entry["priority"] for entry in entries] == [1, 2]
    for entry in entries:
        wrong = [name for name, kind in CODEX_FIELDS.items() if not isinstance(entry[name], kind)]
        assert wrong == []
        assert entry["base_instructions"] == BASE_INSTRUCTIONS
        assert entry["default_reasoning_level"] in [
            level["effort"] for level in entry["supported_reasoning_levels"]
        ]
        assert entry["truncation_policy"] == {"mode": "tokens", "limit": 10_000}


@pytest.mark.parametrize(
    ("max_effort", "efforts"), [(True, ["none", "low", "high", "max"]), (False, ["none", "low", "high"])]
)
def test_old_versions_of_codex_do_not_hear_of_the_effort_max(max_effort: bool, efforts: list[str]) -> None:
    for entry in listed(max_effort=max_effort)["models"]:
        assert [level["effort"] for level in entry["supported_reasoning_levels"]] == efforts
        assert all(level["description"] for level in entry["supported_reasoning_levels"])
