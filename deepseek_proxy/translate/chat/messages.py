"""The `messages` of a Chat Completions request -> entries of a conversation.

A message of the history is never refused for what it says: the client could never send that thread again.
What cannot be read is left out and counted. Refuses to know what DeepSeek accepts (`translate.history` does).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from deepseek_proxy.translate import fields, history, jsontext
from deepseek_proxy.translate.chat import citations, searches
from deepseek_proxy.translate.chat.calls import legacy_call_id
from deepseek_proxy.translate.content import ContentReader
from deepseek_proxy.translate.history import (
    AssistantText,
    Entry,
    SystemText,
    Thinking,
    ToolCall,
    ToolResult,
    UserMessage,
)
from deepseek_proxy.translate.search import Session
from deepseek_proxy.translate.tools import FREEFORM_INPUT, Tool, ToolKind, ToolTable

# `latest_reminder` is DeepSeek's own: like a later system text, it goes into its place as a reminder.
_SYSTEM_ROLES: Final = ("system", "developer", "latest_reminder")
_MODEL_ROLES: Final = ("assistant", "tool", "function")


class MessageReader:
    """Reads the messages of one request. What had to be left out is counted in `notes`.

    `recall` finds what was kept of an earlier answer. `session` is told of the pages that earlier answers
    found; None where nothing is searched.
    """

    def __init__(
        self,
        table: ToolTable,
        notes: Counter[str],
        recall: Callable[[str], str | None],
        session: Session | None = None,
    ) -> None:
        self._table = table
        self._notes = notes
        self._recall = recall
        self._session = session
        self._content = ContentReader(notes, known_only=True)

    def read(self, messages: object) -> list[Entry]:
        """The entries of `messages`. Raises `InvalidRequest` with the path of what is wrong."""
        if messages is None:
            raise fields.missing("messages")
        if not isinstance(messages, list):
            raise fields.invalid_type("messages", "an array of messages", messages)
        if not messages:
            raise fields.invalid_value("messages", "empty array. Expected an array with minimum length 1.")
        entries: list[Entry] = []
        fresh = _first_fresh(messages)
        for index, message in enumerate(messages):
            path = f"messages[{index}]"
            if not isinstance(message, dict):
                raise fields.invalid_type(path, "an object", message)
            self._content.is_fresh = index >= fresh
            entries += self._message(message, path)
        return entries

    def _message(self, message: Mapping[str, Any], path: str) -> Sequence[Entry]:
        role = fields.required_string(message, "role", path)
        content, where = message.get("content"), f"{path}.content"
        if role in _SYSTEM_ROLES:
            return (SystemText(self._content.text(content, where, history.BLANK_LINE)),)
        if role == "assistant":
            return self._assistant(message, path)
        if role in ("tool", "function"):
            return (self._result(message, path),)
        if role != "user":
            # Whatever it is, it is not for us to give it the authority of a system message.
            self._notes["unknown_role"] += 1
        return (UserMessage(self._content.parts(content, where)),)

    # -- the assistant ----------------------------------------------------------------------------

    def _assistant(self, message: Mapping[str, Any], path: str) -> Sequence[Entry]:
        """One message is one answer, also where it says nothing."""
        text = self._content.text(message.get("content"), f"{path}.content")
        refusal = message.get("refusal")
        if not text and isinstance(refusal, str):
            text = refusal
        calls = self._calls(message, path)
        if self._session is not None:
            said = self._searched(self._session, calls, text)
            if said is not None:
                return [*said, *calls]
            text = citations.restored(text, self._session.sources)
        return [*_thinking(message), AssistantText(text), *calls]

    def _searched(self, session: Session, calls: Sequence[ToolCall], text: str) -> Sequence[Entry] | None:
        """What led to an answer that searched, and the answer as the model wrote it; None where it is not
        known."""
        packed = self._recall(searches.key_of([call.call_id for call in calls], text))
        kept = searches.unpack(packed) if packed is not None else None
        if kept is None:
            return None
        session.sources.add(kept.sources)
        return kept.entries

    def _calls(self, message: Mapping[str, Any], path: str) -> list[ToolCall]:
        calls = [
            self._call(call, f"{path}.tool_calls[{index}]")
            for index, call in enumerate(fields.array(message, "tool_calls", path))
        ]
        legacy = fields.mapping(message, "function_call", path)
        if legacy:
            name = fields.required_string(legacy, "name", f"{path}.function_call")
            arguments = _text(legacy.get("arguments"))
            calls.append(ToolCall(legacy_call_id(name, arguments), self._function(name), arguments))
        return calls

    def _call(self, call: object, path: str) -> ToolCall:
        if not isinstance(call, dict):
            raise fields.invalid_type(path, "an object", call)
        call_id = str(call.get("id") or "")
        if call.get("type") == "custom" or "custom" in call:
            custom = fields.mapping(call, "custom", path)
            name = fields.required_string(custom, "name", f"{path}.custom")
            text = fields.string(custom, "input", f"{path}.custom") or ""
            tool = Tool(ToolKind.CUSTOM, name)
            return ToolCall(call_id, self._table.upstream_name(tool), _text({FREEFORM_INPUT: text}))
        function = fields.mapping(call, "function", path)
        name = fields.required_string(function, "name", f"{path}.function")
        return ToolCall(call_id, self._function(name), _text(function.get("arguments")))

    def _function(self, name: str) -> str:
        return self._table.upstream_name(Tool(ToolKind.FUNCTION, name))

    # -- results ----------------------------------------------------------------------------------

    def _result(self, message: Mapping[str, Any], path: str) -> ToolResult:
        """A result without an id, as those of `functions` are, goes to the oldest open call of its name."""
        call_id = message.get("tool_call_id")
        name = message.get("name")
        return ToolResult(
            None if call_id is None else str(call_id),
            self._function(name) if isinstance(name, str) and name else None,
            self._content.parts(message.get("content"), f"{path}.content"),
        )


def _thinking(message: Mapping[str, Any]) -> Sequence[Entry]:
    """DeepSeek's word for it, or that of other hosts. A client that sends null has not kept it."""
    for key in ("reasoning_content", "reasoning"):
        if isinstance(text := message.get(key), str):
            return (Thinking(text),)
    return ()


def _text(arguments: object) -> str:
    if isinstance(arguments, str):
        return arguments
    return jsontext.dumps({} if arguments is None else arguments).decode()


def _first_fresh(messages: Sequence[object]) -> int:
    """Where the part begins that no model has seen: behind its last answer, or a tool's."""
    for index in range(len(messages) - 1, -1, -1):
        message = messages[index]
        if isinstance(message, dict) and message.get("role") in _MODEL_ROLES:
            return index + 1
    return 0
