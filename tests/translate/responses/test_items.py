from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from harness.histories import PNG, call, result, user
from harness.machines import TOOL_NAME_LIMIT, seal, unseal

from deepseek_proxy.errors import InvalidRequest
from deepseek_proxy.translate.content import UNREADABLE_PART
from deepseek_proxy.translate.history import (
    AssistantText,
    Entry,
    ImagePart,
    SystemText,
    TextPart,
    Thinking,
    ToolResult,
    UserMessage,
)
from deepseek_proxy.translate.responses import compaction
from deepseek_proxy.translate.responses.items import _READERS, InputReader
from deepseek_proxy.translate.sealed import Purpose
from deepseek_proxy.translate.tools import Tool, ToolKind, ToolTable


def read(value: object, table: ToolTable | None = None) -> list[Entry]:
    return InputReader(table or ToolTable(TOOL_NAME_LIMIT), unseal, Counter()).read(value)


def notes_of(*items: dict[str, Any]) -> dict[str, int]:
    """What reading the items counted."""
    notes: Counter[str] = Counter()
    InputReader(ToolTable(TOOL_NAME_LIMIT), unseal, notes).read([*items])
    return dict(notes)


def refusal(value: object) -> tuple[str, str | None, str | None]:
    """(message, param, code) of the error."""
    with pytest.raises(InvalidRequest) as caught:
        read(value)
    return caught.value.message, caught.value.param, caught.value.code


def message(role: str, *parts: dict[str, Any] | str) -> dict[str, Any]:
    return {"type": "message", "role": role, "content": [*parts]}


def text(content: str, kind: str = "input_text") -> dict[str, Any]:
    return {"type": kind, "text": content}


IMAGE = {"type": "input_image", "image_url": PNG, "detail": "high"}

# -- every type of item ---------------------------------------------------------------------------

PACKED = compaction.Compaction("We did things.", ["First", "Second"]).pack()
READ: list[tuple[str, dict[str, Any], list[Entry]]] = [
    ("message", {"role": "user", "content": "Hi"}, [user("Hi")]),
    (
        "agent_message",
        {"author": "scout", "content": [text("Found it")]},
        [user("Message from scout:\nFound it")],
    ),
    (
        "agent_message",
        {"content": [{"type": "encrypted_content", "encrypted_content": "Plain"}]},
        [user("Plain")],
    ),
    ("reasoning", {"summary": [], "encrypted_content": seal(Purpose.REASONING, "Hm")}, [Thinking("Hm")]),
    ("function_call", {"call_id": "c", "name": "f", "arguments": '{"a":1}'}, [call("c", "f", '{"a":1}')]),
    ("function_call_output", {"call_id": "c", "output": "ok"}, [result("c", "ok")]),
    ("custom_tool_call", {"call_id": "c", "name": "p", "input": "ü"}, [call("c", "p", '{"input":"ü"}')]),
    ("custom_tool_call_output", {"call_id": "c", "output": [text("a"), text("b")]}, [result("c", "a", "b")]),
    (
        "tool_search_call",
        {"call_id": "c", "execution": "client", "arguments": {"query": "x"}},
        [call("c", "tool_search", '{"query":"x"}')],
    ),
    ("tool_search_call", {"call_id": "c", "arguments": '{"q": 1}'}, [call("c", "tool_search", '{"q": 1}')]),
    (
        "tool_search_output",
        {"call_id": "c", "tools": []},
        [result("c", "Tools found, which can be called now: none")],
    ),
    (
        "local_shell_call",
        {
            "id": "lsh_1",
            "call_id": "c",
            "action": {"type": "exec", "command": ["ls"], "env": {}, "timeout_ms": None},
        },
        [call("c", "local_shell", '{"command":["ls"]}')],
    ),
    ("local_shell_call_output", {"call_id": "c", "output": "a.py"}, [result("c", "a.py")]),
    ("local_shell_call_output", {"id": "c", "output": "a.py"}, [result("c", "a.py")]),
    (
        "shell_call",
        {"call_id": "c", "action": {"commands": ["ls"], "timeout_ms": None, "max_output_length": 9}},
        [call("c", "shell", '{"commands":["ls"],"max_output_length":9}')],
    ),
    (
        "shell_call_output",
        {
            "call_id": "c",
            "output": [{"stdout": "a", "stderr": "", "outcome": {"type": "exit", "exit_code": 0}}],
        },
        [result("c", '[{"stdout":"a","stderr":"","outcome":{"type":"exit","exit_code":0}}]')],
    ),
    (
        "apply_patch_call",
        {"call_id": "c", "operation": {"type": "delete_file", "path": "a"}},
        [call("c", "apply_patch", '{"type":"delete_file","path":"a"}')],
    ),
    ("apply_patch_call_output", {"call_id": "c", "status": "completed"}, [result("c", "completed")]),
    (
        "apply_patch_call_output",
        {"call_id": "c", "status": "failed", "output": "no such file"},
        [result("c", "failed: no such file")],
    ),
    (
        "mcp_call",
        {"id": "mcp_1", "server_label": "srv", "name": "add", "arguments": "{}", "output": "3"},
        [call("mcp_1", "srv__add", "{}"), result("mcp_1", "3")],
    ),
    (
        "mcp_call",
        {"id": "mcp_1", "server_label": "srv", "name": "add", "arguments": "{}", "error": {"code": 5}},
        [call("mcp_1", "srv__add", "{}"), result("mcp_1", '{"code":5}')],
    ),
    ("web_search_call", {"id": "ws_1", "action": {"type": "search", "query": "x"}}, []),
    ("additional_tools", {"role": "developer", "tools": [{"type": "function", "name": "f"}]}, []),
    (
        "compaction",
        {"encrypted_content": seal(Purpose.COMPACTION, PACKED)},
        [
            user("Written by the user earlier in this conversation:\n\nFirst"),
            user("Written by the user earlier in this conversation:\n\nSecond"),
            user("The conversation up to here was replaced by this summary:\n\nWe did things."),
        ],
    ),
    ("context_compaction", {"encrypted_content": "foreign"}, []),
    ("compaction_trigger", {}, []),
]
REFUSED = {"item_reference"}


