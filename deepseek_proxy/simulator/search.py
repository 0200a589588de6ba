"""DeepSeek's Search and Fetch endpoints, with made-up pages.

The same query always finds the same pages, and every page that was found can be fetched. Refuses to know HTTP
and chat. Shapes and limits: official API page of Oct-Nov 2026.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote, urlsplit

from deepseek_proxy.simulator.errors import Refusal, envelope, invalid

MAX_QUERY: Final = 128  # characters
MAX_COUNT: Final = 50
MAX_URL: Final = 8192  # characters
UNREACHABLE_HOST: Final = "unreachable.example"
"""Pages of this host cannot be fetched."""


def search(body: Mapping[str, Any]) -> dict[str, Any]:
    """`POST /v1/tools/search`. Raises `Refusal`."""
    query = _text(body, "query", MAX_QUERY)
    count = body.get("count", 10)
    if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= MAX_COUNT:
        raise invalid(f"'count' must be between 1 and {MAX_COUNT}")
    return {"results": [_result(query, i, bool(body.get("need_content"))) for i in range(min(count, 3))]}


def fetch(body: Mapping[str, Any]) -> dict[str, Any]:
    """`POST /v1/tools/fetch`. Raises `Refusal`."""
    url = _text(body, "url", MAX_URL)
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
        raise invalid("'url' must be a valid HTTP or HTTPS URL")
    if parts.hostname == UNREACHABLE_HOST:
        raise Refusal(404, envelope("failed to fetch URL"))
    return {"title": f"Page at {parts.hostname}", "content": f"# Page at {parts.hostname}\n\nText of {url}."}


def _text(body: Mapping[str, Any], name: str, limit: int) -> str:
    value = body.get(name)
    if value is None:
        raise invalid(f"missing field '{name}'")
    if not isinstance(value, str) or not value.strip() or len(value) > limit:
        raise invalid(f"'{name}' must be a string of 1 to {limit} characters")
    return value


def _result(query: str, rank: int, with_content: bool) -> dict[str, Any]:
    url = f"https://example.com/{quote(query, safe='')}/{rank + 1}"
    return {
        "title": f"Result {rank + 1} for {query}",
        "url": url,
        "snippet": f"What page {rank + 1} says about {query}.",
        "summary": f"A longer account, for a model, of what page {rank + 1} says about {query}.",
        "content": f"# Result {rank + 1}\n\nText of {url}." if with_content else "",
        "site_name": "Example",
        "site_icon": "https://example.com/favicon.ico",
        "date": "2026-11-01T00:00:00Z",
        "rerank_score": round(3 / (rank + 1), 2),
        "authority": 3 - rank,
    }
