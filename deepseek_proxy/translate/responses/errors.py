"""Failures inside a Responses stream.

Clients act on the code: Codex stops at once on some, waits on others, and sends the request up to
thirty times for what it takes for a passing fault.
"""

from __future__ import annotations

from typing import Any

from deepseek_proxy.errors import ProxyError, RateLimited, UpstreamOverloaded
from deepseek_proxy.translate import openai_errors


def stream_fields(error: ProxyError) -> dict[str, Any]:
    """The four fields of an error after the first byte.

    "Please try again in Ns." is the only form of a pause that every measured Codex version honours.
    """
    message = error.message
    waits = isinstance(error, (RateLimited, UpstreamOverloaded))
    if waits and "try again in" not in message:
        message = f"{message} Please try again in {openai_errors.retry_after_seconds(error)}s."
    fields = openai_errors.fields_of(error, message)
    fields["code"] = fields["code"] or "server_error"
    return fields
