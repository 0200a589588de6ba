"""Truncation: what goes, what stays, and that the next request begins as the last one did."""

from __future__ import annotations

from collections import Counter as Notes
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import pytest
from harness.histories import call, result, user
from harness.machines import context
from hypothesis import given, settings
from hypothesis import strategies as st

from deepseek_proxy import models
from deepseek_proxy.models import FLASH, Resolved
from deepseek_proxy.tokenizer.encoding import Counter
from deepseek_proxy.translate import history, truncation
from deepseek_proxy.translate.history import (
    AssistantText,
    Entry,
    SystemText,
    Thinking,
    ToolCall,
    UserMessage,
)
from deepseek_proxy.translate.reasoning import OFF, ThinkingMode
from deepseek_proxy.translate.responses.request import ResponsesRequest, parse
from deepseek_proxy.translate.tokens import Count, entry_tokens
from deepseek_proxy.translate.truncation import room

WORDS = "the quick brown fox jumps over it " * 14  # 99 tokens


def talk(turns: int) -> list[Entry]:
    """Two system texts in front, one in the middle; every turn has 300 tokens and a bit."""
    entries: list[Entry] = [SystemText("Be brief."), SystemText("Be kind.")]
    for n in range(turns):
        entries += [user(f"question {n} {WORDS}"), Thinking("hm"), call(f"c{n}"), result(f"c{n}", WORDS)]
        entries += [AssistantText(f"answer {n} {WORDS}")]
        if n == 1:
            entries.append(SystemText("The mode has changed."))
    return entries


def shorten(entries: Sequence[Entry], tokens: int, count: Count) -> tuple[list[Entry], int]:
    """What is kept, and how many turns are not."""
    notes: Notes[str] = Notes()
    kept = truncation.shorten(entries, tokens, count, notes)
    return kept, notes["turn_left_out"]


def size(entries: Sequence[Entry]) -> int:
    return sum(entry_tokens(entry, Counter()) for entry in entries)


def first_question(entries: Sequence[Entry]) -> int:
    return next(int(e.parts[0].text.split()[1]) for e in entries if isinstance(e, UserMessage))  # type: ignore[union-attr]


def test_what_fits_is_left_alone_and_not_even_counted() -> None:
    def count(_: str) -> int:
        raise AssertionError("its bytes show that it fits")

    assert shorten(talk(10), 100_000, count) == (talk(10), 0)


def test_what_is_counted_and_fits_is_left_alone() -> None:
    entries = talk(10)
    assert shorten(entries, size(entries), Counter()) == (entries, 0)
    kept, left_out = shorten(entries, size(entries) - 1, Counter())
    assert left_out > 0
    assert size(kept) <= 0.75 * size(entries)


def test_whole_turns_go_and_system_texts_stay_where_they_are() -> None:
    entries = talk(10)
    kept, left_out = shorten(entries, 1_500, Counter())
    assert left_out > 2
    assert kept == [*entries[:2], SystemText("The mode has changed."), *entries[3 + 5 * left_out :]]
    assert size(kept) <= 1_500


def test_the_last_turn_is_never_left_out() -> None:
    entries = talk(3)
    kept, left_out = shorten(entries, 50, Counter())
    assert left_out == 2
    assert first_question(kept) == 2
    assert shorten(entries[:3], 5, Counter()) == (entries[:3], 0)


def test_a_turn_that_grows_is_never_cut() -> None:
    """The user has spoken once, and the model works for hours."""
    entries: list[Entry] = [user("Build it.")]
    for n in range(20):
        entries += [call(f"c{n}"), result(f"c{n}", WORDS)]
    assert shorten(entries, 500, Counter()) == (entries, 0)


def test_several_messages_of_the_user_begin_one_turn() -> None:
    old = [user("context"), user(WORDS), AssistantText(WORDS)]
    new = [user("context of today"), user("question")]
    assert shorten([*old, *new], 150, Counter()) == (new, 1)


def test_a_message_between_a_call_and_its_result_begins_no_turn() -> None:
    old = [user(WORDS), call("c1"), user("hurry up"), result("c1", WORDS), AssistantText("done")]
    new = [user("thanks")]
    assert shorten([*old, *new], 150, Counter()) == (new, 1)
    assert shorten(old, 50, Counter()) == (old, 0)


def test_the_same_turns_are_left_out_while_a_quarter_of_the_room_fills_up() -> None:
    """Else every request would begin with other bytes, and cost fifty times as much."""
    whole = talk(60)
    cuts = []
    for end in range(len(whole)):
        kept, _ = shorten(whole[: end + 1], 4_000, Counter())
        assert size(kept) <= 4_000
        if isinstance(whole[end], UserMessage):
            cuts.append(first_question(kept))
    assert cuts == sorted(cuts)
    assert cuts[-1] > 40
    assert len(set(cuts)) < 20, "it moves with every turn"


