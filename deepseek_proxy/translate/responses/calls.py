"""The output items of a Responses stream that call tools, each in the shape its tool was declared in.

Upstream every call is a function call with JSON arguments; clients refuse a call in another shape than
the tool's own. Refuses to know which tools exist (`translate.tools` does).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import orjson

from deepseek_proxy.translate import ids, jsontext
from deepseek_proxy.translate.responses.emitter import DeltaTemplate, Emitter
from deepseek_proxy.translate.responses.output import ItemStatus
from deepseek_proxy.translate.tools import FREEFORM_INPUT, Tool, ToolKind


class CallItem:
    """A function call; the other kinds differ in what their items hold and in when they are shown."""

    type = "function_call"
    prefix = ids.FUNCTION_CALL
    event = "response.function_call_arguments"
    held = False
    """Whether the item may be opened only when its arguments are complete."""

    def __init__(self, emitter: Emitter, new_id: ids.NewId, tool: Tool, call_id: str) -> None:
        self._emit = emitter
        self._new_id = new_id
        self._tool = tool
        self.call_id = call_id
        self._pieces: list[str] = []

    def open(self, index: int) -> bytes:
        """Shows the call as the item at `index` of the output."""
        self.index = index
        self.id = self._new_id(self.prefix)
        self._where = {"item_id": self.id, "output_index": index}
        self._template = DeltaTemplate(f"{self.event}.delta", self._where)
        return self._emit.event(
            "response.output_item.added", {"output_index": index, "item": self.current("in_progress")}
        )

    def arguments(self, piece: str) -> bytes:
        """Takes the next piece of the call's JSON arguments."""
        self._pieces.append(piece)
        return self._emit.delta(self._template, jsontext.dumps(piece)) if piece else b""

    def close(self, status: ItemStatus) -> bytes:
        frames = b""
        if status == "completed" and self.is_blank:
            # Clients parse the arguments as JSON, and some read them from the deltas only.
            frames = self.arguments("{}")
        fields = {**self._where, "arguments": self.raw_arguments}
        return frames + self._emit.event(f"{self.event}.done", fields) + self._done(status)

    def current(self, status: ItemStatus) -> dict[str, Any]:
        item = {
            "id": self.id,
            "type": self.type,
            "status": status,
            "call_id": self.call_id,
            "name": self._tool.name,
            "arguments": self.raw_arguments,
        }
        if self._tool.namespace is not None:
            item["namespace"] = self._tool.namespace
        return item

    @property
    def raw_arguments(self) -> str:
        if len(self._pieces) > 1:
            self._pieces = ["".join(self._pieces)]
        return self._pieces[0] if self._pieces else ""

    @property
    def is_blank(self) -> bool:
        return not self.raw_arguments.strip()

    @property
    def is_whole(self) -> bool:
        """Whether the arguments so far are complete JSON, so that the call may be closed before the end."""
        try:
            orjson.loads(self.raw_arguments)
        except orjson.JSONDecodeError:
            return False
        return True

    def _done(self, status: ItemStatus) -> bytes:
        return self._emit.event(
            "response.output_item.done", {"output_index": self.index, "item": self.current(status)}
        )


class CustomCallItem(CallItem):
    """A free-form tool's call: the one string inside the JSON arguments, unescaped as it arrives."""

    type = "custom_tool_call"
    prefix = ids.CUSTOM_TOOL_CALL
    event = "response.custom_tool_call_input"

    def __init__(self, emitter: Emitter, new_id: ids.NewId, tool: Tool, call_id: str) -> None:
        super().__init__(emitter, new_id, tool, call_id)
        self._field = jsontext.StringField(FREEFORM_INPUT)

    def arguments(self, piece: str) -> bytes:
        self._pieces.append(piece)
        return self._show(self._field.feed(piece))

    def close(self, status: ItemStatus) -> bytes:
        frames = self._show(self._field.finish())
        fields = {**self._where, "input": self._field.value}
        return frames + self._emit.event(f"{self.event}.done", fields) + self._done(status)

    def current(self, status: ItemStatus) -> dict[str, Any]:
        item = super().current(status)
        del item["arguments"]
        item["input"] = self._field.value
        return item

    def _show(self, text: str) -> bytes:
        if not text:
            return b""
        return self._emit.delta(self._template, jsontext.dumps(text))