@pytest.mark.parametrize(("kind", "item", "entries"), READ)
def test_an_item_becomes_entries(kind: str, item: dict[str, Any], entries: list[Entry]) -> None:
    assert read([{"type": kind, **item}]) == entries


def test_every_reader_has_its_row() -> None:
    assert {kind for kind, _, _ in READ} | REFUSED == {*_READERS}


LEFT_OUT: list[dict[str, Any]] = [
    {"type": "file_search_call", "id": "fs_1", "queries": ["x"], "status": "completed"},
    {"type": "computer_call", "id": "cu_1", "call_id": "c", "pending_safety_checks": []},
    {"type": "computer_call_output", "call_id": "c", "output": {"type": "computer_screenshot"}},
    {"type": "configuration_update", "reasoning": {"effort": "high"}},
    {"type": "image_generation_call", "id": "ig_1", "status": "completed", "result": "AAAA"},
    {"type": "code_interpreter_call", "id": "ci_1", "container_id": "x", "status": "completed"},
    {"type": "mcp_list_tools", "id": "mcpl_1", "server_label": "srv", "tools": []},
    {"type": "mcp_approval_request", "id": "mcpr_1", "name": "add", "arguments": "{}", "server_label": "srv"},
    {"type": "mcp_approval_response", "approval_request_id": "mcpr_1", "approve": True},
    {"type": "program", "id": "p_1", "call_id": "c", "code": "x", "fingerprint": "y"},
    {"type": "program_output", "id": "p_1", "call_id": "c", "result": "x", "status": "completed"},
    {"type": "something_new", "content": 5},
    {"type": 5},
    {"type": ["message"], "role": "user", "content": "x"},
]


@pytest.mark.parametrize("item", LEFT_OUT, ids=lambda item: str(item["type"]))
def test_an_item_that_means_nothing_here_is_left_out_and_counted(item: dict[str, Any]) -> None:
    assert read([item, {"role": "user", "content": "Hi"}]) == [user("Hi")]
    assert notes_of(item) == {"item_left_out": 1}


def test_a_foreign_compaction_is_left_out() -> None:
    assert notes_of({"type": "compaction", "encrypted_content": "foreign"}) == {"item_left_out": 1}


def test_input_may_be_a_string_or_nothing() -> None:
    assert read("Hi") == [user("Hi")]
    assert read("") == [user("")]
    assert read(None) == []
    assert read([]) == []


