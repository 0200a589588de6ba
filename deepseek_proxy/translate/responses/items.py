"""The `input` of a Responses request -> entries of a conversation.

A history item is never refused: one unreadable item would make the client's whole thread unusable.
Unknown types and parts are left out and counted. Refuses to know what DeepSeek accepts
(`translate.history` does).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from deepseek_proxy.translate import fields, history, jsontext
from deepseek_proxy.translate.content import ContentReader
from deepseek_proxy.translate.history import (
    AssistantText,
    Entry,
    Part,
    SystemText,
    TextPart,
    Thinking,
    ToolCall,
    ToolResult,
    UserMessage,
)
from deepseek_proxy.translate.responses import compaction, references, search, tools
from deepseek_proxy.translate.sealed import Purpose, Unseal
from deepseek_proxy.translate.search import Session
from deepseek_proxy.translate.tools import FREEFORM_INPUT, Tool, ToolKind, ToolTable


class InputReader:
    """Reads the items of one request. `unseal` opens `encrypted_content` of ours.

    Tools that come inside items (`additional_tools`, `tool_search_output`) are declared in `table`;
    what had to be left out is counted in `notes`. `session` is told of the pages that
    earlier answers found.
    """

    def __init__(
        self, table: ToolTable, unseal: Unseal, notes: Counter[str], session: Session | None = None
    ) -> None:
        self._table = table
        self._unseal = unseal
        self._notes = notes
        self._session = session
        self._content = ContentReader(notes)
        self._local_shell_calls: dict[str, str] = {}  # item id -> call id
        self._entries: list[Entry] = []  # of the items read so far
        self.compaction_asked = False

    def read(
        self, value: object, earlier: Sequence[Mapping[str, Any]] = (), *, param: str = "input"
    ) -> list[Entry]:
        """The entries of what a client sent at `param` (a string, or a list of items), behind those of the
        items `earlier`."""
        if value is None:
            value = []
        elif isinstance(value, str):
            value = [{"role": "user", "content": value}]
        elif not isinstance(value, list):
            raise fields.invalid_type(param, "a string or an array of items", value)
        self._content.is_fresh = False
        self._entries = []
        for index, item in enumerate(earlier):
            self._read(item, f"earlier[{index}]")
        self.compaction_asked = False  # if it was, that has been answered
        fresh = _first_fresh(value)
        for index, item in enumerate(value):
            path = f"{param}[{index}]"
            if not isinstance(item, dict):
                raise fields.invalid_type(path, "an object", item)
            self._content.is_fresh = index >= fresh and item.get("role") == "user"
            self._read(item, path)
        return self._entries

    def _read(self, item: Mapping[str, Any], path: str) -> None:
        read = self._item(item, path)  # which may shorten the entries before it
        self._entries += read

    def _item(self, item: Mapping[str, Any], path: str) -> Sequence[Entry]:
        kind = item.get("type")
        if kind is None:
            if "role" in item:
                kind = "message"
            elif "id" in item:
                kind = "item_reference"
            else:
                raise fields.missing(f"{path}.type")
        reader = _READERS.get(kind) if isinstance(kind, str) else None
        if reader is None:
            self._notes["item_left_out"] += 1
            return ()
        return reader(self, item, path)

    # -- messages ---------------------------------------------------------------------------------

    def message(self, item: Mapping[str, Any], path: str) -> Sequence[Entry]:
        role = fields.required_string(item, "role", path)
        content = item.get("content")
        if role == "assistant":
            return (AssistantText(self._content.text(content, f"{path}.content")),)
        if role in ("system", "developer"):
            return (SystemText(self._content.text(content, f"{path}.content", history.BLANK_LINE)),)
        if role != "user":
            # Whatever it is, it is not for us to give it the authority of a system message.
            self._notes["unknown_role"] += 1
        return (UserMessage(self._content.parts(content, f"{path}.content")),)

    def agent_message(self, item: Mapping[str, Any], path: str) -> Sequence[Entry]:
        """A message between Codex's agents; its text may stand in a part called `encrypted_content`."""
        sender = item.get("author")
        text = self._content.text(item.get("content"), f"{path}.content")
        return (UserMessage((TextPart(f"Message from {sender}:\n{text}" if sender else text),)),)

    # -- reasoning --------------------------------------------------------------------------------

    def reasoning(self, item: Mapping[str, Any], path: str) -> Sequence[Entry]:
        """The thinking from our own seal, else from plain `reasoning_text`, else from the summary.

        The seal may hold the searches before it, too.
        """
        sealed = item.get("encrypted_content")
        known = self._sealed(sealed) if isinstance(sealed, str) and sealed else None
        if known is not None:
            return known
        for key in ("content", "summary"):
            value = item.get(key)
            text = self._content.text(value, f"{path}.{key}") if isinstance(value, list) else ""
            if text:
                return (Thinking(text),)
        return ()

    def _sealed(self, token: str) -> Sequence[Entry] | None:
        """What our seal holds; None where it does not open."""
        if not search.is_round(token):
            opened = self._unseal(Purpose.REASONING, token)
            return None if opened is None else (Thinking(opened),)
        kept = search.unsealed(token, self._unseal)
        if kept is not None and self._session is not None:
            self._session.sources.add(kept.round.sources)
        return None if kept is None else kept.entries(self._table)

    # -- calls and their results ------------------------------------------------------------------

    def function_call(self, item: Mapping[str, Any], path: str) -> Sequence[Entry]:
        name = fields.required_string(item, "name", path)
        tool = Tool(ToolKind.FUNCTION, name, fields.string(item, "namespace", path))
        return (self._call(item, tool, item.get("arguments")),)

    def custom_tool_call(self, item: Mapping[str, Any], path: str) -> Sequence[Entry]:
        name = fields.required_string(item, "name", path)
        tool = Tool(ToolKind.CUSTOM, name, fields.string(item, "namespace", path))
        return (self._call(item, tool, {FREEFORM_INPUT: fields.string(item, "input", path) or ""}),)

    def tool_search_call(self, item: Mapping[str, Any], path: str) -> Sequence[Entry]:
        return (self._call(item, tools.TOOL_SEARCH, item.get("arguments")),)

    def local_shell_call(self, item: Mapping[str, Any], path: str) -> Sequence[Entry]:
        action = fields.mapping(item, "action", path)
        # `type` and an empty `env` are there for the SDK's types: the model has not written them.
        arguments = {k: v for k, v in action.items() if k != "type" and v is not None and v != {}}
        call = self._call(item, tools.LOCAL_SHELL, arguments)
        self._local_shell_calls[str(item.get("id"))] = call.call_id
        return (call,)

    def shell_call(self, item: Mapping[str, Any], path: str) -> Sequence[Entry]:
        action = fields.mapping(item, "action", path)
        return (self._call(item, tools.SHELL, {k: v for k, v in action.items() if v is not None}),)

    def apply_patch_call(self, item: Mapping[str, Any], path: str) -> Sequence[Entry]:
        return (self._call(item, tools.APPLY_PATCH, dict(fields.mapping(item, "operation", path))),)

    def mcp_call(self, item: Mapping[str, Any], path: str) -> Sequence[Entry]:
        """A call that some server ran: the call and its result in one item."""
        label = fields.string(item, "server_label", path)
        tool = Tool(ToolKind.FUNCTION, fields.required_string(item, "name", path), label)
        call = self._call(item, tool, item.get("arguments"))
        output = item.get("output")
        text = output if isinstance(output, str) else _json_text(item.get("error") or "")
        return call, ToolResult(call.call_id, None, (TextPart(text),))

    def _call(self, item: Mapping[str, Any], tool: Tool, arguments: object) -> ToolCall:
        call_id = item.get("call_id") or item.get("id") or ""
        text = arguments if isinstance(arguments, str) else _json_text({} if arguments is None else arguments)
        return ToolCall(str(call_id), self._table.upstream_name(tool), text)

    def call_output(self, item: Mapping[str, Any], path: str) -> Sequence[Entry]:
        output = item.get("output")
        if output is None or isinstance(output, (str, list)):
            parts = self._content.parts(output, f"{path}.output")
        else:
            parts = (TextPart(_json_text(output)),)
        return (self._result(item, parts),)

    def local_shell_call_output(self, item: Mapping[str, Any], path: str) -> Sequence[Entry]:
        """OpenAI's type has no `call_id` but an `id` for the call, which may be either of the call's two."""
        given = item.get("call_id") or item.get("id")
        call_id = self._local_shell_calls.get(str(given), given)
        return self.call_output({**item, "call_id": call_id}, path)

    def shell_call_output(self, item: Mapping[str, Any], path: str) -> Sequence[Entry]:
        return (self._result(item, (TextPart(_json_text(item.get("output") or [])),)),)

    def apply_patch_call_output(self, item: Mapping[str, Any], path: str) -> Sequence[Entry]:
        status = item.get("status") or "completed"
        output = fields.string(item, "output", path)
        return (self._result(item, (TextPart(f"{status}: {output}" if output else str(status)),)),)

    def tool_search_output(self, item: Mapping[str, Any], path: str) -> Sequence[Entry]:
        """The tools that a search found become callable; the model is told their names."""
        names = tools.declare_from_history(item.get("tools"), self._table, self._notes, self._session)
        text = f"Tools found, which can be called now: {', '.join(names) or 'none'}"
        return (self._result(item, (TextPart(text),)),)

    def _result(self, item: Mapping[str, Any], parts: tuple[Part, ...]) -> ToolResult:
        call_id = item.get("call_id")
        name = item.get("name")
        upstream_name = None
        if isinstance(name, str):
            namespace = item.get("namespace")
            tool = Tool(ToolKind.FUNCTION, name, namespace if isinstance(namespace, str) else None)
            upstream_name = self._table.upstream_name(tool)
        return ToolResult(str(call_id) if call_id is not None else None, upstream_name, parts)

    def web_search_call(self, item: Mapping[str, Any], path: str) -> Sequence[Entry]:
        """What the client was shown of a search; the search itself is in the reasoning item behind it."""
        return ()

    # -- the rest ---------------------------------------------------------------------------------

    def compaction(self, item: Mapping[str, Any], path: str) -> Sequence[Entry]:
        """A conversation that was compacted here, as its summary and the user's messages not beside it.

        What stands before it is the conversation that it replaces: of that, the user's and the system's
        messages stay.
        """
        token = item.get("encrypted_content")
        opened = self._unseal(Purpose.COMPACTION, token) if isinstance(token, str) else None
        unpacked = compaction.unpack(opened) if opened is not None else None
        if unpacked is None:
            self._notes["item_left_out"] += 1
            return ()
        self._entries = compaction.kept_entries(self._entries)
        return unpacked.expand(compaction.user_texts(self._entries))

    def compaction_trigger(self, item: Mapping[str, Any], path: str) -> Sequence[Entry]:
        """The request wants a compaction, not an answer."""
        self.compaction_asked = True
        return ()

    def additional_tools(self, item: Mapping[str, Any], path: str) -> Sequence[Entry]:
        """Codex's "lite" models keep the whole tool list here."""
        tools.declare_from_history(item.get("tools"), self._table, self._notes, self._session)
        return ()

    def item_reference(self, item: Mapping[str, Any], path: str) -> Sequence[Entry]:
        """Whoever keeps items has put them in place before."""
        raise references.not_found(item.get("id"))


