from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from harness.histories import (
    PNG,
    Check,
    Compile,
    assert_messages,
    body_of,
    call,
    compile_accepted,
    m_assistant,
    m_call,
    m_image,
    m_reminder,
    m_text,
    m_tool,
    m_user,
    result,
    user,
)

from deepseek_proxy.translate.history import (
    BLIND_MODEL,
    IMAGE_BELOW,
    INTERRUPTED,
    UNREADABLE_IMAGE,
    AssistantText,
    Entry,
    ImagePart,
    Repair,
    SystemText,
    Thinking,
    ToolResult,
    UserMessage,
    build,
)

Prompt = Callable[[dict[str, Any]], str]


@pytest.fixture(scope="session")
def compiled(deepseek_check: Check) -> Compile:
    return partial(compile_accepted, deepseek_check)


# -- good history


def test_good_history_passes_through(compiled: Compile) -> None:
    history = compiled(
        [
            SystemText("Be brief."),
            user("List and read."),
            Thinking("Two calls."),
            AssistantText("I look."),
            call("c1", "shell", '{"cmd": "ls"}'),
            call("c2", "read", "not json"),
            result("c1", "a.py"),
            result("c2", ""),
            Thinking(""),
            AssistantText("One file."),
            user("Thanks."),
        ]
    )
    assert_messages(
        history,
        [
            {"role": "system", "content": "Be brief."},
            m_user("List and read."),
            m_assistant(
                "I look.",
                "Two calls.",
                m_call("c1", "shell", '{"cmd": "ls"}'),
                m_call("c2", "read", "not json"),
            ),
            m_tool("c1", "a.py"),
            m_tool("c2", ""),
            m_assistant("One file.", ""),
            m_user("Thanks."),
        ],
    )


@pytest.mark.parametrize(
    ("entries", "expected", "repairs"),
    [
        ([], [m_user("")], {"empty_conversation": 1}),
        ([Thinking("lost")], [m_user("")], {"empty_conversation": 1, "dangling_reasoning": 1}),
        ([SystemText("s")], [{"role": "system", "content": "s"}], {}),
        ([Thinking("t"), AssistantText("a")], [m_assistant("a", "t")], {}),
        ([UserMessage(())], [m_user("")], {}),
        ([user("a"), user("b")], [m_user("a"), m_user("b")], {}),
        ([user("a"), Thinking("t"), AssistantText("")], [m_user("a"), m_assistant("", "t")], {}),
    ],
    ids=[
        "empty",
        "only reasoning",
        "only system",
        "assistant first",
        "no parts",
        "two users",
        "empty answer",
    ],
)
def test_short_conversations(
    compiled: Compile, entries: list[Entry], expected: list[dict[str, Any]], repairs: dict[str, int]
) -> None:
    assert_messages(compiled(entries), expected, **repairs)


def test_tool_names_are_distinct_and_in_order(compiled: Compile) -> None:
    entries = [call("1", "b"), result("1"), call("2", "a"), result("2"), call("3", "b"), result("3")]
    assert compiled(entries).tool_names == ("b", "a")


# -- system texts


def test_leading_system_texts_are_one_message(compiled: Compile) -> None:
    history = compiled([SystemText("one"), SystemText(""), SystemText("two"), user("u")])
    assert_messages(history, [{"role": "system", "content": "one\n\ntwo"}, m_user("u")])


def test_a_later_system_text_stays_in_its_place(compiled: Compile) -> None:
    history = compiled([user("u"), SystemText("now in Rome"), Thinking("t"), AssistantText("a"), user("v")])
    assert_messages(
        history,
        [m_user("u"), m_reminder("now in Rome"), m_assistant("a", "t"), m_user("v")],
        late_system=1,
    )


# -- grouping


def test_a_second_text_is_a_second_message(compiled: Compile) -> None:
    history = compiled([user("u"), AssistantText("a"), AssistantText("b")], thinking=False)
    assert_messages(history, [m_user("u"), m_assistant("a", None), m_assistant("b", None)])


def test_reasoning_after_a_text_begins_a_message(compiled: Compile) -> None:
    history = compiled(
        [user("u"), Thinking("1"), AssistantText("a"), Thinking("2"), call("c"), result("c", "r")]
    )
    assert_messages(
        history, [m_user("u"), m_assistant("a", "1"), m_assistant("", "2", m_call("c")), m_tool("c", "r")]
    )