class ObjectCallItem(CallItem):
    """A hosted tool that the client runs: its item holds an object and is shown only when it is whole.

    Arguments that do not make such an object go out as a plain function call, so that the client can
    tell the model what is wrong with them.
    """

    held = True
    _hosted: Mapping[str, Any] | None = None

    def open(self, index: int) -> bytes:
        self._hosted = self._hosted_fields()
        if self._hosted is not None:
            return super().open(index)
        self.prefix = ids.FUNCTION_CALL
        arguments, self._pieces = self.raw_arguments, []
        return super().open(index) + super().arguments(arguments)

    def arguments(self, piece: str) -> bytes:
        self._pieces.append(piece)
        return b""

    def close(self, status: ItemStatus) -> bytes:
        if self._hosted is not None:
            return self._done(status)
        blank = super().arguments("{}") if status == "completed" and self.is_blank else b""
        return blank + super().close(status)

    def current(self, status: ItemStatus) -> dict[str, Any]:
        if self._hosted is None:
            return super().current(status)
        kind = f"{self._tool.kind}_call"
        return {"id": self.id, "type": kind, "status": status, "call_id": self.call_id, **self._hosted}

    def _hosted_fields(self) -> dict[str, Any] | None:
        try:
            arguments = {} if self.is_blank else orjson.loads(self.raw_arguments)
        except orjson.JSONDecodeError:
            return None
        return _SHAPES[self._tool.kind](arguments) if isinstance(arguments, dict) else None


def _tool_search(arguments: Mapping[str, Any]) -> dict[str, Any] | None:
    return {"execution": "client", "arguments": dict(arguments)}


def _local_shell(arguments: Mapping[str, Any]) -> dict[str, Any] | None:
    command = arguments.get("command")
    if not isinstance(command, list) or not all(isinstance(part, str) for part in command):
        return None
    action: dict[str, Any] = {"type": "exec", "command": command, "env": arguments.get("env") or {}}
    for key in ("timeout_ms", "working_directory", "user"):
        if arguments.get(key) is not None:
            action[key] = arguments[key]
    return {"action": action}


def _shell(arguments: Mapping[str, Any]) -> dict[str, Any] | None:
    commands = arguments.get("commands")
    if not isinstance(commands, list) or not all(isinstance(line, str) for line in commands):
        return None
    keys = ("timeout_ms", "max_output_length")
    return {"action": {"commands": commands, **{key: arguments.get(key) for key in keys}}}


def _apply_patch(arguments: Mapping[str, Any]) -> dict[str, Any] | None:
    operation = {
        key: arguments.get(key) for key in ("type", "path", "diff") if arguments.get(key) is not None
    }
    if not {"type", "path"} <= operation.keys():
        return None
    return {"operation": operation}


_SHAPES: Final[Mapping[ToolKind, Callable[[Mapping[str, Any]], dict[str, Any] | None]]] = {
    ToolKind.TOOL_SEARCH: _tool_search,
    ToolKind.LOCAL_SHELL: _local_shell,
    ToolKind.SHELL: _shell,
    ToolKind.APPLY_PATCH: _apply_patch,
}


class ToolSearchCallItem(ObjectCallItem):
    prefix = ids.TOOL_SEARCH_CALL


class LocalShellCallItem(ObjectCallItem):
    prefix = ids.LOCAL_SHELL_CALL


class ShellCallItem(ObjectCallItem):
    prefix = ids.SHELL_CALL


class ApplyPatchCallItem(ObjectCallItem):
    prefix = ids.APPLY_PATCH_CALL


ITEM_OF_KIND: Final[Mapping[ToolKind, type[CallItem]]] = {
    ToolKind.FUNCTION: CallItem,
    ToolKind.CUSTOM: CustomCallItem,
    ToolKind.TOOL_SEARCH: ToolSearchCallItem,
    ToolKind.LOCAL_SHELL: LocalShellCallItem,
    ToolKind.SHELL: ShellCallItem,
    ToolKind.APPLY_PATCH: ApplyPatchCallItem,
}
