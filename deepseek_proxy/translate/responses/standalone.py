"""Codex's standalone search, `POST /v1/alpha/search`: commands in, one text for its model out.

Codex (0.162 to 0.169) has a tool of its own for the web, and asks for what the tool was told to do. Pages go
by their addresses: nothing is remembered from one request to the next. Refuses to know who runs the actions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import Any, Final

import orjson

from deepseek_proxy.errors import ProxyError
from deepseek_proxy.translate import fields, lookup
from deepseek_proxy.translate.lookup import (
    MAX_QUERY_CHARACTERS,
    SIZES,
    UNREADABLE,
    Action,
    OpenPage,
    Options,
    Outcome,
    Search,
    failure,
    host_of,
    usable_results,
)

_SIZE_OF_LENGTH: Final = {"short": "low", "medium": "medium", "long": "high"}
_MAX_MATCHES: Final = 20
_LINES_AROUND: Final = 2
_CHARACTERS_PER_TOKEN: Final = 4
_NOTHING: Final = "Nothing was asked for: give a search_query with a text, or open or find with an address."


@dataclass(frozen=True, slots=True)
class Command:
    """One thing to do. Without an `action`, `refusal` is its result; else `tell` words DeepSeek's answer."""

    title: str
    action: Action | None
    tell: Callable[[Mapping[str, Any]], str] = lambda _answer: ""
    refusal: str = ""


class StandaloneSearch:
    """One request, read. `actions` have to be run; `output()` takes what came of them, in their order."""

    def __init__(self, commands: Sequence[Command], max_characters: int | None) -> None:
        self._commands = commands
        self._max_characters = max_characters
        self.actions = [command.action for command in commands if command.action is not None]

    def output(self, outcomes: Sequence[Outcome]) -> str:
        """The text that answers the request."""
        coming = iter(outcomes)
        parts = [
            f"## {command.title}\n\n"
            + (_told(command, next(coming)) if command.action is not None else command.refusal)
            for command in self._commands
        ]
        text = "\n\n".join(parts) or _NOTHING
        if self._max_characters is not None and len(text) > self._max_characters:
            return f"{text[: self._max_characters]}\n\n(Cut here: ask for less at once.)"
        return text


def parse(body: Mapping[str, Any], *, max_actions: int, today: date) -> StandaloneSearch:
    """Reads a request. Raises `InvalidRequest` with the path of what is wrong.

    What cannot be done is not an error: the model is told. `max_actions` bounds what one request may do.
    """
    settings = fields.mapping(body, "settings")
    commands = fields.mapping(body, "commands")
    options = lookup.options(settings, "settings")
    size = _SIZE_OF_LENGTH.get(fields.string(commands, "response_length", "commands") or "")
    if size is not None:
        options = replace(options, size=SIZES[size])
    wanted = [*_commands(commands, options, today)]
    allowed = [
        command if number <= max_actions else replace(command, action=None, refusal="Too much at once.")
        for number, command in enumerate(wanted, 1)
    ]
    tokens = fields.integer(body, "max_output_tokens", low=1)
    return StandaloneSearch(allowed, tokens * _CHARACTERS_PER_TOKEN if tokens is not None else None)


def _commands(commands: Mapping[str, Any], options: Options, today: date) -> Iterator[Command]:
    for name, value in commands.items():
        if name == "response_length" or value is None:
            continue
        reader = _READERS.get(name)
        if reader is None:
            yield Command(name, None, refusal="This is not available here: search for it.")
            continue
        for index, entry in enumerate(fields.array(commands, name, "commands")):
            path = f"commands.{name}[{index}]"
            if not isinstance(entry, dict):
                raise fields.invalid_type(path, "an object", entry)
            if (command := reader(entry, path, options, today)) is not None:
                yield command