def test_several_reasonings_of_one_message_join(compiled: Compile) -> None:
    history = compiled([user("u"), Thinking("1"), Thinking(""), Thinking("2"), AssistantText("a")])
    assert_messages(history, [m_user("u"), m_assistant("a", "1\n\n2")], joined_reasoning=2)


def test_reasoning_between_parallel_calls_joins(compiled: Compile) -> None:
    entries = [Thinking("1"), call("a"), Thinking("2"), call("b"), result("a", "x"), result("b", "y")]
    assert_messages(
        compiled(entries),
        [m_assistant("", "1\n\n2", m_call("a"), m_call("b")), m_tool("a", "x"), m_tool("b", "y")],
        joined_reasoning=1,
    )


def test_text_after_a_call_joins_the_text_before_it(compiled: Compile) -> None:
    entries = [Thinking("t"), AssistantText("1"), call("a"), AssistantText("2"), result("a", "x")]
    assert_messages(
        compiled(entries), [m_assistant("1\n\n2", "t", m_call("a")), m_tool("a", "x")], moved_text=1
    )


def test_text_after_a_call_that_nobody_answers_is_a_new_message(compiled: Compile) -> None:
    history = compiled([user("u"), Thinking("t"), call("a"), Thinking("v"), AssistantText("2")])
    assert_messages(
        history,
        [m_user("u"), m_assistant("", "t", m_call("a")), m_tool("a", INTERRUPTED), m_assistant("2", "v")],
        missing_result=1,
    )


def test_calls_after_all_results_are_a_new_message(compiled: Compile) -> None:
    history = compiled([call("a"), result("a", "x"), call("b"), result("b", "y")], thinking=False)
    assert_messages(
        history,
        [
            m_assistant("", None, m_call("a")),
            m_tool("a", "x"),
            m_assistant("", None, m_call("b")),
            m_tool("b", "y"),
        ],
    )


# -- calls and results


def test_results_take_the_order_of_their_calls(compiled: Compile) -> None:
    entries = [Thinking("t"), call("a"), call("b"), result("b", "y"), result("a", "x")]
    assert_messages(
        compiled(entries),
        [m_assistant("", "t", m_call("a"), m_call("b")), m_tool("a", "x"), m_tool("b", "y")],
        reordered_results=1,
    )


def test_a_call_without_a_result_says_so(compiled: Compile) -> None:
    history = compiled([Thinking("t"), call("a"), call("b"), result("b", "y"), user("next")])
    assert_messages(
        history,
        [
            m_assistant("", "t", m_call("a"), m_call("b")),
            m_tool("a", INTERRUPTED),
            m_tool("b", "y"),
            m_user("next"),
        ],
        missing_result=1,
    )


def test_a_message_after_an_interrupted_call_is_not_moved(compiled: Compile) -> None:
    history = compiled([Thinking("t"), call("a"), user("stop"), Thinking("v"), call("b"), result("b", "y")])
    assert_messages(
        history,
        [
            m_assistant("", "t", m_call("a")),
            m_tool("a", INTERRUPTED),
            m_user("stop"),
            m_assistant("", "v", m_call("b")),
            m_tool("b", "y"),
        ],
        missing_result=1,
    )


@pytest.mark.parametrize(
    ("orphan", "text"),
    [
        (
            result("x", "out"),
            "[Output of tool call x, which is not part of this conversation:]\n\nout",
        ),
        (
            result("x", "out", name="shell"),
            "[Output of tool call x (shell), which is not part of this conversation:]\n\nout",
        ),
        (
            result(None, "out", name="shell"),
            "[Output of an unknown tool call (shell), which is not part of this conversation:]\n\nout",
        ),
        (
            result(None, "out"),
            "[Output of an unknown tool call, which is not part of this conversation:]\n\nout",
        ),
    ],
)
def test_a_result_without_its_call_becomes_user_text(
    compiled: Compile, orphan: ToolResult, text: str
) -> None:
    history = compiled([user("u"), orphan, user("v")])
    assert_messages(history, [m_user("u"), m_user(text), m_user("v")], orphan_result=1)


