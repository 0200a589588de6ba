"""Who sends a request: a client with a key of the gateway's, one with a DeepSeek key, or whoever is near; and
who is the operator.

Where the gateway has keys for its clients, nobody else is let in, and no other key is sent anywhere.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final
from urllib.parse import urlsplit

from flask import Request

from deepseek_proxy.api.gateway import OWN_TENANT, Caller, Gateway, tenant_of
from deepseek_proxy.api.keyring import Keyring
from deepseek_proxy.consistency import is_loopback
from deepseek_proxy.credentials import DEEPSEEK_KEY_PREFIX, MAX_KEY_CHARACTERS, ClientKey
from deepseek_proxy.errors import PermissionDenied, Unauthenticated
from deepseek_proxy.settings import Settings

PLACEHOLDER_KEY: Final = "gateway"
"""What clients send that must send some key, and mean the gateway's own; where it has no clients' keys."""


def identify(request: Request, gateway: Gateway) -> Caller:
    """Raises `Unauthenticated`, saying what to do, when there is no usable key at all."""
    settings = gateway.settings
    if is_admin(request, settings):
        raise Unauthenticated(
            "This is the gateway's admin key. It is for the operator's routes, and never sent to DeepSeek."
        )
    sent = _sent_keys(request)
    if gateway.keyring.closed:
        return _known(sent, gateway.keyring, settings)
    if sent:
        return Caller(tenant_of(sent[0]), sent[0])
    if not settings.pays:
        raise Unauthenticated(
            "No DeepSeek API key. Send one as 'Authorization: Bearer sk-…', "
            "or set DEEPSEEK_API_KEY for the gateway."
        )
    if _is_foreign_page(request, settings):
        raise PermissionDenied(
            "A web page of another site may not use the gateway's key: send a DeepSeek key of your own."
        )
    return Caller(OWN_TENANT)


def _known(sent: Sequence[str], keyring: Keyring, settings: Settings) -> Caller:
    for key in sent:
        client = keyring.find(key)
        if client is not None:
            return _unexpired(client)
    if settings.passthrough:
        for key in sent:
            if key.startswith(DEEPSEEK_KEY_PREFIX):
                return Caller(tenant_of(key), key)
    if sent:
        raise Unauthenticated("This API key is not one of the gateway's. It was not sent anywhere.")
    raise Unauthenticated(
        "No API key. Send the key that the operator of this gateway gave you, as 'Authorization: Bearer …' "
        "or 'x-api-key: …'."
    )


def _unexpired(client: ClientKey) -> Caller:
    if client.expires is not None and client.has_expired(datetime.now(UTC)):
        raise Unauthenticated(f"This API key expired at {client.expires:%Y-%m-%d %H:%M %Z}.")
    return Caller(f"client:{client.name}", client=client)


def is_admin(request: Request, settings: Settings) -> bool:
    """Whether the request brings the admin key; never where none is set."""
    if settings.admin_key is None:
        return False
    expected = settings.admin_key.get_secret_value()
    return hmac.compare_digest(_bearer(request).encode(), expected.encode())


def _is_foreign_page(request: Request, settings: Settings) -> bool:
    """Whether a browser sends this for a page that is not of this machine, and that nobody has named.

    The own key is for whoever reaches the gateway, and a name that a stranger lets point at this machine
    makes every page of theirs reach it (DNS rebinding).
    """
    origin = request.headers.get("Origin")
    if origin is None or origin in settings.cors_origins:
        return False
    return not is_loopback(urlsplit(origin).hostname)


def _bearer(request: Request) -> str:
    scheme, _, key = request.headers.get("Authorization", "").partition(" ")
    return key.strip() if scheme.lower() == "bearer" else ""


def _sent_keys(request: Request) -> list[str]:
    """The keys that came along, OpenAI's header before Anthropic's; SDKs may send both."""
    found = {"Authorization": _bearer(request), "x-api-key": request.headers.get("x-api-key", "").strip()}
    keys = {header: key for header, key in found.items() if key not in ("", PLACEHOLDER_KEY)}
    for header, key in keys.items():
        if len(key) > MAX_KEY_CHARACTERS or not key.isascii() or not key.isprintable() or " " in key:
            expected = "'Bearer' and one word" if header == "Authorization" else "one word"
            raise Unauthenticated(f"The API key in '{header}' is not one: expected {expected}.")
    return list(keys.values())
