"""Whose DeepSeek key a request uses: the client's own, else the gateway's."""

from __future__ import annotations

from flask import Request

from deepseek_proxy.api.gateway import OWN_TENANT, Caller, tenant_of
from deepseek_proxy.errors import Unauthenticated
from deepseek_proxy.settings import Settings

MAX_KEY_CHARACTERS = 512
PLACEHOLDER_KEY = "gateway"
"""What clients send that must send some key, and mean the gateway's own."""


def identify(request: Request, settings: Settings) -> Caller:
    """Raises `Unauthenticated`, saying what to set, when there is no usable key at all."""
    key = _sent_key(request)
    if key is not None:
        return Caller(key, tenant_of(key))
    if settings.deepseek_api_key is None:
        raise Unauthenticated(
            "No DeepSeek API key. Send one as 'Authorization: Bearer sk-…', "
            "or set DEEPSEEK_API_KEY for the gateway."
        )
    return Caller(settings.deepseek_api_key.get_secret_value(), OWN_TENANT)


def _sent_key(request: Request) -> str | None:
    header = request.headers.get("Authorization", "")
    scheme, _, key = header.partition(" ")
    key = key.strip()
    if scheme.lower() != "bearer" or key in ("", PLACEHOLDER_KEY):
        return None
    if len(key) > MAX_KEY_CHARACTERS or not key.isascii() or not key.isprintable() or " " in key:
        raise Unauthenticated("The API key in 'Authorization' is not one: expected 'Bearer' and one word.")
    return key
