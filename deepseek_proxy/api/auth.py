"""Whose DeepSeek key a request uses: the client's own, else the gateway's; and who is the operator."""

from __future__ import annotations

import hmac
import ipaddress
from urllib.parse import urlsplit

from flask import Request

from deepseek_proxy.api.gateway import OWN_TENANT, Caller, tenant_of
from deepseek_proxy.errors import PermissionDenied, Unauthenticated
from deepseek_proxy.settings import Settings

MAX_KEY_CHARACTERS = 512
PLACEHOLDER_KEY = "gateway"
"""What clients send that must send some key, and mean the gateway's own."""


def identify(request: Request, settings: Settings) -> Caller:
    """Raises `Unauthenticated`, saying what to set, when there is no usable key at all."""
    if is_admin(request, settings):
        raise Unauthenticated(
            "This is the gateway's admin key. It is for /metrics, and never sent to DeepSeek."
        )
    key = _sent_key(request)
    if key is not None:
        return Caller(key, tenant_of(key))
    if settings.deepseek_api_key is None:
        raise Unauthenticated(
            "No DeepSeek API key. Send one as 'Authorization: Bearer sk-…', "
            "or set DEEPSEEK_API_KEY for the gateway."
        )
    if _is_foreign_page(request):
        raise PermissionDenied(
            "A web page of another site may not use the gateway's key: send a DeepSeek key of your own."
        )
    return Caller(settings.deepseek_api_key.get_secret_value(), OWN_TENANT)


def is_admin(request: Request, settings: Settings) -> bool:
    """Whether the request brings the admin key; never where none is set."""
    if settings.admin_key is None:
        return False
    expected = settings.admin_key.get_secret_value()
    return hmac.compare_digest(_bearer(request).encode(), expected.encode())


def _is_foreign_page(request: Request) -> bool:
    """Whether a browser sends this for a page that is not of this machine.

    The own key is for whoever reaches the gateway, and a name that a stranger lets point at this machine
    makes every page of theirs reach it (DNS rebinding).
    """
    origin = request.headers.get("Origin")
    return origin is not None and not is_loopback(urlsplit(origin).hostname)


def is_loopback(host: str | None) -> bool:
    """Whether a host name, without its port, can only mean this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        return False


def _bearer(request: Request) -> str:
    scheme, _, key = request.headers.get("Authorization", "").partition(" ")
    return key.strip() if scheme.lower() == "bearer" else ""


def _sent_key(request: Request) -> str | None:
    key = _bearer(request)
    if key in ("", PLACEHOLDER_KEY):
        return None
    if len(key) > MAX_KEY_CHARACTERS or not key.isascii() or not key.isprintable() or " " in key:
        raise Unauthenticated("The API key in 'Authorization' is not one: expected 'Bearer' and one word.")
    return key
