"""The Response object: every key of OpenAI's wire object, always, in one place.

Source: recorded OpenAI bodies of August 2026 and the Open Responses schema of 2026-04-24, which wants
numbers and booleans that are never null.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import orjson

from deepseek_proxy.translate import jsontext

Status = Literal["queued", "in_progress", "completed", "incomplete", "failed", "cancelled"]


class Envelope:
    """What stays the same in every snapshot of one response: its identity and the request's echo.

    `echo` are the request's settings as OpenAI echoes them, defaults filled in (`parameters.echo`). They are
    kept as JSON: a coding agent's tools are hundreds of objects, and a stream may be open for an hour.
    `store` may turn out to be different from what they say.
    """

    __slots__ = ("_echo", "created_at", "id", "model", "store")

    def __init__(self, id: str, created_at: int, model: str, echo: Mapping[str, Any]) -> None:
        self.id = id
        self.created_at = created_at
        self.model = model
        self.store = bool(echo["store"])
        # A copy: orjson leaves its buffer as large as it grew, up to 8 KB for an echo of one.
        self._echo = bytes(memoryview(jsontext.dumps(echo)))

    def snapshot(
        self,
        status: Status,
        output: Sequence[Mapping[str, Any]],
        *,
        completed_at: int | None = None,
        usage: Mapping[str, Any] | None = None,
        error: Mapping[str, Any] | None = None,
        incomplete_reason: str | None = None,
    ) -> dict[str, Any]:
        """The Response object as it is at one moment."""
        running = status in ("queued", "in_progress")
        return {
            "id": self.id,
            "object": "response",
            "created_at": self.created_at,
            "status": status,
            "completed_at": completed_at,
            "error": error,
            "incomplete_details": {"reason": incomplete_reason} if incomplete_reason else None,
            "model": self.model,
            "output": list(output),
            "usage": usage,
            # OpenAI shows the tier that was asked for first, and the one that served in the end.
            "service_tier": "auto" if running else "default",
            **orjson.loads(self._echo),
            "store": self.store,
        }
