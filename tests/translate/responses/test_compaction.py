"""What a compaction keeps of a conversation, and the one item that it answers with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from harness import deepseek
from harness.machines import (
    envelope,
    events_of,
    judged,
    numbered_ids,
    options,
    play,
    turn,
    unseal,
)

from deepseek_proxy.errors import ContentRejected, ProxyError, UpstreamError
from deepseek_proxy.translate.history import AssistantText, Entry, ImagePart, TextPart, UserMessage
from deepseek_proxy.translate.responses.compaction import (
    Compaction,
    CompactionStream,
    kept_messages,
    unpack,
    user_texts,
)
from deepseek_proxy.translate.sealed import Purpose

AGENTS = "# AGENTS.md instructions for /work\n\n<INSTRUCTIONS>\nBe kind.\n\n</INSTRUCTIONS>"
ENVIRONMENT = "<environment_context>\n  <cwd>/work</cwd>\n</environment_context>"
ABORTED = "<turn_aborted>\nThe user interrupted the previous turn.\n</turn_aborted>"
OLD_INSTRUCTIONS = "<user_instructions>\n\nBe kind.\n\n</user_instructions>"
NOTICE = '<subagent_notification>\n{"status":"done"}\n</subagent_notification>'
PICTURE = ImagePart("data:image/png;base64,AA==", None)

OF_CODEX = [[AGENTS, ENVIRONMENT], [ENVIRONMENT + "\n"], [ABORTED], [OLD_INSTRUCTIONS], [NOTICE]]
OF_THE_USER = [
    ["Fix it."],
    [ENVIRONMENT, "Fix it."],
    [f"What does this mean? {ENVIRONMENT}"],
    [f"{ENVIRONMENT} What does that mean?"],
    ["<environment_context>"],
]


def said(*texts: str) -> UserMessage:
    return UserMessage(tuple(map(TextPart, texts)))


# -- what is kept ---------------------------------------------------------------------------------


@pytest.mark.parametrize("texts", OF_CODEX)
def test_what_codex_says_in_the_users_name_is_not_kept(texts: list[str]) -> None:
    assert user_texts([said(*texts), said("Go on.")]) == ("Go on.",)
    assert kept_messages([item(*texts), item("Go on.")], numbered_ids()) == [kept("msg_1", "Go on.")]


@pytest.mark.parametrize("texts", OF_THE_USER)
def test_what_the_user_says_is_kept(texts: list[str]) -> None:
    assert user_texts([said(*texts)]) == ("\n\n".join(texts),)
    assert kept_messages([item(*texts)], numbered_ids()) == [kept("msg_1", *texts)]


def test_only_the_user_is_kept_and_only_in_words() -> None:
    entries: list[Entry] = [
        AssistantText("Hi."),
        UserMessage((TextPart("Look:"), PICTURE)),
        UserMessage((PICTURE,)),
    ]
    assert user_texts(entries) == ("Look:",)


def test_messages_of_an_answer_keep_their_pictures_and_their_ids() -> None:
    picture = {"type": "input_image", "image_url": "data:image/png;base64,AA=="}
    message = {"type": "message", "id": "msg_mine", "role": "user", "content": [picture]}
    items = [message, {"role": "assistant", "content": "Nice."}, {"type": "reasoning", "summary": []}]
    assert kept_messages(items, numbered_ids()) == [{**message, "status": "completed"}]
    assert kept_messages("Hello", numbered_ids()) == [kept("msg_1", "Hello")]
    assert kept_messages(None, numbered_ids()) == []
    assert kept_messages([{"role": "user", "content": None}], numbered_ids()) == [kept("msg_1")]


def test_a_second_compaction_keeps_the_words_and_not_the_first_summary() -> None:
    """The second summary is made from the first: kept beside it, they would pile up."""
    first = Compaction("We began.", user_texts([said("One."), said("Two.")]))
    entries = [*first.expand(present=()), said("Three.")]
    second = Compaction("We went on.", user_texts(entries))
    assert second.user_texts == ("One.", "Two.", "Three.")
    assert unpack(second.pack()) == second


def item(*texts: str) -> Mapping[str, Any]:
    return {"type": "message", "role": "user", "content": [{"type": "input_text", "text": t} for t in texts]}


def kept(new_id: str, *texts: str) -> Mapping[str, Any]:
    return {"id": new_id, "status": "completed", **item(*texts)}


# -- the answer -----------------------------------------------------------------------------------


def machine() -> CompactionStream:
    return CompactionStream(envelope(), options(), ["One.", "Two."])


def test_it_answers_with_one_item_that_needs_nothing_else() -> None:
    frames = play(deepseek.frames(["We ", "began.\n"], ["Hm"]), turn(machine()))
    created, _, added, done, last = events_of(frames)
    assert [event["type"] for event in (created, added, done, last)] == [
        "response.created",
        "response.output_item.added",
        "response.output_item.done",
        "response.completed",
    ]
    (compaction,) = last["response"]["output"]
    assert compaction == done["item"]
    assert compaction["type"] == "compaction"
    opened = unseal(Purpose.COMPACTION, compaction["encrypted_content"])
    assert opened is not None
    assert unpack(opened) == Compaction("We began.", ("One.", "Two."))


@pytest.mark.parametrize(
    ("reason", "content", "error"),
    [
        ("length", ["We beg"], UpstreamError),
        ("content_filter", ["We beg"], ContentRejected),
        ("stop", [" \n"], UpstreamError),
        ("tool_calls", [], UpstreamError),
        ("aborted", ["We beg"], UpstreamError),
    ],
)
def test_half_a_summary_is_none(reason: str, content: list[str], error: type[ProxyError]) -> None:
    playing = machine()
    final = judged(play(deepseek.frames(content, reason=reason), turn(playing)))
    assert (final["status"], final["output"]) == ("failed", [])
    assert type(playing.error) is error
