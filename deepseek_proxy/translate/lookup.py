"""What is asked of DeepSeek's Search and Fetch, and how their answers are read.

DeepSeek opens the pages: an address of a client or of a model goes there as a text, and is never opened here.
Refuses to know who asks, how often, and how it is sent. Limits and shapes: DeepSeek "Search" and "Fetch", Oct
and Nov 2026.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

import orjson

from deepseek_proxy.errors import Fault, InvalidRequest, ProxyError, RateLimited, UpstreamTimeout
from deepseek_proxy.translate import fields, jsontext
from deepseek_proxy.translate.sources import Found
from deepseek_proxy.translate.tools import Tool, ToolKind

WEB_SEARCH: Final = Tool(ToolKind.WEB_SEARCH, "web_search")
OPEN_PAGE: Final = Tool(ToolKind.OPEN_PAGE, "open_page")
KINDS: Final = frozenset({WEB_SEARCH.kind, OPEN_PAGE.kind})

MAX_QUERY_CHARACTERS: Final = 128
MAX_RESULTS: Final = 50
MAX_URL_CHARACTERS: Final = 8192


@dataclass(frozen=True, slots=True)
class Size:
    """How much of the context window a search may take: OpenAI's `search_context_size` in numbers."""

    results: int
    max_results: int
    content_characters: int
    """Of the text of each page found; 0: summaries alone."""
    page_characters: int
    """Of one part of a page that is opened."""


SIZES: Final[Mapping[str, Size]] = {
    "low": Size(5, 10, 0, 12_000),
    "medium": Size(10, 20, 0, 30_000),
    "high": Size(20, 50, 2_000, 60_000),
}


@dataclass(frozen=True, slots=True)
class Options:
    """What a client asked for. No `domains` means all of them; subdomains belong to a domain.

    Without `live` nothing is fetched: searches alone, which DeepSeek answers from its index. With
    `found_only`, a page can be opened when a search has found it.
    """

    size: Size = SIZES["medium"]
    domains: tuple[str, ...] = ()
    live: bool = True
    found_only: bool = False

    def allows(self, url: str) -> bool:
        return self.allows_host(host_of(url))

    def allows_host(self, host: str) -> bool:
        return not self.domains or any(host == d or host.endswith(f".{d}") for d in self.domains)


def is_web_search(tool_type: str) -> bool:
    """Whether a hosted tool is the web search, under any of the names it has had."""
    return tool_type in ("web_search", "web_search_preview") or tool_type.startswith(
        ("web_search_20", "web_search_preview_20")
    )


def options(tool: Mapping[str, Any], path: str) -> Options:
    """What a `web_search` tool asks for. Raises `InvalidRequest` with the path of what is wrong.

    `user_location` is left out: DeepSeek takes an IP address in its place.
    """
    size = fields.choice(tool, "search_context_size", tuple(SIZES), path) or "medium"
    where = f"{path}.filters"
    domains = fields.array(fields.mapping(tool, "filters", path), "allowed_domains", where)
    for index, domain in enumerate(domains):
        if not isinstance(domain, str) or not domain:
            raise fields.invalid_type(f"{where}.allowed_domains[{index}]", "a domain", domain)
    return Options(
        size=SIZES[size],
        domains=tuple(domain.lower() for domain in domains),
        live=fields.boolean(tool, "external_web_access", True, path),
        found_only=fields.boolean(tool, "indexed_web_access", False, path),
    )


def is_off(param: str) -> InvalidRequest:
    """What a request gets that wants to search where nobody does."""
    return InvalidRequest(
        "Web search is off. The operator of this gateway can set web_search to 'deepseek'.",
        param=param,
        code="web_search_off",
    )


