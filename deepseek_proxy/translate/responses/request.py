"""A Responses request -> the body that DeepSeek gets, and what the answer needs to know of it.

Every field is kept, renamed, approximated or refused with its path (the table is in
docs/mapping/responses.md); unknown fields are ignored and counted. Refuses to know how input items read
(`items`), how conversations are repaired (`translate.history`), and anything about HTTP.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from deepseek_proxy.errors import ModelNotFound
from deepseek_proxy.models import Resolved
from deepseek_proxy.translate import fields, history, reasoning, schema
from deepseek_proxy.translate.history import Entry, SystemText, TextPart, UserMessage
from deepseek_proxy.translate.responses import compaction, parameters, tools
from deepseek_proxy.translate.responses.items import InputReader
from deepseek_proxy.translate.schema import StructuredOutput
from deepseek_proxy.translate.sealed import Unseal
from deepseek_proxy.translate.search import Session
from deepseek_proxy.translate.tools import ToolTable

_VERBOSITY_HINTS: Final = {
    "low": "Keep answers short: only what was asked for.",
    "high": "Answer at length, with the details and the reasons.",
}


@dataclass(frozen=True, slots=True)
class RequestContext:
    """What reading one request needs from outside.

    `resolve` finds the model of a client's name, None where it is unknown. `unseal` opens our own
    `encrypted_content`; `recall` finds the thinking that led to a call id. `errand` says that the request
    is a client's small side job (`codex.is_errand`), not worth thinking or tools.
    """

    resolve: Callable[[str], Resolved | None]
    tool_name_limit: int
    unseal: Unseal
    recall: Callable[[str], str | None]
    errand: bool = False
    search: Session | None = None
    """Where the operator lets the gateway search the web."""


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
    is_json: bool
    """Whether the answer's text is JSON."""
    structured: StructuredOutput | None
    obfuscate: bool
    search: Session
    shows_sources: bool
    """Whether searches are to show all that they found."""
    next_turn: Callable[[Sequence[Entry], int], dict[str, Any]] | None
    """Makes the body of a further turn of the same answer, from what the turns before it said and the tokens
    that they wrote. None where every answer takes one turn: the function holds the whole conversation."""
    compacted_texts: Sequence[str] | None
    """The user's messages, where a compaction is asked for in place of an answer."""
    notes: Counter[str]
    """What was repaired or left out, by kind."""
    unknown_fields: tuple[str, ...]
    """Names of the fields that were ignored."""


def parse(body: Mapping[str, Any], context: RequestContext, *, compact: bool = False) -> ResponsesRequest:
    """Reads a request. Raises `InvalidRequest` with the path of the field, or `ModelNotFound`.

    `compact` asks for a compaction, as a `compaction_trigger` item does.
    """
    parameters.refuse_state(body)
    notes: Counter[str] = Counter()
    resolved = _resolve(body, context)
    table = ToolTable(context.tool_name_limit)
    search = context.search
    tools.declare(fields.array(body, "tools"), table, notes, session=search)
    reader = InputReader(table, context.unseal, notes, search)
    entries = reader.read(body.get("input"))
    if not entries and not body.get("instructions"):
        raise fields.missing("input")
    compact = compact or reader.compaction_asked
    compacted_texts = compaction.user_texts(entries) if compact else None

    answer = _answer_format(body, entries)
    _frame(entries, fields.string(body, "instructions"), answer.hints, compaction.PROMPT if compact else None)
    if context.errand:
        table.keep_only(set())
    choice = tools.choose(None if context.errand else body.get("tool_choice"), table)
    effort = fields.string(fields.mapping(body, "reasoning"), "effort", "reasoning")
    mode = reasoning.choose(
        "none" if context.errand else effort,
        alias=resolved.thinking,
        forced_tool=choice.is_forced,
        default_effort=resolved.model.default_effort,
    )

    def build(entries: Sequence[Entry]) -> history.History:
        vision = resolved.model.vision
        return history.build(entries, vision=vision, thinking=mode.enabled, recall=context.recall)

    conversation = build(entries)
    notes.update(conversation.repairs)
    if not table.declarations:
        table.declare_stubs(conversation.tool_names)

    stream = fields.boolean(body, "stream", False)
    upstream: dict[str, Any] = {
        "model": resolved.model.id,
        "messages": conversation.messages,
        **mode.fields(),
    }
    if table.declarations:
        upstream["tools"] = table.declarations
        if choice.upstream is not None:
            upstream["tool_choice"] = choice.upstream
    table.release_declarations()
    if answer.is_json:
        upstream["response_format"] = {"type": "json_object"}
    upstream.update(parameters.sampling(body, resolved.model.max_output_tokens))
    upstream["stream"] = stream
    if stream:
        upstream["stream_options"] = {"include_usage": True}

    def next_turn(said: Sequence[Entry], tokens: int) -> dict[str, Any]:
        body = {**upstream, "messages": build([*entries, *said]).messages}
        if choice.is_forced:
            del body["tool_choice"]  # it has been obeyed
        if "max_tokens" in body:
            body["max_tokens"] = max(1, body["max_tokens"] - tokens)
        return body

    max_searches = fields.integer(body, "max_tool_calls", low=1)
    if search is not None and max_searches is not None:
        search.limit(max_searches)
    parallel = fields.boolean(body, "parallel_tool_calls", True)
    options = fields.mapping(body, "stream_options")
    return ResponsesRequest(
        resolved=resolved,
        stream=stream,
        upstream=upstream,
        echo=parameters.echo(body, effort or mode.effort or "none", parallel),
        tools=table,
        permitted=choice.permits,
        parallel_tool_calls=parallel,
        is_json=answer.is_json,
        structured=answer.structured,
        obfuscate=fields.boolean(options, "include_obfuscation", False, "stream_options"),
        search=search or Session(),
        shows_sources=parameters.includes(body, "web_search_call.action.sources"),
        next_turn=next_turn if search is not None and search.is_offered else None,
        compacted_texts=compacted_texts,
        notes=notes,
        unknown_fields=tuple(name for name in body if name not in parameters.KNOWN_FIELDS),
    )