# -- messages and their parts ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("item", "entry"),
    [
        ({"role": "user", "content": "Hi"}, user("Hi")),
        ({"role": "user", "content": None}, user()),
        ({"role": "user", "content": []}, user()),
        (message("user", text("a"), text("b")), user("a", "b")),
        (message("user", "bare", text("b", "text")), user("bare", "b")),
        (message("system", text("a"), text("b")), SystemText("a\n\nb")),
        (message("developer", text("a")), SystemText("a")),
        ({"role": "developer", "content": "a"}, SystemText("a")),
        (message("assistant", text("a", "output_text"), text("b", "output_text")), AssistantText("ab")),
        (message("assistant", {"type": "refusal", "refusal": "No."}), AssistantText("No.")),
        ({"role": "assistant", "content": "a", "phase": "commentary"}, AssistantText("a")),
        (message("user", IMAGE), UserMessage((ImagePart(PNG, "high"),))),
        (
            message("user", {"type": "input_image", "image_url": "https://x/y.png"}),
            UserMessage((ImagePart("https://x/y.png"),)),
        ),
        (
            message("user", {"type": "image_url", "image_url": {"url": PNG}}),
            UserMessage((ImagePart(PNG),)),
        ),
        (
            message("user", {"type": "input_file", "filename": "a.txt", "file_data": "data:,hello"}),
            user("a.txt:\nhello\n"),
        ),
    ],
)
def test_a_message_of_any_role_and_form(item: dict[str, Any], entry: Entry) -> None:
    assert read([item]) == [entry]


def test_extra_keys_of_a_message_that_is_sent_back_are_no_matter() -> None:
    item = {
        "id": "msg_1",
        "type": "message",
        "status": "completed",
        "role": "assistant",
        "phase": None,
        "parsed": {"a": 1},
        "content": [{**text("a", "output_text"), "annotations": [], "logprobs": [], "parsed": None}],
    }
    assert read([item]) == [AssistantText("a")]
    assert notes_of(item) == {}


@pytest.mark.parametrize(
    "item",
    [
        message("user", {"type": "input_video", "url": "x"}),
        message("user", {"type": ["input_text"], "text": "x"}),
        message("user", {"text": "x"}),
        message("assistant", IMAGE),  # only the user and tools can show something
        message("system", IMAGE),
        {"type": "agent_message", "content": [{"type": "note"}]},
        {"type": "function_call_output", "call_id": "c", "output": [{"type": "chart"}]},
    ],
)
def test_a_part_that_means_nothing_here_is_left_out_and_counted(item: dict[str, Any]) -> None:
    read([item])
    assert notes_of(item) == {"part_left_out": 1}


def test_an_output_may_hold_text_and_images() -> None:
    item = {"type": "function_call_output", "call_id": "c", "output": [text("a"), IMAGE]}
    assert read([item]) == [result("c", "a", ImagePart(PNG, "high"))]


@pytest.mark.parametrize(
    ("output", "shown"),
    [(None, ()), ("", ("",)), ({"a": [1]}, ('{"a":[1]}',)), (5, ("5",)), (True, ("true",))],
)
def test_an_output_of_any_type_is_shown(output: Any, shown: tuple[str, ...]) -> None:
    assert read([{"type": "function_call_output", "call_id": "c", "output": output}]) == [result("c", *shown)]


# -- thinking -------------------------------------------------------------------------------------

SUMMARY = [text("sum", "summary_text"), text("mary", "summary_text")]
CONTENT = [text("con", "reasoning_text"), text("tent", "reasoning_text")]
SEALED = seal(Purpose.REASONING, "sealed")


@pytest.mark.parametrize(
    ("item", "entries"),
    [
        ({"summary": SUMMARY, "content": CONTENT, "encrypted_content": SEALED}, [Thinking("sealed")]),
        ({"summary": SUMMARY, "content": CONTENT, "encrypted_content": "foreign"}, [Thinking("content")]),
        ({"summary": SUMMARY, "content": CONTENT}, [Thinking("content")]),
        ({"summary": SUMMARY, "content": [], "encrypted_content": None}, [Thinking("summary")]),
        ({"summary": SUMMARY, "content": None, "encrypted_content": ""}, [Thinking("summary")]),
        ({"summary": SUMMARY, "encrypted_content": {"not": "a string"}}, [Thinking("summary")]),
        # Known to have been empty, and unknown: not the same.
        ({"summary": [], "encrypted_content": seal(Purpose.REASONING, "")}, [Thinking("")]),
        ({"summary": [], "encrypted_content": "foreign"}, []),
        ({"summary": []}, []),
        ({"summary": "text"}, []),
        ({"id": "rs_1", "summary": [], "encrypted_content": seal(Purpose.COMPACTION, "x")}, []),
    ],
)
def test_thinking_comes_from_the_best_there_is(item: dict[str, Any], entries: list[Entry]) -> None:
    assert read([{"type": "reasoning", **item}]) == entries


