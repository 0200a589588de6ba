"""A Responses request -> the body that DeepSeek gets, and what the answer needs to know of it.

Every field is kept, renamed, approximated or refused with its path (the table is in
docs/mapping/responses.md); unknown fields are ignored and counted. Refuses to know how input items read
(`items`), how conversations are repaired (`translate.history`), and anything about HTTP.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from deepseek_proxy.errors import InvalidRequest, ModelNotFound, NotFound
from deepseek_proxy.models import Resolved
from deepseek_proxy.translate import fields, history, reasoning, schema
from deepseek_proxy.translate.history import Entry, SystemText
from deepseek_proxy.translate.responses import tools
from deepseek_proxy.translate.responses.items import InputReader
from deepseek_proxy.translate.schema import StructuredOutput
from deepseek_proxy.translate.tools import ToolTable

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
_VERBOSITY_HINTS: Final = {
    "low": "Keep answers short: only what was asked for.",
    "high": "Answer at length, with the details and the reasons.",
}
_KNOWN_FIELDS: Final = frozenset(
    "model input instructions stream stream_options store previous_response_id conversation background "
    "include max_output_tokens max_tool_calls metadata parallel_tool_calls reasoning text temperature top_p "
    "top_logprobs tools tool_choice truncation prompt prompt_cache_key prompt_cache_retention prompt_cache_options "
    "safety_identifier user service_tier context_management presence_penalty frequency_penalty "
    # Sent by clients, without meaning here.
    "client_metadata moderation".split()
)

_MAX_TEMPERATURE: Final = 2.0
_MIN_TOP_P: Final = 0.01  # DeepSeek wants more than 0, OpenAI allows 0
_MAX_METADATA: Final = (16, 64, 512)  # pairs, characters of a key, characters of a value


@dataclass(frozen=True, slots=True)
class RequestContext:
    """What reading one request needs from outside.

    `resolve` finds the model of a client's name, None where it is unknown. `unseal` opens our own
    `encrypted_content`; `recall` finds the thinking that led to a call id.
    """

    resolve: Callable[[str], Resolved | None]
    tool_name_limit: int
    unseal: Callable[[str], str | None]
    recall: Callable[[str], str | None]


@dataclass(frozen=True, slots=True)
class ResponsesRequest:
    """One request, read. `upstream` is DeepSeek's body; `echo` are the settings the Response repeats."""

    resolved: Resolved
    stream: bool
    upstream: dict[str, Any]
    echo: dict[str, Any]
    tools: ToolTable
    permitted: Callable[[str], bool]
    parallel_tool_calls: bool
    structured: StructuredOutput | None
    obfuscate: bool
    notes: Counter[str]
    """What was repaired or left out, by kind."""
    unknown_fields: tuple[str, ...]
    """Names of the fields that were ignored."""


