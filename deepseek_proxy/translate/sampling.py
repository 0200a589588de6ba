"""How tokens are chosen, and how many: fields that OpenAI and DeepSeek have under nearly the same names.

Each function gives DeepSeek's fields; those that the client left out stay out. Raises `InvalidRequest` with
the path of what is wrong. Bounds: DeepSeek "Create Chat Completion", docs of Nov 2026.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Final

from deepseek_proxy.translate import fields

MAX_LOGPROBS: Final = 20
_MAX_TEMPERATURE: Final = 2
_MIN_TOP_P: Final = 0.01  # DeepSeek wants more than 0, OpenAI allows 0
_USER_ID_CHARACTERS: Final = 32


def limit(body: Mapping[str, Any], key: str, max_output_tokens: int) -> dict[str, Any]:
    """The most tokens that an answer may have, thinking included; `key` is the client's word for it."""
    wanted = fields.integer(body, key, low=1)
    return {} if wanted is None else {"max_tokens": min(wanted, max_output_tokens)}


def shape(body: Mapping[str, Any]) -> dict[str, Any]:
    """Temperature, `top_p` and the penalties."""
    found: dict[str, Any] = {}
    if (temperature := fields.number(body, "temperature", low=0, high=_MAX_TEMPERATURE)) is not None:
        found["temperature"] = temperature
    if (top_p := fields.number(body, "top_p", low=0, high=1)) is not None:
        found["top_p"] = max(top_p, _MIN_TOP_P)
    for key in ("presence_penalty", "frequency_penalty"):
        if (penalty := fields.number(body, key, low=-2, high=2)) is not None:
            found[key] = penalty
    return found


def logprobs(*, wanted: bool, top: int) -> dict[str, Any]:
    """Log probabilities of what is said, and of `top` alternatives."""
    if not wanted:
        return {}
    return {"logprobs": True, "top_logprobs": top} if top else {"logprobs": True}


def user(body: Mapping[str, Any]) -> dict[str, Any]:
    """DeepSeek's `user_id`, which keeps the caches of users apart: the same user always gets the same."""
    given = fields.string(body, "safety_identifier") or fields.string(body, "user")
    if given is None:
        return {}
    return {"user_id": hashlib.sha256(given.encode("utf-8", "replace")).hexdigest()[:_USER_ID_CHARACTERS]}