# -- calls ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("item", "arguments"),
    [
        ({"arguments": '{"a": 1, "b"'}, '{"a": 1, "b"'),  # a cut call, as the model wrote it
        ({"arguments": ""}, ""),
        ({"arguments": None}, "{}"),
        ({}, "{}"),
        ({"arguments": {"a": [1, "ü"]}}, '{"a":[1,"ü"]}'),
    ],
)
def test_arguments_of_any_form_are_text(item: dict[str, Any], arguments: str) -> None:
    assert read([{"type": "function_call", "call_id": "c", "name": "f", **item}]) == [
        call("c", "f", arguments)
    ]


def test_a_call_without_a_call_id_has_its_item_id() -> None:
    item = {"type": "function_call", "id": "fc_1", "name": "f", "arguments": "{}"}
    assert read([item]) == [call("fc_1", "f")]
    del item["id"]
    assert read([item]) == [call("", "f")]


def test_the_output_of_a_local_shell_call_names_it_by_any_of_its_ids() -> None:
    shell = {"type": "local_shell_call", "id": "lsh_1", "call_id": "c", "action": {"command": ["ls"]}}
    entries = [call("c", "local_shell", '{"command":["ls"]}'), result("c", "a.py")]
    for ids in ({"call_id": "c"}, {"id": "c"}, {"id": "lsh_1"}, {"id": "lsho_9", "call_id": "c"}):
        assert read([shell, {"type": "local_shell_call_output", **ids, "output": "a.py"}]) == entries


def test_names_in_the_history_become_the_names_sent_upstream() -> None:
    table = ToolTable(TOOL_NAME_LIMIT)
    odd = table.upstream_name(Tool(ToolKind.FUNCTION, "fs.read"))
    items = [
        {"type": "function_call", "call_id": "a", "name": "fs.read", "arguments": "{}"},
        {"type": "function_call", "call_id": "b", "name": "add", "namespace": "srv", "arguments": "{}"},
        {"type": "custom_tool_call", "call_id": "c", "name": "exec", "namespace": "functions", "input": ""},
        {"type": "function_call_output", "name": "add", "namespace": "srv", "output": "3"},
        {"type": "function_call_output", "call_id": 7, "name": 5, "output": "3"},
    ]
    assert read(items, table) == [
        call("a", odd),
        call("b", "srv__add"),
        call("c", "exec", '{"input":""}'),
        ToolResult(None, "srv__add", (TextPart("3"),)),
        ToolResult("7", None, (TextPart("3"),)),
    ]


def test_tools_inside_items_can_be_called() -> None:
    table = ToolTable(TOOL_NAME_LIMIT)
    odd = [{"type": "function", "name": name} for name in ("add", "list.all")]
    found = {"type": "namespace", "name": "cal", "tools": odd}
    items = [
        {"type": "additional_tools", "role": "developer", "tools": [{"type": "custom", "name": "exec"}]},
        {"type": "tool_search_output", "call_id": "c", "tools": [found, {"type": "function", "name": "now"}]},
    ]
    alias = table.upstream_name(Tool(ToolKind.FUNCTION, "list.all", "cal"))
    told = f"Tools found, which can be called now: cal__add, {alias}, now"
    assert read(items, table) == [result("c", told)]
    assert table.declared_names == {"exec", "cal__add", alias, "now"}


# -- compaction -----------------------------------------------------------------------------------


def test_user_messages_beside_a_compaction_are_not_said_twice() -> None:
    item = {"type": "compaction", "encrypted_content": seal(Purpose.COMPACTION, PACKED)}
    entries = read([{"role": "user", "content": "First"}, item, {"role": "user", "content": "Third"}])
    texts = [part.text for entry in entries if isinstance(entry, UserMessage) for part in entry.parts]
    assert texts == [
        "First",
        "Written by the user earlier in this conversation:\n\nSecond",
        "The conversation up to here was replaced by this summary:\n\nWe did things.",
        "Third",
    ]


def test_a_trigger_asks_for_a_compaction() -> None:
    reader = InputReader(ToolTable(TOOL_NAME_LIMIT), unseal, Counter())
    assert not reader.compaction_asked
    reader.read([{"type": "compaction_trigger"}])
    assert reader.compaction_asked


