"""The parameters of a Responses request that need no conversation: limits, sampling, echo, refusals.

Each is kept, renamed, approximated or refused with its path (the table is in docs/mapping/responses.md).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from deepseek_proxy.errors import InvalidRequest
from deepseek_proxy.translate import fields
from deepseek_proxy.translate import sampling as sampling_fields
from deepseek_proxy.translate.responses import tools
from deepseek_proxy.translate.responses.place import NOWHERE, Place

KNOWN_FIELDS: Final = frozenset(
    "model input instructions stream stream_options store previous_response_id conversation background "
    "include max_output_tokens max_tool_calls metadata parallel_tool_calls reasoning text temperature top_p "
    "top_logprobs tools tool_choice truncation prompt prompt_cache_key prompt_cache_retention "
    "prompt_cache_options safety_identifier user service_tier context_management presence_penalty "
    "frequency_penalty "
    # Sent by clients, without meaning here.
    "client_metadata moderation".split()
)
_INCLUDABLE: Final = (
    "file_search_call.results",
    "web_search_call.results",
    "web_search_call.action.sources",
    "message.input_image.image_url",
    "computer_call_output.output.image_url",
    "code_interpreter_call.outputs",
    "reasoning.encrypted_content",
    "message.output_text.logprobs",
)
_MIN_COMPACT_THRESHOLD: Final = 1_000
_MAX_METADATA: Final = (16, 64, 512)  # pairs, characters of a key, characters of a value


def refuse_prompt(body: Mapping[str, Any]) -> None:
    """Refuses a prompt template: it would say what no one here knows."""
    if body.get("prompt") is not None:
        raise InvalidRequest(
            "Prompt templates are not supported: send 'instructions' and 'input'.",
            param="prompt",
            code="unsupported_parameter",
        )


def sampling(body: Mapping[str, Any], max_output_tokens: int) -> dict[str, Any]:
    """DeepSeek's sampling fields; those that the client left out stay out."""
    logprobs = fields.integer(body, "top_logprobs", low=0, high=sampling_fields.MAX_LOGPROBS) or 0
    return {
        **sampling_fields.limit(body, "max_output_tokens", max_output_tokens),
        **sampling_fields.shape(body),
        **sampling_fields.logprobs(
            wanted=bool(logprobs) or includes(body, "message.output_text.logprobs"), top=logprobs
        ),
        **sampling_fields.user(body),
    }


def compact_threshold(body: Mapping[str, Any], default: int) -> int | None:
    """Above how many tokens a conversation is to be compacted; None where the client does not ask for it."""
    found = None
    for index, entry in enumerate(fields.array(body, "context_management")):
        path = f"context_management[{index}]"
        if not isinstance(entry, dict):
            raise fields.invalid_type(path, "an object", entry)
        if fields.choice(entry, "type", ("compaction",), path) is None:
            raise fields.missing(f"{path}.type")
        threshold = fields.integer(entry, "compact_threshold", low=_MIN_COMPACT_THRESHOLD, path=path)
        found = default if threshold is None else threshold
    return found


def truncates(body: Mapping[str, Any]) -> bool:
    """Whether the oldest turns may be left out."""
    return _truncation(body) == "auto"


def _truncation(body: Mapping[str, Any]) -> str:
    return fields.choice(body, "truncation", ("auto", "disabled")) or "disabled"


def includes(body: Mapping[str, Any], value: str) -> bool:
    """Whether the client asks for an extra part of the answer."""
    return value in check_include(fields.array(body, "include"))


def check_include(include: Sequence[Any]) -> Sequence[Any]:
    """Raises `InvalidRequest` where one of the values is none that OpenAI knows."""
    for index, value in enumerate(include):
        if value not in _INCLUDABLE:
            raise InvalidRequest(
                f"Invalid value: '{value}'. Supported values are: {', '.join(repr(v) for v in _INCLUDABLE)}.",
                param=f"include[{index}]",
                code="invalid_value",
            )
    return include


def metadata(body: Mapping[str, Any]) -> Mapping[str, Any]:
    """The client's own pairs of strings, within OpenAI's limits."""
    pairs, key_length, value_length = _MAX_METADATA
    found = fields.mapping(body, "metadata")
    if len(found) > pairs:
        raise fields.invalid_value("metadata", f"too many properties. Expected at most {pairs}.")
    for key, value in found.items():
        if not isinstance(value, str):
            raise fields.invalid_type(f"metadata.{key}", "a string", value)
        if len(key) > key_length or len(value) > value_length:
            raise fields.invalid_value(
                f"metadata.{key[:key_length]}",
                f"too long. Keys have at most {key_length} characters, values {value_length}.",
            )
    return found


def echo(body: Mapping[str, Any], effort: str, parallel: bool, place: Place = NOWHERE) -> dict[str, Any]:
    """The settings as the Response repeats them, with OpenAI's defaults where the client sent none."""
    text = fields.mapping(body, "text")
    asked = fields.mapping(body, "reasoning")

    def given(key: str, default: Any) -> Any:
        value = body.get(key)
        return default if value is None else value

    return {
        "background": place.background,
        **({"conversation": {"id": place.conversation}} if place.conversation is not None else {}),
        "frequency_penalty": given("frequency_penalty", 0),
        "instructions": body.get("instructions"),
        "max_output_tokens": fields.integer(body, "max_output_tokens"),
        "max_tool_calls": fields.integer(body, "max_tool_calls", low=1),
        "metadata": metadata(body),
        "moderation": None,
        "parallel_tool_calls": parallel,
        "presence_penalty": given("presence_penalty", 0),
        "previous_response_id": place.previous_response_id,
        "prompt_cache_key": fields.string(body, "prompt_cache_key"),
        "prompt_cache_retention": fields.string(body, "prompt_cache_retention"),
        "reasoning": {"effort": effort, "summary": fields.string(asked, "summary", "reasoning")},
        "safety_identifier": body.get("safety_identifier"),
        "store": place.store,
        "temperature": given("temperature", 1),
        "text": {
            "format": text.get("format") or {"type": "text"},
            "verbosity": text.get("verbosity") or "medium",
        },
        "tool_choice": given("tool_choice", "auto"),
        "tools": tools.echo(fields.array(body, "tools")),
        "top_logprobs": fields.integer(body, "top_logprobs") or 0,
        "top_p": given("top_p", 1),
        "truncation": _truncation(body),
        "user": fields.string(body, "user"),
    }
