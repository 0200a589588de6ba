"""What the Open Responses specification (2026-04-24) asks of a Response, of an event and of a compaction.

The judge of the cases in `tests/api/test_open_responses.py`. Unlike `responses_grammar`, it knows nothing of
the order of events: it says whether a client that validates every object by itself takes it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from jsonschema import Draft202012Validator

EVENT_TYPES: Final = frozenset(
    f"response.{name}"
    for name in (
        *("created", "queued", "in_progress", "completed", "incomplete", "failed"),
        *("output_item.added", "output_item.done", "content_part.added", "content_part.done"),
        *("output_text.delta", "output_text.done", "output_text.annotation.added"),
        *("refusal.delta", "refusal.done", "reasoning.delta", "reasoning.done"),
        *("reasoning_summary_part.added", "reasoning_summary_part.done"),
        *("reasoning_summary_text.delta", "reasoning_summary_text.done"),
        *("function_call_arguments.delta", "function_call_arguments.done"),
    )
) | {"error"}

Schema = dict[str, Any]


def _object(**properties: Schema) -> Schema:
    """An object that has all of these; others are allowed."""
    return {"type": "object", "properties": properties, "required": list(properties)}


def _or_null(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


def _constant(value: str) -> Schema:
    return {"const": value}


_TEXT: Final[Schema] = {"type": "string"}
_NUMBER: Final[Schema] = {"type": "number"}
_COUNT: Final[Schema] = {"type": "integer", "minimum": 0}
_FLAG: Final[Schema] = {"type": "boolean"}
_STATUS: Final[Schema] = {"enum": ["in_progress", "completed", "incomplete"]}
_LIST: Final[Schema] = {"type": "array"}

_ANNOTATION: Final = _object(
    type=_constant("url_citation"), url=_TEXT, start_index=_COUNT, end_index=_COUNT, title=_TEXT
)
_CONTENT: Final = {
    "anyOf": [
        _object(
            type=_constant("output_text"), text=_TEXT, annotations={"type": "array", "items": _ANNOTATION}
        ),
        _object(type=_constant("refusal"), refusal=_TEXT),
        _object(type=_constant("reasoning_text"), text=_TEXT),
        _object(type=_constant("summary_text"), text=_TEXT),
        _object(type=_constant("input_text"), text=_TEXT),
        _object(type=_constant("input_image"), image_url=_or_null(_TEXT)),
    ]
}
_PARTS: Final[Schema] = {"type": "array", "items": _CONTENT}
_ID: Final[Schema] = {"type": "string", "minLength": 1}
_MESSAGE: Final = _object(
    type=_constant("message"),
    id=_ID,
    status=_STATUS,
    role={"enum": ["user", "assistant", "system", "developer"]},
    content=_PARTS,
)
_COMPACTION: Final = _object(type=_constant("compaction"), id=_ID, encrypted_content=_ID)
ITEM: Final = {
    "anyOf": [
        _MESSAGE,
        _object(
            type=_constant("function_call"),
            id=_ID,
            call_id=_ID,
            name=_ID,
            arguments=_TEXT,
            status=_STATUS,
        ),
        _object(type=_constant("reasoning"), id=_ID, summary=_PARTS),
        _COMPACTION,
    ]
}
_USAGE: Final = _object(
    input_tokens=_COUNT,
    output_tokens=_COUNT,
    total_tokens=_COUNT,
    input_tokens_details=_object(cached_tokens=_COUNT),
    output_tokens_details=_object(reasoning_tokens=_COUNT),
)
_TOOL: Final = _object(
    type=_constant("function"),
    name=_ID,
    description=_or_null(_TEXT),
    parameters=_or_null({"type": "object"}),
    strict=_or_null(_FLAG),
)
_EFFORTS: Final = ["none", "low", "medium", "high", "xhigh", None]
RESPONSE: Final = _object(
    id=_ID,
    object=_constant("response"),
    created_at=_COUNT,
    completed_at=_or_null(_COUNT),
    status={"enum": ["queued", "in_progress", "completed", "incomplete", "failed", "cancelled"]},
    incomplete_details=_or_null(_object(reason=_TEXT)),
    model=_ID,
    previous_response_id=_or_null(_TEXT),
    instructions=_or_null(_TEXT),
    output={"type": "array", "items": ITEM},
    error=_or_null(_object(code=_TEXT, message=_TEXT)),
    tools={"type": "array", "items": _TOOL},
    tool_choice={"anyOf": [{"enum": ["none", "auto", "required"]}, {"type": "object"}]},
    truncation={"enum": ["auto", "disabled"]},
    parallel_tool_calls=_FLAG,
    text=_object(format=_object(type=_TEXT)),
    top_p=_NUMBER,
    presence_penalty=_NUMBER,
    frequency_penalty=_NUMBER,
    top_logprobs=_COUNT,
    temperature=_NUMBER,
    reasoning=_or_null(_object(effort={"enum": _EFFORTS}, summary=_or_null(_TEXT))),
    usage=_or_null(_USAGE),
    max_output_tokens=_or_null(_COUNT),
    max_tool_calls=_or_null(_COUNT),
    store=_FLAG,
    background=_FLAG,
    service_tier=_TEXT,
    metadata={"type": "object"},
    safety_identifier=_or_null(_TEXT),
    prompt_cache_key=_or_null(_TEXT),
)
COMPACTED: Final = _object(
    id=_ID,
    object=_constant("response.compaction"),
    created_at=_COUNT,
    output={"type": "array", "items": {"anyOf": [_MESSAGE, _COMPACTION]}},
    usage=_USAGE,
)

# Null says the same as absence to most clients; here it is an error.
_NEVER_NULL: Final = ("phase", "encrypted_content", "namespace")


def assert_response(body: Mapping[str, Any], status: str = "completed") -> None:
    """A Response of this status, with output where it is completed."""
    _assert_fits(body, RESPONSE)
    assert body["status"] == status
    assert (body["completed_at"] is not None) == (status == "completed")
    for item in body["output"]:
        assert not [name for name in _NEVER_NULL if name in item and item[name] is None]
    if status == "completed":
        assert body["output"], "a completed response without output"


def assert_compacted(body: Mapping[str, Any]) -> None:
    """The answer of `/responses/compact`, which has one compaction, as its last item."""
    _assert_fits(body, COMPACTED)
    assert [item["type"] for item in body["output"]].count("compaction") == 1
    assert body["output"][-1]["type"] == "compaction"


def assert_event(event: Mapping[str, Any]) -> None:
    """One event of a stream, by itself."""
    assert event["type"] in EVENT_TYPES, f"{event['type']} is not among the types of Open Responses"
    if event["type"] == "error":
        _assert_fits(event, _object(error=_object(type=_TEXT, message=_TEXT)))
        return
    _assert_fits(event, _object(sequence_number=_COUNT))
    if "response" in event:
        assert_response(event["response"], event["response"]["status"])
    if "item" in event:
        _assert_fits(event["item"], ITEM)
    if "part" in event:
        _assert_fits(event["part"], _CONTENT)


def _assert_fits(value: Mapping[str, Any], schema: Schema) -> None:
    errors = [
        f"{error.json_path}: {error.message}" for error in Draft202012Validator(schema).iter_errors(value)
    ]
    assert not errors, "\n".join(error[:500] for error in errors)