def _json_text(value: object) -> str:
    return value if isinstance(value, str) else jsontext.dumps(value).decode()


_Reader = Callable[[InputReader, Mapping[str, Any], str], Sequence[Entry]]

_READERS: Final[Mapping[str, _Reader]] = {
    "message": InputReader.message,
    "agent_message": InputReader.agent_message,
    "reasoning": InputReader.reasoning,
    "function_call": InputReader.function_call,
    "function_call_output": InputReader.call_output,
    "custom_tool_call": InputReader.custom_tool_call,
    "custom_tool_call_output": InputReader.call_output,
    "tool_search_call": InputReader.tool_search_call,
    "tool_search_output": InputReader.tool_search_output,
    "local_shell_call": InputReader.local_shell_call,
    "local_shell_call_output": InputReader.local_shell_call_output,
    "shell_call": InputReader.shell_call,
    "shell_call_output": InputReader.shell_call_output,
    "apply_patch_call": InputReader.apply_patch_call,
    "apply_patch_call_output": InputReader.apply_patch_call_output,
    "mcp_call": InputReader.mcp_call,
    "web_search_call": InputReader.web_search_call,
    "additional_tools": InputReader.additional_tools,
    "compaction": InputReader.compaction,
    "context_compaction": InputReader.compaction,
    "compaction_trigger": InputReader.compaction_trigger,
    "item_reference": InputReader.item_reference,
}


def _first_fresh(items: Sequence[object]) -> int:
    """Where the part of `input` begins that no model has seen: behind its last answer or call."""
    for index in range(len(items) - 1, -1, -1):
        item = items[index]
        if isinstance(item, dict) and (
            item.get("role") == "assistant" or str(item.get("type", "")).endswith(("_call", "_output"))
        ):
            return index + 1
    return 0