# -- requests ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Search:
    """One request to DeepSeek's Search. `query` is the model's own, without the sites it is kept to."""

    query: str
    count: int
    options: Options

    @property
    def body(self) -> bytes:
        query, count = self.query, self.count
        if len(self.options.domains) == 1:
            narrowed = f"{query} site:{self.options.domains[0]}"
            query = narrowed if len(narrowed) <= MAX_QUERY_CHARACTERS else query
        if self.options.domains:
            count = MAX_RESULTS  # those of other sites are left out afterwards
        body: dict[str, Any] = {"query": query, "count": count}
        if self.options.size.content_characters:
            body["need_content"] = True
        return jsontext.dumps(body)


@dataclass(frozen=True, slots=True)
class OpenPage:
    """One request to DeepSeek's Fetch, of which the part from character `start` on is told."""

    url: str
    start: int
    max_characters: int

    @property
    def body(self) -> bytes:
        return jsontext.dumps({"url": self.url})


Action = Search | OpenPage
Outcome = bytes | ProxyError
"""What came of an action: the body of DeepSeek's answer, or why there is none."""


class WrongCall(Exception):
    """A call that cannot be made; the message is for the model."""


def action_of(kind: ToolKind, arguments: str, options: Options) -> Action:
    """What a call of the model asks for. Raises `WrongCall`."""
    try:
        given = orjson.loads(arguments)
    except orjson.JSONDecodeError:
        given = None
    if not isinstance(given, dict):
        raise WrongCall("The arguments are not a JSON object.")
    return _search(given, options) if kind is ToolKind.WEB_SEARCH else _open_page(given, options)


def _search(given: Mapping[str, Any], options: Options) -> Search:
    query = given.get("query")
    if not isinstance(query, str) or not query.strip():
        raise WrongCall('"query" has to be a text.')
    if len(query) > MAX_QUERY_CHARACTERS:
        raise WrongCall(f'"query" has {len(query)} characters; at most {MAX_QUERY_CHARACTERS} are allowed.')
    count = _positive(given.get("count"), options.size.results)
    return Search(query, min(count, options.size.max_results), options)


def _open_page(given: Mapping[str, Any], options: Options) -> OpenPage:
    url = given.get("url")
    if not isinstance(url, str) or len(url) > MAX_URL_CHARACTERS or not host_of(url):
        raise WrongCall('"url" has to be a whole address that begins with https:// or http://.')
    if not options.live:
        raise WrongCall("Pages cannot be opened here; search results are all there is.")
    if not options.allows(url):
        raise WrongCall(f"Only pages of these sites can be opened: {', '.join(options.domains)}.")
    return OpenPage(url, _positive(given.get("start"), 0), options.size.page_characters)


def _positive(value: object, default: int) -> int:
    return value if isinstance(value, int) and value > 0 else default


def host_of(url: str) -> str:
    """The host of a web address, "" where it is none."""
    try:
        parts = urlsplit(url)
        return parts.hostname or "" if parts.scheme in ("http", "https") else ""
    except ValueError:
        return ""


# -- answers ----------------------------------------------------------------------------------------

UNREADABLE: Final = "DeepSeek's answer could not be read. Try something else."


def usable_results(answer: Mapping[str, Any], search: Search) -> list[Found]:
    """The results to show: web pages of the sites that are asked for, as many as are asked for.

    Raises `AttributeError`, `KeyError` or `TypeError` for an answer of another shape.
    """
    urls = ((result.get("url"), result) for result in answer["results"])
    usable = [
        Found.of(result)
        for url, result in urls
        if isinstance(url, str) and host_of(url) and search.options.allows(url)
    ]
    return usable[: search.count]


def failure(action: Action | None, error: ProxyError) -> str:
    """Why an action has no result, as the model reads it."""
    what = "The page could not be opened" if isinstance(action, OpenPage) else "The search failed"
    if isinstance(error, RateLimited):
        why = "too many searches at this moment"
    elif isinstance(error, UpstreamTimeout):
        why = "it took too long"
    elif error.fault is Fault.CLIENT:
        why = error.message
    else:
        why = "the search service does not answer"
    return f"{what}: {why.rstrip('.')}. Go on without it, or try something else."
