"""The parameters of a Chat Completions request that need no conversation: limits, sampling, refusals.

Each is kept, renamed, approximated or refused with its path (the table is in docs/mapping/chat.md).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from deepseek_proxy.errors import InvalidRequest
from deepseek_proxy.translate import fields, sampling

KNOWN_FIELDS: Final = frozenset(
    "model messages stream stream_options max_tokens max_completion_tokens temperature top_p "
    "presence_penalty frequency_penalty n stop logprobs top_logprobs response_format verbosity "
    "tools tool_choice parallel_tool_calls functions function_call reasoning_effort thinking "
    "web_search_options user_id safety_identifier user modalities "
    # Without a meaning at DeepSeek.
    "audio metadata store service_tier prediction logit_bias "
    "prompt_cache_key prompt_cache_retention prompt_cache_options".split()
)
_MAX_STOPS: Final = 16
_USER_ID: Final = re.compile(r"[a-zA-Z0-9_-]{1,512}")


def refuse_several(body: Mapping[str, Any]) -> None:
    """Refuses a wish for several answers. Raises `InvalidRequest`."""
    if fields.integer(body, "n", low=1) not in (None, 1):
        raise InvalidRequest(
            "Invalid 'n': DeepSeek gives one answer to a request. Send the request several times.",
            param="n",
            code="unsupported_value",
        )


def refuse(body: Mapping[str, Any]) -> None:
    """Refuses what no answer of DeepSeek's could be. Raises `InvalidRequest` with the path of the field."""
    refuse_several(body)
    for index, modality in enumerate(fields.array(body, "modalities")):
        if modality != "text":
            raise InvalidRequest(
                "DeepSeek's models answer in text alone.",
                param=f"modalities[{index}]",
                code="unsupported_value",
            )
    if body.get("stream_options") is not None and not fields.boolean(body, "stream", False):
        raise InvalidRequest(
            "The 'stream_options' parameter is only allowed when 'stream' is enabled.",
            param="stream_options",
        )


def shape(body: Mapping[str, Any], max_output_tokens: int) -> dict[str, Any]:
    """DeepSeek's fields for the tokens of the answer; those that the client left out stay out."""
    # DeepSeek ignores OpenAI's newer name, which wins at OpenAI.
    newer = body.get("max_completion_tokens") is not None
    key = "max_completion_tokens" if newer else "max_tokens"
    found = {**sampling.limit(body, key, max_output_tokens), **sampling.shape(body)}
    stops = _stops(body)
    if stops:
        found["stop"] = stops
    wanted = fields.boolean(body, "logprobs", False)
    top = fields.integer(body, "top_logprobs", low=0, high=sampling.MAX_LOGPROBS)
    if top is not None and not wanted:
        raise InvalidRequest(
            "The 'top_logprobs' parameter is only allowed when 'logprobs' is enabled.",
            param="top_logprobs",
        )
    return {**found, **sampling.logprobs(wanted=wanted, top=top or 0), **_user(body)}


def switch(body: Mapping[str, Any]) -> bool | None:
    """DeepSeek's own switch for thinking; None where the client does not use it."""
    kind = fields.choice(
        fields.mapping(body, "thinking"), "type", ("enabled", "disabled", "adaptive"), "thinking"
    )
    return None if kind is None else kind != "disabled"


def _stops(body: Mapping[str, Any]) -> str | Sequence[str] | None:
    stops = body.get("stop")
    if stops is None or isinstance(stops, str):
        return _stop(stops, "stop") if stops is not None else None
    if not isinstance(stops, list):
        raise fields.invalid_type("stop", "a string or an array of strings", stops)
    if len(stops) > _MAX_STOPS:
        raise fields.invalid_value("stop", f"{len(stops)} sequences. DeepSeek takes at most {_MAX_STOPS}.")
    return [_stop(stop, f"stop[{index}]") for index, stop in enumerate(stops)]


def _stop(stop: object, path: str) -> str:
    if not isinstance(stop, str):
        raise fields.invalid_type(path, "a string", stop)
    if not stop:
        raise fields.invalid_value(path, "empty string. Expected a string with minimum length 1.")
    return stop


def _user(body: Mapping[str, Any]) -> dict[str, Any]:
    """DeepSeek's own `user_id` as it is; what is none, and OpenAI's names for it, as a hash."""
    own = fields.string(body, "user_id")
    if own is None:
        return sampling.user(body)
    return {"user_id": own} if _USER_ID.fullmatch(own) else sampling.user({"user": own})
