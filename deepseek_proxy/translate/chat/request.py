"""A Chat Completions request -> the body that DeepSeek gets, and what the answer needs to know of it.

Every field is kept, renamed, approximated or refused with its path (the table is in docs/mapping/chat.md);
unknown fields are ignored and counted. Refuses to know how messages read (`messages`), how conversations are
repaired (`translate.history`), and anything about HTTP.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from deepseek_proxy.models import Resolved
from deepseek_proxy.translate import answer_format, fields, lookup, reasoning
from deepseek_proxy.translate.answer_format import AnswerFormat
from deepseek_proxy.translate.chat import parameters, tools
from deepseek_proxy.translate.chat.messages import MessageReader
from deepseek_proxy.translate.compose import NextTurn, compose, resolve
from deepseek_proxy.translate.history import NO_REASONING, Entry
from deepseek_proxy.translate.hub import Message
from deepseek_proxy.translate.lookup import Options
from deepseek_proxy.translate.schema import StructuredOutput
from deepseek_proxy.translate.search import Session
from deepseek_proxy.translate.tools import ToolTable


@dataclass(frozen=True, slots=True)
class RequestContext:
    """What reading one request needs from outside.

    `resolve` finds the model of a client's name, None where it is unknown; `recall` finds the thinking that
    led to a call id, and the searches of an answer (`searches.key_of`).
    """

    resolve: Callable[[str], Resolved | None]
    tool_name_limit: int
    recall: Callable[[str], str | None]
    search: Session | None = None
    """Where the operator lets the gateway search the web."""


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """One request, read. `upstream` is DeepSeek's body."""

    resolved: Resolved
    stream: bool
    upstream: dict[str, Any]
    continues: bool
    """Whether the model is to go on with the last message: DeepSeek's prefix completion, in beta there."""
    tools: ToolTable
    permitted: Callable[[str], bool]
    parallel_tool_calls: bool
    legacy_functions: bool
    tells_usage: bool
    """Whether a stream is to end in a chunk with the usage."""
    obfuscate: bool
    is_json: bool
    """Whether the answer's text is JSON."""
    structured: StructuredOutput | None
    search: Session
    next_turn: NextTurn | None
    """None where every answer takes one turn: the function holds the whole conversation."""
    cache_key: str | None
    """The client's own name for the conversation (`prompt_cache_key`)."""
    notes: Counter[str]
    """What was repaired or left out, by kind."""
    unknown_fields: tuple[str, ...]
    """Names of the fields that were ignored."""


def parse(body: Mapping[str, Any], context: RequestContext) -> ChatRequest:
    """Reads a request. Raises `InvalidRequest` with the path of the field, or `ModelNotFound`."""
    parameters.refuse(body)
    notes: Counter[str] = Counter()
    resolved = resolve(body, context.resolve)
    table = ToolTable(context.tool_name_limit)
    declared = tools.declare(body, table)
    search = _search(body, resolved, context.search, declared, table)
    entries = MessageReader(table, notes, context.recall, search).read(body.get("messages"))
    answer = _answer_format(body, entries)
    answer_format.tell(entries, answer.hints)
    choice = tools.choose(body, table)
    mode = reasoning.choose(
        fields.string(body, "reasoning_effort"),
        alias=resolved.thinking,
        forced_tool=choice.is_forced,
        default_effort=resolved.model.default_effort,
        switch=parameters.switch(body),
    )
    stream = fields.boolean(body, "stream", False)
    turns = compose(
        entries,
        model=resolved.model,
        mode=mode,
        table=table,
        choice=choice,
        is_json=answer.is_json,
        sampling=parameters.shape(body, resolved.model.max_output_tokens),
        stream=stream,
        recall=context.recall,
        notes=notes,
    )
    legacy = tools.is_legacy(body)
    options = fields.mapping(body, "stream_options")
    return ChatRequest(
        resolved=resolved,
        stream=stream,
        upstream=turns.first,
        continues=_goes_on(body["messages"], turns.first["messages"][-1]),
        tools=table,
        permitted=choice.permits,
        parallel_tool_calls=fields.boolean(body, "parallel_tool_calls", True) and not legacy,
        legacy_functions=legacy,
        tells_usage=fields.boolean(options, "include_usage", False, "stream_options"),
        obfuscate=fields.boolean(options, "include_obfuscation", False, "stream_options"),
        is_json=answer.is_json,
        structured=answer.structured,
        search=search or Session(),
        next_turn=turns.next if search is not None else None,
        cache_key=fields.string(body, "prompt_cache_key"),
        notes=notes,
        unknown_fields=tuple([name for name in body if name not in parameters.KNOWN_FIELDS]),
    )


def _goes_on(messages: Sequence[Mapping[str, Any]], last: Message) -> bool:
    """Has the model go on with the last of its own messages, where the client asks for that. Thinking that
    nobody knows is not for it to go on with."""
    if not messages[-1].get("prefix"):
        return False
    path = f"messages[{len(messages) - 1}]"
    fields.boolean(messages[-1], "prefix", False, path)
    if last["role"] != "assistant" or "tool_calls" in last:
        raise fields.invalid_value(f"{path}.prefix", "only an assistant's text can be gone on with.")
    if last.get("reasoning_content") == NO_REASONING:
        del last["reasoning_content"]
    last["prefix"] = True
    return True


def _search(
    body: Mapping[str, Any],
    resolved: Resolved,
    session: Session | None,
    declared: Options | None,
    table: ToolTable,
) -> Session | None:
    """The session, where the model's name, a field or a tool asks for searches.

    Raises `InvalidRequest` where the gateway has none: an answer without them is not what was asked for.
    """
    key = "web_search_options"
    if body.get(key) is not None:
        options, param = lookup.options(fields.mapping(body, key), key), key
    elif declared is not None:
        options, param = declared, "tools"
    elif resolved.search:
        options, param = Options(), "model"
    else:
        return None
    if session is None:
        raise lookup.is_off(param)
    session.offer(table, options)
    return session


def _answer_format(body: Mapping[str, Any], entries: Sequence[Entry]) -> AnswerFormat:
    verbosity = fields.choice(body, "verbosity", ("low", "medium", "high"))
    wanted = fields.mapping(body, "response_format")
    kind = fields.choice(wanted, "type", answer_format.KINDS, "response_format")
    if wanted and kind is None:
        raise fields.missing("response_format.type")
    path = "response_format.json_schema"
    if kind == "json_schema" and not fields.mapping(wanted, "json_schema", "response_format"):
        raise fields.missing(path)
    inner = fields.mapping(wanted, "json_schema", "response_format")
    return answer_format.read(kind, inner, path, verbosity, entries)