def test_a_trigger_of_an_earlier_request_does_not() -> None:
    reader = InputReader(ToolTable(TOOL_NAME_LIMIT), unseal, Counter())
    reader.read("Go on.", [{"type": "compaction_trigger"}])
    assert not reader.compaction_asked


def test_earlier_items_come_first_and_are_never_too_new_to_be_left_out() -> None:
    unreadable = {"role": "user", "content": [{"type": "input_audio", "data": ""}]}
    reader = InputReader(ToolTable(TOOL_NAME_LIMIT), unseal, Counter())
    assert reader.read("And?", [unreadable]) == [
        UserMessage((TextPart(UNREADABLE_PART),)),
        UserMessage((TextPart("And?"),)),
    ]
    with pytest.raises(InvalidRequest):
        reader.read([unreadable])


# -- refusals -------------------------------------------------------------------------------------

MISSING = "missing_required_parameter"
NO_REFERENCE = (
    "Item with id 'rs_1' not found. Items are not persisted when `store` is set to false. Try again "
    "with `store` set to true, or remove this item from your input."
)


@pytest.mark.parametrize(
    ("value", "param", "code", "message"),
    [
        (5, "input", "invalid_type", "expected a string or an array of items, but got an integer instead."),
        (["Hi"], "input[0]", "invalid_type", "expected an object, but got a string instead."),
        (
            [{"role": "user", "content": 5}],
            *("input[0].content", "invalid_type"),
            "expected a string or an array of content parts, but got an integer instead.",
        ),
        (
            [message("user", "a"), message("user", text("a"), 5)],
            *("input[1].content[1]", "invalid_type", "expected an object, but got an integer instead."),
        ),
        (
            [{"type": "custom_tool_call", "call_id": "c", "name": "p", "input": 5}],
            *("input[0].input", "invalid_type", "expected a string, but got an integer instead."),
        ),
        ([{"content": "Hi"}], "input[0].type", MISSING, ""),
        ([{"type": "message", "content": "Hi"}], "input[0].role", MISSING, ""),
        ([message("user", {"type": "input_text"})], "input[0].content[0].text", MISSING, ""),
        ([{"type": "function_call", "call_id": "c"}], "input[0].name", MISSING, ""),
        ([{"type": "item_reference", "id": "rs_1"}], "input", None, NO_REFERENCE),
        ([{"id": "rs_1"}], "input", None, NO_REFERENCE),
        (
            [message("user", {"type": "input_image", "file_id": "file_1"})],
            *("input[0].content[0].file_id", "unsupported_value"),
            "Images by 'file_id' are not supported: send a data URL in 'image_url'.",
        ),
        (
            [message("user", text("a"), {"type": "input_file", "file_id": "file_1"})],
            *("input[0].content[1].file_id", "unsupported_value"),
            "Files by 'file_id' are not supported: send the text in 'file_data', as a data URL or base64.",
        ),
        (
            [message("user", {"type": "input_audio", "input_audio": {}})],
            *("input[0].content[0]", "unsupported_value"),
            "Audio input is not supported by DeepSeek's models.",
        ),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_path(
    value: object, param: str, code: str | None, message: str
) -> None:
    leads = {
        MISSING: f"Missing required parameter: '{param}'.",
        "invalid_type": f"Invalid type for '{param}': ",
    }
    assert refusal(value) == (leads.get(code or "", "") + message, param, code)


@pytest.mark.parametrize("kind", ["tool_search_output", "additional_tools"])
@pytest.mark.parametrize(
    "bad",
    [
        {"type": "mcp", "server_label": "x"},
        {"type": "function"},
        {"type": "function", "name": "f", "parameters": "no"},
        "junk",
    ],
)
def test_a_tool_of_the_history_that_cannot_be_read_costs_only_itself(kind: str, bad: object) -> None:
    good = {"type": "function", "name": "good", "parameters": {"type": "object", "properties": {}}}
    item = {"type": kind, "role": "developer", "call_id": "c", "tools": [bad, good]}
    table, notes = ToolTable(64), Counter[str]()
    InputReader(table, lambda _purpose, _token: None, notes).read([item])
    assert table.declared_names == {"good"}
    assert notes == {"tool_left_out": 1}


@pytest.mark.parametrize("kind", ["tool_search_output", "additional_tools"])
def test_tools_of_the_history_that_are_no_list_are_none(kind: str) -> None:
    read([{"type": kind, "role": "developer", "call_id": "c", "tools": "junk"}])