def _resolve(body: Mapping[str, Any], context: RequestContext) -> Resolved:
    name = fields.required_string(body, "model")
    if not name:
        raise fields.missing("model")
    resolved = context.resolve(name)
    if resolved is None:
        raise ModelNotFound(f"The requested model '{name}' does not exist.", param="model")
    return resolved


@dataclass(frozen=True, slots=True)
class _AnswerFormat:
    """How the answer shall look: `hints` go to the model, `structured` is checked."""

    is_json: bool
    structured: StructuredOutput | None
    hints: Sequence[str]


def _answer_format(body: Mapping[str, Any], entries: Sequence[Entry]) -> _AnswerFormat:
    text = fields.mapping(body, "text")
    verbosity = fields.choice(text, "verbosity", ("low", "medium", "high"), "text")
    hints = [_VERBOSITY_HINTS[verbosity]] if verbosity in _VERBOSITY_HINTS else []
    wanted = fields.mapping(text, "format", "text")
    kind = fields.choice(wanted, "type", ("text", "json_object", "json_schema"), "text.format")
    if wanted and kind is None:
        raise fields.missing("text.format.type")
    structured = None
    if kind == "json_schema":
        structured = schema.structured_output(
            name=fields.required_string(wanted, "name", "text.format"),
            schema=wanted.get("schema"),
            strict=fields.boolean(wanted, "strict", False, "text.format"),
            description=fields.string(wanted, "description", "text.format"),
            param="text.format.schema",
        )
        hints.append(structured.instruction)
    elif kind == "json_object":
        instructions = fields.string(body, "instructions") or ""
        if not schema.mentions_json([instructions, *_opening_texts(entries)]):
            hints.append(schema.JSON_INSTRUCTION)
    return _AnswerFormat(kind in ("json_object", "json_schema"), structured, hints)


def _opening_texts(entries: Sequence[Entry]) -> list[str]:
    """The system texts and the first message behind them.

    The word "json" is looked for in these alone: later texts would make a hint come and go from one turn
    to the next, and each time the cached prefix with it.
    """
    texts = []
    for entry in entries:
        if isinstance(entry, SystemText):
            texts.append(entry.text)
            continue
        if isinstance(entry, UserMessage):
            texts.extend(part.text for part in entry.parts if isinstance(part, TextPart))
        break
    return texts


def _frame(entries: list[Entry], instructions: str | None, hints: Sequence[str], prompt: str | None) -> None:
    """Puts around the conversation what the request says beside it.

    Hints go to the end of the leading system text: in front of it, they would spoil the cached prefix.
    """
    if instructions:
        entries.insert(0, SystemText(instructions))
    lead = next((i for i, entry in enumerate(entries) if not isinstance(entry, SystemText)), len(entries))
    entries[lead:lead] = [SystemText(hint) for hint in hints]
    if prompt:
        entries.append(UserMessage((TextPart(prompt),)))
