"""A Responses request -> the body that DeepSeek gets, and what the answer needs to know of it.

Every field is kept, renamed, approximated or refused with its path (the table is in
docs/mapping/responses.md); unknown fields are ignored and counted. Refuses to know how input items read
(`items`), how conversations are repaired (`translate.history`), and anything about HTTP.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from deepseek_proxy.models import Resolved
from deepseek_proxy.translate import answer_format, fields, history, lookup, reasoning, tokens, truncation
from deepseek_proxy.translate.answer_format import AnswerFormat
from deepseek_proxy.translate.compose import compose, resolve
from deepseek_proxy.translate.history import Entry, SystemText, TextPart, UserMessage
from deepseek_proxy.translate.lookup import Options
from deepseek_proxy.translate.responses import compaction, parameters, tools
from deepseek_proxy.translate.responses.items import InputReader
from deepseek_proxy.translate.responses.management import compacted_first
from deepseek_proxy.translate.responses.place import NOWHERE, Place
from deepseek_proxy.translate.schema import StructuredOutput
from deepseek_proxy.translate.sealed import Unseal
from deepseek_proxy.translate.search import Session
from deepseek_proxy.translate.tokens import Count
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
    notes: Counter[str] = Counter()
    resolved = resolve(body, context.resolve)
    table = ToolTable(context.tool_name_limit)
    search = context.search
    tools.declare(fields.array(body, "tools"), table, notes, session=search)
    if resolved.search:
        _offer_search(search, table)
    reader = InputReader(table, context.unseal, notes, search)
    entries = reader.read(body.get("input"), context.place.earlier)
    if not entries and not body.get("instructions") and not warm_up:
        raise fields.missing("input")
    compact = compact or reader.compaction_asked
    compacted_texts = compaction.user_texts(entries) if compact else None

    if instructions := fields.string(body, "instructions"):
        entries.insert(0, SystemText(instructions))
    answer = _answer_format(body, entries)
    answer_format.tell(entries, answer.hints)
    if compact:
        entries.append(UserMessage((TextPart(compaction.PROMPT),)))
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

    sampling = parameters.sampling(body, resolved.model.max_output_tokens)
    room = truncation.room(resolved.model, mode, sampling.get("max_tokens"))
    if parameters.truncates(body):
        for_tools = tokens.tools_tokens(table.declarations, context.count)
        entries = truncation.shorten(entries, room - for_tools, context.count, notes)
    stream = fields.boolean(body, "stream", False)
    upstream, next_turn = compose(
        entries,
        model=resolved.model,
        mode=mode,
        table=table,
        choice=choice,
        is_json=answer.is_json,
        sampling=sampling,
        stream=stream,
        recall=context.recall,
        notes=notes,
    )
    takes_turns = search is not None and search.is_offered
    kept_texts = None
    threshold = parameters.compact_threshold(body, room)
    if not compact and threshold is not None and tokens.exceeds(upstream, threshold, context.count):
        build = partial(
            history.build, vision=resolved.model.vision, thinking=mode.enabled, recall=context.recall
        )
        upstream, next_turn, kept = compacted_first(upstream, next_turn, entries, build)
        compacted_texts, kept_texts = compaction.user_texts(entries), compaction.user_texts(kept)
        takes_turns = True

    max_searches = fields.integer(body, "max_tool_calls", low=1)
    if search is not None and max_searches is not None:
        search.limit(max_searches)
    parallel = fields.boolean(body, "parallel_tool_calls", True)
    options = fields.mapping(body, "stream_options")
    return ResponsesRequest(
        resolved=resolved,
        stream=stream,
        upstream=upstream,
        echo=parameters.echo(body, effort or mode.effort or "none", parallel, context.place),
        tools=table,
        permitted=choice.permits,
        parallel_tool_calls=parallel,
        is_json=answer.is_json,
        structured=answer.structured,
        obfuscate=fields.boolean(options, "include_obfuscation", False, "stream_options"),
        search=search or Session(),
        shows_sources=parameters.includes(body, "web_search_call.action.sources"),
        next_turn=next_turn if takes_turns else None,
        compacted_texts=compacted_texts,
        kept_texts=kept_texts,
        cache_key=fields.string(body, "prompt_cache_key"),
        notes=notes,
        unknown_fields=tuple(name for name in body if name not in parameters.KNOWN_FIELDS),
    )


def _offer_search(search: Session | None, table: ToolTable) -> None:
    """What a model's name asks for, unless a tool has asked already."""
    if search is None:
        raise lookup.is_off("model")
    if not search.is_offered:
        search.offer(table, Options())


def _answer_format(body: Mapping[str, Any], entries: Sequence[Entry]) -> AnswerFormat:
    text = fields.mapping(body, "text")
    verbosity = fields.choice(text, "verbosity", ("low", "medium", "high"), "text")
    wanted = fields.mapping(text, "format", "text")
    kind = fields.choice(wanted, "type", answer_format.KINDS, "text.format")
    if wanted and kind is None:
        raise fields.missing("text.format.type")
    return answer_format.read(kind, wanted, "text.format", verbosity, entries)
