"""Other hosts that serve DeepSeek's models: a request as they take it.

Their answers need no change: `hub` reads them. What differs is data, not code: the names of models, what
thinking is called, how it is switched, and what is not taken at all. Refuses to know which host that is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from deepseek_proxy.translate import jsontext

_DEEPSEEKS_FIELD = "reasoning_content"


@dataclass(frozen=True, slots=True)
class Host:
    """How a host differs from DeepSeek's own. Without arguments: not at all.

    `models` maps DeepSeek's names to its own. `reasoning_field` is what thinking is called in its messages;
    empty: it takes none. `thinking_on` and `thinking_off` take the place of DeepSeek's `thinking`. Fields in
    `omit` are left out.
    """

    models: Mapping[str, str] = field(default_factory=dict)
    reasoning_field: str = _DEEPSEEKS_FIELD
    thinking_on: Mapping[str, Any] | None = None
    thinking_off: Mapping[str, Any] | None = None
    omit: tuple[str, ...] = ()

    @property
    def is_deepseek(self) -> bool:
        """Whether a request can be sent as it is, byte for byte."""
        return self == Host() or (
            all(name == own for name, own in self.models.items()) and self == Host(models=self.models)
        )

    def adapted(self, body: bytes) -> bytes:
        """The JSON text of a request to DeepSeek, as this host takes it: the same text for the same text."""
        request: dict[str, Any] = orjson.loads(body)
        request["model"] = self.models.get(request.get("model", ""), request.get("model"))
        if self.reasoning_field != _DEEPSEEKS_FIELD and "messages" in request:
            request["messages"] = [self._message(message) for message in request["messages"]]
        thinking = request.get("thinking")
        if isinstance(thinking, dict):
            switch = self.thinking_off if thinking.get("type") == "disabled" else self.thinking_on
            if switch is not None:
                del request["thinking"]
                request.update(switch)
        for name in self.omit:
            request.pop(name, None)
        return jsontext.dumps(request)

    def _message(self, message: dict[str, Any]) -> dict[str, Any]:
        if _DEEPSEEKS_FIELD not in message:
            return message
        return {
            self.reasoning_field if name == _DEEPSEEKS_FIELD else name: value
            for name, value in message.items()
            if self.reasoning_field or name != _DEEPSEEKS_FIELD
        }
