"""A Responses request -> the body that DeepSeek gets, and what the answer needs to know of it.

Every field is kept, renamed, approximated or refused with its path (the table is in
docs/mapping/responses.md); unknown fields are ignored and counted. Refuses to know how input items read
(`items`), how conversations are repaired (`translate.history`), and anything about HTTP.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from deepseek_proxy.models import Resolved
from deepseek_proxy.translate import answer_format, fields, lookup, reasoning, tokens, truncation
from deepseek_proxy.translate.answer_format import AnswerFormat
from deepseek_proxy.translate.compose import Turns, compose, resolve
from deepseek_proxy.translate.history import Entry, SystemText, TextPart, UserMessage
from deepseek_proxy.translate.lookup import Options
from deepseek_proxy.translate.reasoning import ThinkingMode
from deepseek_proxy.translate.responses import compaction, parameters, tools
from deepseek_proxy.translate.responses.items import InputReader
from deepseek_proxy.translate.responses.management import compacted_first
from deepseek_proxy.translate.responses.place import NOWHERE, Place
from deepseek_proxy.translate.schema import StructuredOutput
from deepseek_proxy.translate.sealed import Unseal
from deepseek_proxy.translate.search import Session
from deepseek_proxy.translate.tokens import Count
from deepseek_proxy.translate.tool_choice import ToolChoice
from deepseek_proxy.translate.tools import ToolTable


@dataclass(frozen=True, slots=True)
class RequestContext:
    """What reading one request needs from outside.

    `resolve` finds the model of a client's name, None where it is unknown. `unseal` opens our own
    `encrypted_content`; `recall` finds the thinking that led to a call id. `errand` says that the request
    is a client's small side job (`codex.is_errand`), not worth thinking or tools. `count` is asked where a
    conversation may be too long.
    """

    resolve: Callable[[str], Resolved | None]
    tool_name_limit: int
    unseal: Unseal
    recall: Callable[[str], str | None]
    count: Count
    errand: bool = False
    search: Session | None = None
    """Where the operator lets the gateway search the web."""
    place: Place = NOWHERE


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
    """The user's messages, where there is to be a compaction."""
    kept_texts: Sequence[str] | None
    """Those that stay in the conversation, where the answer is to follow the compaction in the same response:
    `upstream` asks for the summary, `next_turn` for the answer."""
    cache_key: str | None
    """The client's own name for the conversation (`prompt_cache_key`)."""
    notes: Counter[str]
    """What was repaired or left out, by kind."""
    unknown_fields: tuple[str, ...]
    """Names of the fields that were ignored."""


def parse(
    body: Mapping[str, Any], context: RequestContext, *, compact: bool = False, warm_up: bool = False
) -> ResponsesRequest:
    """Reads a request. Raises `InvalidRequest` with the path of the field, or `ModelNotFound`.

    `compact` asks for a compaction, as a `compaction_trigger` item does. `warm_up` says that nothing is to be
    answered yet, so that there may be no input.
    """
    parameters.refuse_prompt(body)
    asked = _read(body, context, compact=compact, warm_up=warm_up)
    stream = fields.boolean(body, "stream", False)
    plan = _plan(body, context, asked, stream=stream)
    choice, mode, answer = asked.choice, asked.mode, asked.answer
    parallel = fields.boolean(body, "parallel_tool_calls", True)
    options = fields.mapping(body, "stream_options")
    return ResponsesRequest(
        resolved=asked.resolved,
        stream=stream,
        upstream=plan.turns.first,
        echo=parameters.echo(body, asked.effort or mode.effort or "none", parallel, context.place),
        tools=asked.table,
        permitted=choice.permits,
        parallel_tool_calls=parallel,
        is_json=answer.is_json,
        structured=answer.structured,
        obfuscate=fields.boolean(options, "include_obfuscation", False, "stream_options"),
        search=context.search or Session(),
        shows_sources=parameters.includes(body, "web_search_call.action.sources"),
        next_turn=plan.turns.next if plan.takes_several else None,
        compacted_texts=plan.compacted_texts,
        kept_texts=plan.kept_texts,
        cache_key=fields.string(body, "prompt_cache_key"),
        notes=asked.notes,
        unknown_fields=tuple([name for name in body if name not in parameters.KNOWN_FIELDS]),
    )


