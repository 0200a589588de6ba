"""Whose DeepSeek key a request uses: the client's own, else the gateway's; and who is the operator."""

from __future__ import annotations

import hmac

from flask import Request

from deepseek_proxy.api.gateway import OWN_TENANT, Caller, tenant_of
from deepseek_proxy.errors import Unauthenticated
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
    return Caller(settings.deepseek_api_key.get_secret_value(), OWN_TENANT)


def is_admin(request: Request, settings: Settings) -> bool:
    """Whether the request brings the admin key; never where none is set."""
    if settings.admin_key is None:
        return False
    expected = settings.admin_key.get_secret_value()
    return hmac.compare_digest(_bearer(request).encode(), expected.encode())


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
