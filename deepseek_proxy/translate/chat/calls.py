"""Tool calls of a chat completion, each in the shape in which its tool was declared.

Upstream every call is a function call with JSON arguments. Refuses to know which tools exist
(`translate.tools` does), and when a call begins and ends.
"""

from __future__ import annotations

import hashlib
from typing import Any, Final

from deepseek_proxy.translate import ids, jsontext
from deepseek_proxy.translate.chat.emitter import DeltaTemplate, Emitter
from deepseek_proxy.translate.tools import FREEFORM_INPUT, Tool

_ID_CHARACTERS: Final = 24


def legacy_call_id(name: str, arguments: str) -> str:
    """The id of a call that has none: the same whenever the client repeats the call."""
    digest = hashlib.sha256(jsontext.dumps([name, arguments])).hexdigest()
    return f"{ids.CALL}_{digest[:_ID_CHARACTERS]}"


class Call:
    """A function call, at `index` of the message's `tool_calls`."""

    def __init__(self, emitter: Emitter, tool: Tool, call_id: str, index: int) -> None:
        self._emit = emitter
        self._tool = tool
        self.call_id = call_id
        self._index = index
        self._pieces: list[str] = []
        self._template: DeltaTemplate | None = None

    def open(self) -> bytes:
        """The delta with which the call begins."""
        return self._emit.delta({"tool_calls": [{"index": self._index, **self._entry("")}]})

    @property
    def keeper(self) -> str:
        """The id under which a later request repeats the call."""
        return self.call_id

    def arguments(self, piece: str) -> bytes:
        """Takes the next piece of the call's JSON arguments."""
        self._pieces.append(piece)
        return self._show(piece)

    def close(self) -> bytes:
        """The end of a call that is whole: clients parse the arguments as JSON, so there have to be some."""
        return b"" if self.raw_arguments.strip() else self.arguments("{}")

    def whole(self) -> dict[str, Any]:
        """The call as a message has it."""
        return self._entry(self.raw_arguments)

    @property
    def raw_arguments(self) -> str:
        if len(self._pieces) > 1:
            self._pieces = ["".join(self._pieces)]
        return self._pieces[0] if self._pieces else ""

    def _entry(self, arguments: str) -> dict[str, Any]:
        function = {"name": self._tool.name, "arguments": arguments}
        return {"id": self.call_id, "type": "function", "function": function}

    def _around(self) -> tuple[bytes, bytes]:
        """What surrounds a piece in its delta."""
        return b'{"tool_calls":[{"index":%d,"function":{"arguments":' % self._index, b"}}]}"

    def _show(self, text: str) -> bytes:
        if not text:
            return b""
        if self._template is None:
            self._template = self._emit.template(*self._around())
        return self._emit.text(self._template, jsontext.dumps(text))


class CustomCall(Call):
    """A free-form tool's call: the one string inside the JSON arguments, unescaped as it arrives."""

    def __init__(self, emitter: Emitter, tool: Tool, call_id: str, index: int) -> None:
        super().__init__(emitter, tool, call_id, index)
        self._field = jsontext.StringField(FREEFORM_INPUT)

    def arguments(self, piece: str) -> bytes:
        return self._show(self._field.feed(piece))

    def close(self) -> bytes:
        return self._show(self._field.finish())

    def whole(self) -> dict[str, Any]:
        return self._entry(self._field.value)

    def _entry(self, arguments: str) -> dict[str, Any]:
        return {
            "id": self.call_id,
            "type": "custom",
            "custom": {"name": self._tool.name, "input": arguments},
        }

    def _around(self) -> tuple[bytes, bytes]:
        return b'{"tool_calls":[{"index":%d,"custom":{"input":' % self._index, b"}}]}"


class LegacyCall(Call):
    """The one call of an answer to a request with `functions`: it has no id, and a place of its own."""

    def open(self) -> bytes:
        return self._emit.delta({"function_call": self._entry("")})

    @property
    def keeper(self) -> str:
        return legacy_call_id(self._tool.name, self.raw_arguments)

    def _entry(self, arguments: str) -> dict[str, Any]:
        return {"name": self._tool.name, "arguments": arguments}

    def _around(self) -> tuple[bytes, bytes]:
        return b'{"function_call":{"arguments":', b"}}"