class _Asked(NamedTuple):
    """What a request says, and what it wants of its answer."""

    resolved: Resolved
    table: ToolTable
    entries: list[Entry]
    compact: bool
    answer: AnswerFormat
    choice: ToolChoice
    effort: str | None
    """In the client's own word."""
    mode: ThinkingMode
    notes: Counter[str]


def _read(body: Mapping[str, Any], context: RequestContext, *, compact: bool, warm_up: bool) -> _Asked:
    notes: Counter[str] = Counter()
    resolved = resolve(body, context.resolve)
    table = ToolTable(context.tool_name_limit)
    tools.declare(fields.array(body, "tools"), table, notes, session=context.search)
    _prepare_search(body, resolved, context.search, table)
    reader = InputReader(table, context.unseal, notes, context.search)
    entries = reader.read(body.get("input"), context.place.earlier)
    if not entries and not body.get("instructions") and not warm_up:
        raise fields.missing("input")
    if instructions := fields.string(body, "instructions"):
        entries.insert(0, SystemText(instructions))
    answer = _answer_format(body, entries)
    answer_format.tell(entries, answer.hints)
    effort = fields.string(fields.mapping(body, "reasoning"), "effort", "reasoning")
    if context.errand:
        table.keep_only(set())
    choice = tools.choose(None if context.errand else body.get("tool_choice"), table)
    mode = reasoning.choose(
        "none" if context.errand else effort,
        alias=resolved.thinking,
        forced_tool=choice.is_forced,
        default_effort=resolved.model.default_effort,
    )
    compact = compact or reader.compaction_asked
    return _Asked(resolved, table, entries, compact, answer, choice, effort, mode, notes)


class _Plan(NamedTuple):
    """The turns that the answer takes."""

    turns: Turns
    takes_several: bool
    compacted_texts: Sequence[str] | None
    kept_texts: Sequence[str] | None


def _plan(body: Mapping[str, Any], context: RequestContext, asked: _Asked, *, stream: bool) -> _Plan:
    model, table, entries, notes = asked.resolved.model, asked.table, asked.entries, asked.notes
    compacted_texts = kept_texts = None
    if asked.compact:
        compacted_texts = compaction.user_texts(entries)
        entries.append(UserMessage((TextPart(compaction.PROMPT),)))
    sampling = parameters.sampling(body, model.max_output_tokens)
    room = truncation.room(model, asked.mode, sampling.get("max_tokens"))
    if parameters.truncates(body):
        for_tools = tokens.tools_tokens(table.declarations, context.count)
        entries = truncation.shorten(entries, room - for_tools, context.count, notes)
    turns = compose(
        entries,
        model=model,
        mode=asked.mode,
        table=table,
        choice=asked.choice,
        is_json=asked.answer.is_json,
        sampling=sampling,
        stream=stream,
        recall=context.recall,
        notes=notes,
    )
    takes_several = context.search is not None and context.search.is_offered
    threshold = parameters.compact_threshold(body, room)
    if not asked.compact and threshold is not None and tokens.exceeds(turns.first, threshold, context.count):
        turns, kept = compacted_first(turns, entries)
        compacted_texts, kept_texts = compaction.user_texts(entries), compaction.user_texts(kept)
        takes_several = True
    return _Plan(turns, takes_several, compacted_texts, kept_texts)


def _prepare_search(
    body: Mapping[str, Any], resolved: Resolved, session: Session | None, table: ToolTable
) -> None:
    """Offers what a model's name asks for, unless a tool has asked already, and no more of it than wanted."""
    if resolved.search:
        if session is None:
            raise lookup.is_off("model")
        if not session.is_offered:
            session.offer(table, Options())
    if session is not None and (most := fields.integer(body, "max_tool_calls", low=1)) is not None:
        session.limit(most)


def _answer_format(body: Mapping[str, Any], entries: Sequence[Entry]) -> AnswerFormat:
    text = fields.mapping(body, "text")
    verbosity = fields.choice(text, "verbosity", ("low", "medium", "high"), "text")
    wanted = fields.mapping(text, "format", "text")
    kind = fields.choice(wanted, "type", answer_format.KINDS, "text.format")
    if wanted and kind is None:
        raise fields.missing("text.format.type")
    return answer_format.read(kind, wanted, "text.format", verbosity, entries)
