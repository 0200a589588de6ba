"""The shapes Codex sends that break naive converters (Codex CLI 0.169.0)."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
from harness.histories import (
    PNG,
    Check,
    Compile,
    assert_messages,
    call,
    compile_accepted,
    m_assistant,
    m_call,
    m_reminder,
    m_tool,
    m_user,
    result,
    user,
)

from deepseek_proxy.translate.history import (
    INTERRUPTED,
    AssistantText,
    Entry,
    ImagePart,
    SystemText,
    Thinking,
)


@pytest.fixture(scope="session")
def compiled(deepseek_check: Check) -> Compile:
    return partial(compile_accepted, deepseek_check)


def test_parallel_batch(compiled: Compile) -> None:
    ids = ("5", "6", "7")
    history = compiled([Thinking("t"), *map(call, ids), *(result(i, f"out {i}") for i in ids)])
    assert_messages(history, [m_assistant("", "t", *map(m_call, ids)), *(m_tool(i, f"out {i}") for i in ids)])


def test_aborted_output_between_the_calls_of_a_batch(compiled: Compile) -> None:
    entries = [
        Thinking("t"),
        *(call("5"), call("6"), call("7", "apply_patch"), call("8"), result("8", "aborted"), call("9")),
        *(result("5", "out 5"), result("6", "out 6"), result("7", "out 7"), result("9", "out 9")),
    ]
    assert_messages(
        compiled(entries),
        [
            m_assistant(
                "", "t", m_call("5"), m_call("6"), m_call("7", "apply_patch"), m_call("8"), m_call("9")
            ),
            m_tool("5", "out 5"),
            m_tool("6", "out 6"),
            m_tool("7", "out 7"),
            m_tool("8", "aborted"),
            m_tool("9", "out 9"),
        ],
        merged_call=1,
        reordered_results=1,
    )


@pytest.mark.parametrize(
    ("between", "moved", "repairs"),
    [
        (SystemText("hook says"), m_reminder("hook says"), {"late_system": 1}),
        (
            user("<subagent_notification>done</subagent_notification>"),
            m_user("<subagent_notification>done</subagent_notification>"),
            {},
        ),
        (user("<turn_aborted>"), m_user("<turn_aborted>"), {}),
    ],
    ids=["hook developer message", "subagent_notification", "turn_aborted"],
)
def test_message_between_a_call_and_its_output(
    compiled: Compile, between: Entry, moved: dict[str, Any], repairs: dict[str, int]
) -> None:
    history = compiled([user("u"), Thinking("t"), call("a"), between, result("a", "x")])
    assert_messages(
        history,
        [m_user("u"), m_assistant("", "t", m_call("a")), m_tool("a", "x"), moved],
        moved_message=1,
        **repairs,
    )


def test_hook_messages_between_the_calls_of_a_batch(compiled: Compile) -> None:
    entries = [
        Thinking("t"),
        *(call("a"), SystemText("hook a"), call("b"), SystemText("hook b")),
        *(result("a", "x"), result("b", "y")),
    ]
    assert_messages(
        compiled(entries),
        [
            m_assistant("", "t", m_call("a"), m_call("b")),
            m_tool("a", "x"),
            m_tool("b", "y"),
            m_reminder("hook a"),
            m_reminder("hook b"),
        ],
        late_system=2,
        moved_message=2,
        merged_call=1,
    )


def test_desktop_image_resize_notices(compiled: Compile) -> None:
    notice = "<image_resize_notice>"
    entries = [
        *(Thinking("t"), call("a", "view_image"), call("b", "view_image")),
        *(result("a", ImagePart(PNG)), SystemText(notice), result("b", ImagePart(PNG)), SystemText(notice)),
    ]
    roles = [m["role"] for m in compiled(entries).messages]
    assert roles == ["assistant", "tool", "tool", "user", "user", "user"]


def test_duplicate_call_ids(compiled: Compile) -> None:
    entries = [
        *(Thinking("t"), call("a", "one"), call("a", "two"), call("a_2", "three"), call("a", "four")),
        *(result("a", "1"), result("a", "2"), result("a_2", "3"), result("a", "4")),
    ]
    assert_messages(
        compiled(entries),
        [
            m_assistant(
                "",
                "t",
                m_call("a", "one"),
                m_call("a_2", "two"),
                m_call("a_2_2", "three"),
                m_call("a_3", "four"),
            ),
            m_tool("a", "1"),
            m_tool("a_2", "2"),
            m_tool("a_2_2", "3"),
            m_tool("a_3", "4"),
        ],
        duplicate_call_id=3,
    )


def test_a_unique_id_avoids_the_ids_before_it(compiled: Compile) -> None:
    entries = [Thinking("t"), call("a_2"), call("a"), call("a"), result("a_2"), result("a"), result("a")]
    history = compiled(entries)
    assert [m["tool_call_id"] for m in history.messages[1:]] == ["a_2", "a", "a_3"]


def test_repeated_assistant_messages_after_a_cut_stream(compiled: Compile) -> None:
    entries = [user("u"), Thinking("1"), AssistantText("Let me"), Thinking("2"), AssistantText("Let me see")]
    assert_messages(
        compiled(entries), [m_user("u"), m_assistant("Let me", "1"), m_assistant("Let me see", "2")]
    )


def test_request_that_ends_with_a_call_and_its_output(compiled: Compile) -> None:
    history = compiled([user("u"), Thinking("t"), AssistantText("a"), call("c"), result("c", "x")])
    assert_messages(history, [m_user("u"), m_assistant("a", "t", m_call("c")), m_tool("c", "x")])


def test_dangling_reasoning_after_an_interrupt(compiled: Compile) -> None:
    history = compiled([user("u"), Thinking("cut"), user("<turn_aborted>"), user("go on")])
    assert_messages(history, [m_user("u"), m_user("<turn_aborted>"), m_user("go on")], dangling_reasoning=1)


def test_orphans_of_desktop_and_older_versions(compiled: Compile) -> None:
    history = compiled([user("u"), result("gone", "old"), Thinking("t"), call("cut"), user("<turn_aborted>")])
    assert_messages(
        history,
        [
            m_user("u"),
            m_user("[Output of tool call gone, which is not part of this conversation:]\n\nold"),
            m_assistant("", "t", m_call("cut")),
            m_tool("cut", INTERRUPTED),
            m_user("<turn_aborted>"),
        ],
        orphan_result=1,
        missing_result=1,
    )


def test_compaction_request_names_the_tools_of_its_history(compiled: Compile) -> None:
    history = compiled(
        [user("u"), Thinking("t"), call("a", "exec_command"), result("a", "x"), user("Summarise.")]
    )
    assert history.tool_names == ("exec_command",)
