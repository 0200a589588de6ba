"""DeepSeek's rules for a request: who may ask, and what is accepted."""

from __future__ import annotations

from typing import Any

import orjson

from deepseek_proxy.simulator import errors

BROKE_KEY = "sk-simulator-broke"
INVALID_KEY = "sk-simulator-invalid"


def authorise(authorization: str | None) -> str:
    """The key in the header. Raises `Refusal`."""
    scheme, _, key = (authorization or "").partition(" ")
    key = key.strip()
    if scheme.lower() != "bearer" or not key:
        raise errors.no_key()
    if key.startswith(INVALID_KEY):
        raise errors.bad_key(key)
    if key.startswith(BROKE_KEY):
        raise errors.no_balance()
    return key


def check(raw: bytes) -> dict[str, Any]:
    """The body, when DeepSeek would accept it. Raises `Refusal`."""
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError as problem:
        raise errors.undeserialisable(str(problem)) from None
    if not isinstance(body, dict) or not isinstance(body.get("messages"), list):
        raise errors.undeserialisable("missing field `messages`")
    if not body["messages"]:
        raise errors.invalid("Empty input messages")
    return body