def test_an_orphan_between_call_and_result_moves_behind_the_results(compiled: Compile) -> None:
    history = compiled([Thinking("t"), call("a"), result("x", "out"), result("a", "r")])
    assert_messages(
        history,
        [
            m_assistant("", "t", m_call("a")),
            m_tool("a", "r"),
            m_user("[Output of tool call x, which is not part of this conversation:]\n\nout"),
        ],
        orphan_result=1,
        moved_message=1,
    )


def test_a_result_before_its_call_is_an_orphan(compiled: Compile) -> None:
    history = compiled([result("a", "r"), call("a")], thinking=False)
    assert_messages(
        history,
        [
            m_user("[Output of tool call a, which is not part of this conversation:]\n\nr"),
            m_assistant("", None, m_call("a")),
            m_tool("a", INTERRUPTED),
        ],
        orphan_result=1,
        missing_result=1,
    )


@pytest.mark.parametrize(
    ("new_answer", "messages"),
    [
        ([AssistantText("so")], [m_assistant("so", None)]),
        ([Thinking("so"), AssistantText("a")], [m_assistant("a", "so")]),
        (
            [Thinking("so"), call("c"), result("c", "z")],
            [m_assistant("", "so", m_call("c")), m_tool("c", "z")],
        ),
    ],
    ids=["text", "reasoning and text", "reasoning and call"],
)
def test_a_result_that_comes_after_a_new_answer_stays_there(
    compiled: Compile, new_answer: list[Entry], messages: list[dict[str, Any]]
) -> None:
    entries = [user("u"), call("a"), call("b"), result("a", "x"), *new_answer, result("b", "late"), user("v")]
    assert_messages(
        compiled(entries, thinking=False),
        [
            m_user("u"),
            m_assistant("", None, m_call("a"), m_call("b")),
            m_tool("a", "x"),
            m_tool("b", INTERRUPTED),
            *messages,
            m_user("[Output of tool call b (shell), which was answered or given up earlier:]\n\nlate"),
            m_user("v"),
        ],
        missing_result=1,
        late_result=1,
    )


def test_several_results_of_one_call_join(compiled: Compile) -> None:
    entries = [Thinking("t"), call("a"), call("b"), result("a", "1"), result("a", "2"), result("b", "y")]
    assert_messages(
        compiled(entries),
        [m_assistant("", "t", m_call("a"), m_call("b")), m_tool("a", "1\n\n2"), m_tool("b", "y")],
        extra_result=1,
    )


def test_a_further_result_after_the_next_answer_stays_there(compiled: Compile) -> None:
    # A Codex code-mode cell notifies while later calls already run: what was sent must not change.
    before: list[Entry] = [Thinking("t"), call("a"), result("a", "1"), Thinking("v"), call("b")]
    history = compiled([*before, result("a", "2"), result("b", "y")])
    assert_messages(
        history,
        [
            m_assistant("", "t", m_call("a")),
            m_tool("a", "1"),
            m_assistant("", "v", m_call("b")),
            m_tool("b", "y"),
            m_user("[Output of tool call a (shell), which was answered or given up earlier:]\n\n2"),
        ],
        late_result=1,
        moved_message=1,
    )


def test_a_result_without_an_id_goes_to_the_oldest_open_call_of_that_name(compiled: Compile) -> None:
    entries = [
        Thinking("t"),
        call("1", "shell"),
        call("2", "read"),
        call("3", "shell"),
        call("4", "shell"),
        result("1", "first"),
        result(None, "second", name="shell"),
        result(None, "third", name="shell"),
        result(None, "other", name="read"),
    ]
    history = compiled(entries)
    assert [m["content"] for m in history.messages[1:]] == ["first", "other", "second", "third"]
    assert dict(history.repairs) == {"named_result": 3, "reordered_results": 1}


def test_an_id_may_be_used_again_in_a_later_answer(compiled: Compile) -> None:
    history = compiled(
        [user("u"), Thinking("1"), call("a"), result("a", "x"), Thinking("2"), call("a"), result("a", "y")]
    )
    assert_messages(
        history,
        [
            m_user("u"),
            m_assistant("", "1", m_call("a")),
            m_tool("a", "x"),
            m_assistant("", "2", m_call("a")),
            m_tool("a", "y"),
        ],
    )


