"""Pages in browsers: which of them may call the gateway from another origin, and read its answers.

Only where `cors_origins` says so. Whatever header a page asks to send is allowed: SDKs add their own with
every release, and none of them decides anything here but the key. Cookies are not used, and not allowed.
Fetch standard, "CORS protocol".
"""

from __future__ import annotations

import re
from typing import Final

from flask import Request, Response

from deepseek_proxy.settings import Settings
from deepseek_proxy.values import ANY_ORIGIN

METHODS: Final = "GET, POST, DELETE"
PREFLIGHT_SECONDS: Final = 7200
"""How long a browser may remember the answer; Chrome does not do it for longer."""

_HEADER_NAMES = re.compile(r"[A-Za-z0-9_-]+(?:\s*,\s*[A-Za-z0-9_-]+)*")
_MAX_NAMES_CHARACTERS: Final = 4096


def preflight(request: Request, settings: Settings) -> Response | None:
    """The answer to a browser that asks on behalf of a page whether it may; None where this is no such
    question, or none for a page that may."""
    if request.method != "OPTIONS" or not is_allowed(request, settings):
        return None
    if "Access-Control-Request-Method" not in request.headers:
        return None
    response = Response(status=204)
    response.headers["Access-Control-Allow-Methods"] = METHODS
    response.headers["Access-Control-Max-Age"] = str(PREFLIGHT_SECONDS)
    names = request.headers.get("Access-Control-Request-Headers", "").strip()
    if len(names) <= _MAX_NAMES_CHARACTERS and _HEADER_NAMES.fullmatch(names):
        response.headers["Access-Control-Allow-Headers"] = names
        response.headers.add("Vary", "Access-Control-Request-Headers")
    return response


def is_allowed(request: Request, settings: Settings) -> bool:
    """Whether the request comes from a page of an origin that may."""
    origin = request.headers.get("Origin")
    if origin is None:
        return False
    return origin in settings.cors_origins or ANY_ORIGIN in settings.cors_origins


def let_read(response: Response, request: Request, settings: Settings) -> None:
    """Lets the page that sent `request` read `response`, if it may."""
    if not settings.cors_origins:
        return
    response.headers.add("Vary", "Origin")
    if is_allowed(request, settings):
        response.headers["Access-Control-Allow-Origin"] = request.headers["Origin"]
        response.headers["Access-Control-Expose-Headers"] = "*"