ENTRIES = st.one_of(
    st.builds(SystemText, st.just("system")),
    st.builds(user, st.sampled_from(["a", WORDS])),
    st.builds(AssistantText, st.sampled_from(["b", WORDS])),
    st.builds(Thinking, st.just("thought")),
    st.builds(call, st.sampled_from(["c1", "c2"])),
    st.builds(result, st.sampled_from(["c1", "c2"]), st.sampled_from(["out", WORDS])),
)


@settings(max_examples=300)
@given(st.lists(ENTRIES, min_size=1, max_size=40), st.integers(-10, 2_000))
def test_nothing_is_invented_and_no_call_is_parted_from_its_result(entries: list[Entry], tokens: int) -> None:
    kept, left_out = shorten(entries, tokens, Counter())
    assert [e for e in kept if isinstance(e, SystemText)] == [e for e in entries if isinstance(e, SystemText)]
    rest = [e for e in entries if not isinstance(e, SystemText)]
    kept_rest = [e for e in kept if not isinstance(e, SystemText)]
    assert kept_rest == rest[len(rest) - len(kept_rest) :]
    assert bool(left_out) == (len(kept) < len(entries))
    result_of, _ = history.pair(entries)
    for at, entry in enumerate(entries):
        if isinstance(entry, ToolCall) and at in result_of:
            both = (entry, entries[result_of[at]])
            assert len({any(e is other for other in kept) for e in both}) == 1 or entries.count(entry) > 1


@pytest.mark.parametrize(
    ("mode", "max_tokens", "expected"),
    [
        (OFF, None, 8_192),
        (ThinkingMode("low"), None, 65_536),
        (ThinkingMode("max"), None, 131_072),
        (ThinkingMode("max"), 1_000, 1_000),
        (OFF, 393_216, 393_216),
    ],
)
def test_the_answer_has_its_room(mode: ThinkingMode, max_tokens: int | None, expected: int) -> None:
    assert room(FLASH, mode, max_tokens) == models.FLASH.context_window - expected


def test_a_small_window_is_not_taken_by_the_answer() -> None:
    assert room(replace(FLASH, context_window=8_000), ThinkingMode("max"), None) == 6_000


# -- a request ------------------------------------------------------------------------------------


def asked(turns: int, **fields: object) -> ResponsesRequest:
    small = replace(FLASH, context_window=4_000)
    items: list[dict[str, object]] = []
    for n in range(turns):
        items += [
            {"role": "user", "content": f"question {n} {WORDS}"},
            {"type": "function_call", "call_id": f"c{n}", "name": "shell", "arguments": "{}"},
            {"type": "function_call_output", "call_id": f"c{n}", "output": WORDS},
            {"role": "assistant", "content": f"answer {n}"},
        ]
    body = {"model": "deepseek-flash", "instructions": "Be brief.", "input": items, **fields}
    return parse(body, context(resolve=lambda name: Resolved(name, small)))


def test_a_request_that_asks_for_it_is_shortened_and_the_log_says_so() -> None:
    parsed = asked(20, truncation="auto")
    assert parsed.notes["turn_left_out"] > 10
    assert parsed.upstream["messages"][0] == {"role": "system", "content": "Be brief."}
    assert parsed.upstream["messages"][-1]["content"] == "answer 19"
    assert parsed.echo["truncation"] == "auto"
    assert parsed.upstream["tools"], "calls of the history are declared"


@pytest.mark.parametrize("fields", [{}, {"truncation": "disabled"}, {"truncation": None}])
def test_without_that_nothing_is_left_out_whatever_the_length(fields: dict[str, object]) -> None:
    parsed = asked(20, **fields)
    assert len(parsed.upstream["messages"]) == 1 + 20 * 4
    assert "turn_left_out" not in parsed.notes


def test_tools_take_their_part_of_the_room() -> None:
    tool = {"type": "function", "name": "other", "description": WORDS * 10, "parameters": None}
    bare, loaded = asked(20, truncation="auto"), asked(20, truncation="auto", tools=[tool])
    assert loaded.notes["turn_left_out"] > bare.notes["turn_left_out"]


def test_what_is_sent_for_the_next_turn_begins_with_what_was_sent_for_the_last() -> None:
    sent = [asked(turns, truncation="auto").upstream["messages"] for turns in range(1, 30)]
    kept_prefix = [after[: len(before)] == before for before, after in pairwise(sent)]
    assert kept_prefix.count(False) <= 8
    assert kept_prefix.count(True) >= 20