def parse(body: Mapping[str, Any], context: RequestContext) -> ResponsesRequest:
    """Reads a request. Raises `InvalidRequest` with the path of the field, or `ModelNotFound`."""
    notes: Counter[str] = Counter()
    _refuse_state(body)
    name = fields.required_string(body, "model")
    resolved = context.resolve(name)
    if resolved is None:
        raise ModelNotFound(f"The requested model '{name}' does not exist.", param="model")
    model = resolved.model

    table = ToolTable(context.tool_name_limit)
    tools.declare(fields.array(body, "tools"), table, notes)
    entries = InputReader(table, context.unseal, notes).read(body.get("input"))
    if instructions := fields.string(body, "instructions"):
        entries.insert(0, SystemText(instructions))
    if not entries:
        raise fields.missing("input")
    choice = tools.choose(body.get("tool_choice"), table)

    effort = fields.string(fields.mapping(body, "reasoning"), "effort", "reasoning")
    mode = reasoning.choose(
        effort, alias=resolved.thinking, forced_tool=choice.is_forced, default_effort=model.default_effort
    )

    text = fields.mapping(body, "text")
    output_format = fields.mapping(text, "format", "text")
    structured = _structured_output(output_format)
    verbosity = fields.choice(text, "verbosity", ("low", "medium", "high"), "text")
    hints = [_VERBOSITY_HINTS[verbosity]] if verbosity in _VERBOSITY_HINTS else []
    if structured is not None:
        hints.append(structured.instruction)
    elif output_format.get("type") == "json_object" and not schema.mentions_json(_texts(entries)):
        hints.append(schema.JSON_INSTRUCTION)
    _add_hints(entries, hints)

    conversation = history.build(entries, vision=model.vision, thinking=mode.enabled, recall=context.recall)
    notes.update(conversation.repairs)
    if not table.declarations and conversation.tool_names:
        table.declare_stubs(conversation.tool_names)

    stream = fields.boolean(body, "stream", False)
    upstream: dict[str, Any] = {"model": model.id, "messages": conversation.messages, **mode.fields()}
    if table.declarations:
        upstream["tools"] = table.declarations
        if choice.upstream is not None:
            upstream["tool_choice"] = choice.upstream
    if output_format.get("type") in ("json_object", "json_schema"):
        upstream["response_format"] = {"type": "json_object"}
    upstream.update(_sampling(body, model.max_output_tokens))
    if (user := fields.string(body, "safety_identifier") or fields.string(body, "user")) is not None:
        upstream["user_id"] = hashlib.sha256(user.encode("utf-8", "replace")).hexdigest()[:32]
    upstream["stream"] = stream
    if stream:
        upstream["stream_options"] = {"include_usage": True}

    parallel = fields.boolean(body, "parallel_tool_calls", True)
    options = fields.mapping(body, "stream_options")
    return ResponsesRequest(
        resolved=resolved,
        stream=stream,
        upstream=upstream,
        echo=_echo(body, effort or mode.effort or "none", parallel),
        tools=table,
        permitted=choice.permits,
        parallel_tool_calls=parallel,
        structured=structured,
        obfuscate=fields.boolean(options, "include_obfuscation", False, "stream_options"),
        notes=notes,
        unknown_fields=tuple(name for name in body if name not in _KNOWN_FIELDS),
    )


def _refuse_state(body: Mapping[str, Any]) -> None:
    """Refuses what would need stored responses, in OpenAI's words for "not found"."""
    if (previous := fields.string(body, "previous_response_id")) is not None:
        raise InvalidRequest(
            f"Previous response with id '{previous}' not found. This gateway stores no responses: "
            "send the whole conversation in 'input'.",
            param="previous_response_id",
            code="previous_response_not_found",
        )
    if body.get("conversation") is not None:
        raise NotFound(
            "Conversation not found. This gateway stores no conversations: "
            "send the whole conversation in 'input'.",
            param="conversation",
        )
    if fields.boolean(body, "background", False):
        raise InvalidRequest(
            "Background responses are not supported: leave 'background' out, or set it to false.",
            param="background",
            code="unsupported_parameter",
        )
    if body.get("prompt") is not None:
        raise InvalidRequest(
            "Prompt templates are not supported: send 'instructions' and 'input'.",
            param="prompt",
            code="unsupported_parameter",
        )


def _structured_output(output_format: Mapping[str, Any]) -> StructuredOutput | None:
    kind = fields.choice(output_format, "type", ("text", "json_object", "json_schema"), "text.format")
    if kind != "json_schema":
        return None
    return schema.structured_output(
        name=fields.required_string(output_format, "name", "text.format"),
        schema=output_format.get("schema"),
        strict=fields.boolean(output_format, "strict", False, "text.format"),
        description=fields.string(output_format, "description", "text.format"),
        param="text.format.schema",
    )


def _texts(entries: Sequence[Entry]) -> list[str]:
    """Every text of the conversation that DeepSeek looks through for the word "json"."""
    texts = []
    for entry in entries:
        if isinstance(entry, (SystemText, history.AssistantText)):
            texts.append(entry.text)
        elif isinstance(entry, (history.UserMessage, history.ToolResult)):
            texts.extend(part.text for part in entry.parts if isinstance(part, history.TextPart))
    return texts