def _query(entry: Mapping[str, Any], path: str, options: Options, today: date) -> Command | None:
    query = (fields.string(entry, "q", path) or "").strip()
    if not query:
        return None  # Codex's model is told to send an empty query if it did not mean to search at all
    title = f"Search: {query}"
    domains = [str(domain).lower() for domain in fields.array(entry, "domains", path)]
    if domains:
        options = replace(options, domains=tuple(filter(options.allows_host, domains)))
        if not options.domains:
            return Command(title, None, refusal=f"Nothing can be searched on {', '.join(domains)}.")
    days = fields.integer(entry, "recency", low=1, path=path)
    if days is not None:
        dated = f"{query} after:{today - timedelta(days=min(days, today.toordinal() - 1))}"
        query = dated if len(dated) <= MAX_QUERY_CHARACTERS else query
    if len(query) > MAX_QUERY_CHARACTERS:
        return Command(title, None, refusal=f"A query has at most {MAX_QUERY_CHARACTERS} characters.")
    action = Search(query, options.size.results, options)
    return Command(title, action, lambda answer: _results(answer, action))


def _open(entry: Mapping[str, Any], path: str, options: Options, _today: date) -> Command:
    line = fields.integer(entry, "lineno", low=0, path=path) or 1
    size = options.size.page_characters
    return _page(entry, path, options, "Page", lambda text: _from_line(text, line, size))


def _find(entry: Mapping[str, Any], path: str, options: Options, _today: date) -> Command:
    pattern = fields.required_string(entry, "pattern", path)
    return _page(entry, path, options, f"“{pattern}” in", lambda text: _matches(text, pattern))


def _page(
    entry: Mapping[str, Any], path: str, options: Options, title: str, show: Callable[[str], str]
) -> Command:
    url = fields.required_string(entry, "ref_id", path)
    if not host_of(url):
        refusal = "Give the whole address of the page as ref_id, with https:// or http://."
    elif not options.live or options.found_only:  # what was found is not remembered
        refusal = "Pages cannot be opened here; search results are all there is."
    elif not options.allows(url):
        refusal = f"Only pages of these sites can be opened: {', '.join(options.domains)}."
    else:
        action = OpenPage(url, 0, options.size.page_characters)
        return Command(f"{title} {url}", action, lambda answer: show(answer["content"]))
    return Command(f"{title} {url}", None, refusal=refusal)


_READERS: Final[Mapping[str, Callable[[Mapping[str, Any], str, Options, date], Command | None]]] = {
    "search_query": _query,
    "open": _open,
    "find": _find,
}


# -- results ----------------------------------------------------------------------------------------


def _told(command: Command, outcome: Outcome) -> str:
    if isinstance(outcome, ProxyError):
        return failure(command.action, outcome)
    try:
        return command.tell(orjson.loads(outcome))
    except (orjson.JSONDecodeError, AttributeError, KeyError, TypeError):
        return UNREADABLE


def _results(answer: Mapping[str, Any], asked: Search) -> str:
    limit = asked.options.size.content_characters
    texts = []
    for page in usable_results(answer, asked):
        address = f"{page.url} ({page.date})" if page.date else page.url
        texts.append("\n".join(filter(None, (page.title, address, page.summary, page.content[:limit]))))
    return "\n\n".join(texts) or "Nothing was found. Try other words."


def _from_line(text: str, line: int, max_characters: int) -> str:
    """The lines from number `line` on, as many as fit."""
    lines = text.splitlines()
    shown: list[str] = []
    room = max_characters
    for each in lines[line - 1 :]:
        if shown and len(each) > room:
            break
        shown.append(each[:max_characters])
        room -= len(each)
    if not shown:
        return f"(The page has {len(lines)} lines.)"
    end = line + len(shown) - 1
    more = f" Open it with lineno {end + 1} to go on." if end < len(lines) else ""
    return "\n".join([f"(Lines {line} to {end} of {len(lines)}.{more})", *shown])


def _matches(text: str, pattern: str) -> str:
    """The lines that contain `pattern`, whatever its case, with the lines around them."""
    lines = text.splitlines()
    found = [number for number, line in enumerate(lines) if pattern.lower() in line.lower()]
    if not found:
        return "Not found on the page."
    excerpts = []
    for number in found[:_MAX_MATCHES]:
        around = range(max(0, number - _LINES_AROUND), min(len(lines), number + _LINES_AROUND + 1))
        excerpts.append("\n".join(f"L{at + 1}: {lines[at][:500]}" for at in around))
    more = f"\n\n(And {len(found) - _MAX_MATCHES} more.)" if len(found) > _MAX_MATCHES else ""
    return "\n\n".join(excerpts) + more