def test_an_interrupted_call_does_not_take_the_result_of_a_later_one_with_its_id(compiled: Compile) -> None:
    history = compiled([call("a"), user("again"), call("a"), result("a", "x")], thinking=False)
    assert_messages(
        history,
        [
            m_assistant("", None, m_call("a")),
            m_tool("a", INTERRUPTED),
            m_user("again"),
            m_assistant("", None, m_call("a")),
            m_tool("a", "x"),
        ],
        missing_result=1,
    )


# -- reasoning


@pytest.mark.parametrize(
    ("next_entry", "message"),
    [(user("v"), m_user("v")), (SystemText("v"), m_reminder("v"))],
    ids=["user", "system"],
)
def test_reasoning_that_nothing_follows_is_dropped(
    compiled: Compile, next_entry: Entry, message: dict[str, Any]
) -> None:
    history = compiled([user("u"), Thinking("lost"), next_entry, AssistantText("a"), Thinking("lost too")])
    assert history.messages == [m_user("u"), message, m_assistant("a", " ")]
    assert history.repairs["dangling_reasoning"] == 2


def test_reasoning_before_a_result_is_dropped(compiled: Compile) -> None:
    history = compiled([Thinking("t"), call("a"), Thinking("lost"), result("a", "x"), AssistantText("b")])
    assert_messages(
        history,
        [m_assistant("", "t", m_call("a")), m_tool("a", "x"), m_assistant("b", " ")],
        dangling_reasoning=1,
        missing_reasoning=1,
    )


def test_missing_reasoning_comes_from_the_cache_or_is_a_space(compiled: Compile) -> None:
    entries = [
        *(AssistantText("old"), user("u")),
        *(call("a"), call("b"), result("a", "x"), result("b", "y")),
        *(call("c"), result("c", "z")),
        *(call("d"), result("d", "w")),
    ]
    history = compiled(entries, cache={"b": "from the cache", "c": ""})
    reasoning = [m.get("reasoning_content") for m in history.messages if m["role"] == "assistant"]
    assert reasoning == [" ", "from the cache", "", " "]
    assert dict(history.repairs) == {"recalled_reasoning": 2, "missing_reasoning": 2}


def test_the_cache_is_asked_for_the_ids_the_client_knows(compiled: Compile) -> None:
    entries = [call("a"), call("a"), result("a", "x"), result("a", "y")]
    assert compiled(entries, cache={"a_2": "of another call"}).messages[0]["reasoning_content"] == " "


def test_known_reasoning_wins_over_the_cache(compiled: Compile) -> None:
    history = compiled([Thinking(""), call("a"), result("a", "x")], cache={"a": "other"})
    assert history.messages[0]["reasoning_content"] == ""


def test_without_thinking_only_known_reasoning_is_sent(compiled: Compile) -> None:
    entries = [call("a"), result("a", "x"), Thinking("t"), AssistantText("b")]
    history = compiled(entries, thinking=False, cache={"a": "not asked for"})
    assert_messages(history, [m_assistant("", None, m_call("a")), m_tool("a", "x"), m_assistant("b", "t")])


# -- text and images


def test_text_parts_become_one_string(compiled: Compile) -> None:
    history = compiled([user(" a\n", "", "b"), Thinking("t"), call("c"), result("c", "x", "y ")])
    assert_messages(
        history, [m_user(" a\n\n\n\n\nb"), m_assistant("", "t", m_call("c")), m_tool("c", "x\n\ny ")]
    )


def test_one_string_reads_like_the_parts(deepseek_prompt: Prompt) -> None:
    joined = build([user("a", "b")], vision=True, thinking=True, recall=lambda _: None)
    parts = [m_user([m_text("a"), m_text("b")])]
    body = body_of(joined, vision=True, thinking=True)
    assert deepseek_prompt(body) == deepseek_prompt({**body, "messages": parts})


def test_images_go_up_as_parts_in_order(compiled: Compile) -> None:
    history = compiled([user("see", ImagePart(PNG, "high"), "and", ImagePart("https://x.org/a.png", "huge"))])
    parts = [m_text("see"), m_image(PNG, detail="high"), m_text("and"), m_image("https://x.org/a.png")]
    assert_messages(history, [m_user(parts)])