def _add_hints(entries: list[Entry], hints: Sequence[str]) -> None:
    """Adds to the end of the leading system text: in front of it, a hint would spoil the cached prefix."""
    lead = next((i for i, entry in enumerate(entries) if not isinstance(entry, SystemText)), len(entries))
    entries[lead:lead] = [SystemText(hint) for hint in hints]


def _sampling(body: Mapping[str, Any], max_output_tokens: int) -> dict[str, Any]:
    """DeepSeek's sampling fields; those that the client left out stay out."""
    found: dict[str, Any] = {}
    if (limit := fields.integer(body, "max_output_tokens", low=1)) is not None:
        found["max_tokens"] = min(limit, max_output_tokens)
    if (temperature := fields.number(body, "temperature", low=0, high=_MAX_TEMPERATURE)) is not None:
        found["temperature"] = temperature
    if (top_p := fields.number(body, "top_p", low=0, high=1)) is not None:
        found["top_p"] = max(top_p, _MIN_TOP_P)
    for key in ("presence_penalty", "frequency_penalty"):
        if (penalty := fields.number(body, key, low=-2, high=2)) is not None:
            found[key] = penalty
    logprobs = fields.integer(body, "top_logprobs", low=0, high=20) or 0
    if logprobs or "message.output_text.logprobs" in _include(body):
        found["logprobs"] = True
        if logprobs:
            found["top_logprobs"] = logprobs
    return found


def _include(body: Mapping[str, Any]) -> Sequence[str]:
    include = fields.array(body, "include")
    for index, value in enumerate(include):
        if value not in _INCLUDABLE:
            raise InvalidRequest(
                f"Invalid value: '{value}'. Supported values are: {', '.join(repr(v) for v in _INCLUDABLE)}.",
                param=f"include[{index}]",
                code="invalid_value",
            )
    return include


def _metadata(body: Mapping[str, Any]) -> Mapping[str, Any]:
    pairs, key_length, value_length = _MAX_METADATA
    metadata = fields.mapping(body, "metadata")
    if len(metadata) > pairs:
        raise fields.invalid_value("metadata", f"too many properties. Expected at most {pairs}.")
    for key, value in metadata.items():
        if not isinstance(value, str):
            raise fields.invalid_type(f"metadata.{key}", "a string", value)
        if len(key) > key_length or len(value) > value_length:
            raise fields.invalid_value(
                f"metadata.{key[:key_length]}",
                f"too long. Keys have at most {key_length} characters, values {value_length}.",
            )
    return metadata


def _echo(body: Mapping[str, Any], effort: str, parallel: bool) -> dict[str, Any]:
    """The settings as the Response repeats them, with OpenAI's defaults where the client sent none."""
    text = fields.mapping(body, "text")
    asked = fields.mapping(body, "reasoning")

    def given(key: str, default: Any) -> Any:
        value = body.get(key)
        return default if value is None else value

    return {
        "background": False,
        "frequency_penalty": given("frequency_penalty", 0),
        "instructions": body.get("instructions"),
        "max_output_tokens": body.get("max_output_tokens"),
        "max_tool_calls": fields.integer(body, "max_tool_calls", low=1),
        "metadata": _metadata(body),
        "moderation": None,
        "parallel_tool_calls": parallel,
        "presence_penalty": given("presence_penalty", 0),
        "previous_response_id": None,
        "prompt_cache_key": fields.string(body, "prompt_cache_key"),
        "prompt_cache_retention": body.get("prompt_cache_retention"),
        "reasoning": {"effort": effort, "summary": asked.get("summary")},
        "safety_identifier": body.get("safety_identifier"),
        "store": False,  # nothing is stored, whatever was asked for
        "temperature": given("temperature", 1),
        "text": {
            "format": text.get("format") or {"type": "text"},
            "verbosity": text.get("verbosity") or "medium",
        },
        "tool_choice": given("tool_choice", "auto"),
        "tools": tools.echo(fields.array(body, "tools")),
        "top_logprobs": given("top_logprobs", 0),
        "top_p": given("top_p", 1),
        "truncation": fields.choice(body, "truncation", ("auto", "disabled")) or "disabled",
        "user": fields.string(body, "user"),
    }