def test_a_blind_model_gets_a_marker(compiled: Compile) -> None:
    history = compiled(
        [user("see", ImagePart(PNG)), Thinking("t"), call("c"), result("c", "x", ImagePart(PNG))],
        vision=False,
    )
    assert_messages(
        history,
        [
            m_user(f"see\n\n{BLIND_MODEL}"),
            m_assistant("", "t", m_call("c")),
            m_tool("c", f"x\n\n{BLIND_MODEL}"),
        ],
        omitted_image=2,
    )


@pytest.mark.parametrize(
    "url",
    [
        "data:image/svg+xml;base64,AAAA",
        "data:image/png,AAAA",
        "data:;base64,AAAA",
        "file:///etc/passwd",
        "",
        "https://x.org/" + "a" * 8192,
    ],
)
def test_an_image_deepseek_refuses_does_not_spoil_the_history(
    compiled: Compile, deepseek_check: Check, url: str
) -> None:
    refused = {"model": "deepseek-flash", "messages": [m_user([m_image(url)])]}
    assert deepseek_check(refused)[0] == 400
    assert_messages(compiled([user(ImagePart(url))]), [m_user(UNREADABLE_IMAGE)], omitted_image=1)


@pytest.mark.parametrize("kind", ["png", "jpeg", "jpg", "gif", "webp", "PNG", "png;name=a.png"])
def test_an_image_deepseek_reads_goes_up(compiled: Compile, kind: str) -> None:
    url = f"data:image/{kind};base64,AAAA"
    assert_messages(compiled([user(ImagePart(url))]), [m_user([m_image(url)])])


def test_images_of_results_follow_the_whole_tool_block(compiled: Compile) -> None:
    entries = [
        Thinking("t"),
        call("a", "view_image"),
        call("b", "view_image"),
        result("a", "one", ImagePart(PNG, "low"), ImagePart("file:///x")),
        SystemText("resized"),
        result("b", ImagePart("https://x.org/b.png")),
        user("next"),
    ]
    assert_messages(
        compiled(entries),
        [
            m_assistant("", "t", m_call("a", "view_image"), m_call("b", "view_image")),
            m_tool("a", f"one\n\n{IMAGE_BELOW}\n\n{UNREADABLE_IMAGE}"),
            m_tool("b", IMAGE_BELOW),
            m_user(
                [
                    m_text("[Images from tool call a (view_image):]"),
                    m_image(PNG, detail="low"),
                    m_text("[Images from tool call b (view_image):]"),
                    m_image("https://x.org/b.png"),
                ]
            ),
            m_reminder("resized"),
            m_user("next"),
        ],
        moved_image=2,
        omitted_image=1,
        late_system=1,
        moved_message=1,
    )


def test_an_orphan_result_keeps_its_images(compiled: Compile) -> None:
    history = compiled([result("x", "out", ImagePart(PNG))])
    head = m_text("[Output of tool call x, which is not part of this conversation:]")
    assert_messages(history, [m_user([head, m_text("out"), m_image(PNG)])], orphan_result=1)


# -- every repair is known, and time is linear


def test_repair_names_fit_metric_labels() -> None:
    assert all(repair.value.replace("_", "").isalpha() and repair.value.islower() for repair in Repair)


N = 40_000


@pytest.mark.parametrize(
    "entries",
    [
        [user("u"), Thinking("t"), call("a"), result("a", "x")] * (N // 4),
        [call(str(i)) for i in range(N)],
        [call("same") for _ in range(N // 2)] + [result("same", "x") for _ in range(N // 2)],
        [call("a"), *(result("a", "x") for _ in range(N))],
        [*(call(str(i)) for i in range(N // 2)), *(result(None, "x", name="shell") for _ in range(N // 2))],
        [call("open"), *(e for i in range(N // 2) for e in (result(str(i)), call(str(i)))), result("open")],
        [call("open"), *(user("u") for _ in range(N)), result("open")],
        [call(str(i)) for i in range(N // 2)] + [result(str(i)) for i in reversed(range(N // 2))],
        [Thinking("t")] * N,
    ],
    ids="turns unanswered one-id one-call by-name between deferred reversed reasoning".split(),
)
def test_time_is_linear(entries: list[Entry]) -> None:
    # Anything quadratic takes minutes here; linear takes a fraction of a second.
    begun = time.process_time()
    build(entries, vision=True, thinking=True, recall=lambda _: None)
    assert time.process_time() - begun < 5
