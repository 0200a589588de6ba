"""What holds for every history: DeepSeek accepts it, nothing is lost, and sent bytes never change."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count, pairwise
from typing import Any

import orjson
import pytest
from harness.histories import PNG, Check, body_of
from hypothesis import given, settings
from hypothesis import strategies as st

from deepseek_proxy.translate.history import (
    AssistantText,
    Entry,
    History,
    ImagePart,
    Part,
    SystemText,
    TextPart,
    Thinking,
    ToolCall,
    ToolResult,
    UserMessage,
    build,
)

Prompt = Callable[[dict[str, Any]], str]

SHELL = {
    "type": "function",
    "function": {"name": "shell", "parameters": {"type": "object", "properties": {}}},
}
IMAGE = ImagePart(PNG)
PRINTABLE = st.characters(exclude_categories=("Cs",))


def compiled(entries: list[Entry], *, vision: bool, thinking: bool) -> History:
    return build(entries, vision=vision, thinking=thinking, recall=lambda _: None)


# -- any entries at all

IDS = st.sampled_from(["a", "b", "c", "a_2", ""])
NAMES = st.sampled_from(["shell", "read"])
PARTS = st.lists(
    st.one_of(st.text(PRINTABLE, max_size=5).map(TextPart), st.just(IMAGE)), min_size=1, max_size=3
).map(tuple)
ENTRIES = st.lists(
    st.one_of(
        st.text(PRINTABLE, max_size=5).map(SystemText),
        PARTS.map(UserMessage),
        st.text(PRINTABLE, max_size=5).map(AssistantText),
        st.text(PRINTABLE, max_size=5).map(Thinking),
        st.builds(ToolCall, IDS, NAMES, st.text(PRINTABLE, max_size=5)),
        # More results than anything else, so that calls are answered at all.
        st.builds(ToolResult, st.one_of(st.none(), IDS), st.one_of(st.none(), NAMES), PARTS),
        st.builds(ToolResult, IDS, st.none(), PARTS),
    ),
    max_size=14,
)


def marked(entries: list[Entry]) -> tuple[list[Entry], dict[str, int]]:
    """The entries with a mark in every text, and how often each mark has to come out."""
    expected: dict[str, int] = {}

    def mark(text: str, times: int = 1) -> str:
        name = f"‹{len(expected)}›"
        expected[name] = times
        return f"{name}{text}"

    def mark_parts(parts: tuple[Part, ...]) -> tuple[Part, ...]:
        return tuple(TextPart(mark(p.text)) if isinstance(p, TextPart) else p for p in parts)

    out: list[Entry] = []
    for at, entry in enumerate(entries):
        match entry:
            case SystemText(text=text):
                out.append(SystemText(mark(text)))
            case AssistantText(text=text):
                out.append(AssistantText(mark(text)))
            case UserMessage(parts=parts):
                out.append(UserMessage(mark_parts(parts)))
            case ToolResult(call_id=call_id, name=name, parts=parts):
                out.append(ToolResult(call_id, name, mark_parts(parts)))
            case ToolCall(call_id=call_id, name=name, arguments=arguments):
                out.append(ToolCall(call_id, name, mark(arguments)))
            case Thinking(text=text):
                dangling = not isinstance(next_spoken(entries[at:]), AssistantText | ToolCall)
                out.append(Thinking(mark(text, 0 if dangling else 1)))
    return out, expected


def next_spoken(entries: list[Entry]) -> Entry | None:
    return next((entry for entry in entries if not isinstance(entry, Thinking)), None)


def strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from strings(item)
    elif isinstance(value, list):
        for item in value:
            yield from strings(item)


@given(entries=ENTRIES, vision=st.booleans(), thinking=st.booleans())
@settings(max_examples=400)
def test_any_history_is_accepted_and_loses_no_text(
    deepseek_check: Check, entries: list[Entry], vision: bool, thinking: bool
) -> None:
    entries, marks = marked(entries)
    history = compiled(entries, vision=vision, thinking=thinking)
    body = body_of(history, vision=vision, thinking=thinking)
    assert deepseek_check(body) == (200, None)
    everything = "\n".join(strings(body["messages"]))
    assert {mark: everything.count(mark) for mark in marks} == marks


@given(entries=ENTRIES, vision=st.booleans())
@settings(max_examples=200)
def test_images_reach_only_models_that_see(entries: list[Entry], vision: bool) -> None:
    history = compiled(entries, vision=vision, thinking=True)
    images = [
        image
        for entry in entries
        if isinstance(entry, UserMessage | ToolResult)
        for image in entry.parts
        if image is IMAGE
    ]
    sent = orjson.dumps(history.messages).decode()
    assert sent.count(IMAGE.url) == (len(images) if vision else 0)
    assert history.repairs["omitted_image"] == (0 if vision else len(images))


# -- sessions as real clients hold them


@st.composite
def sessions(draw: st.DrawFn) -> list[list[Entry]]:
    """The requests of one session: each is the one before it with entries appended.

    Between two requests stands what a client adds: the model's answer with the results of its calls,
    cut answers, interrupted calls, notices, and results that turn up when nobody waits any more.
    """
    numbers = count()
    reuse_ids = draw(st.booleans())  # some clients number the calls of each turn anew
    interrupted: list[str] = []
    requests: list[list[Entry]] = []
    entries: list[Entry] = [SystemText(f"system {i}") for i in range(draw(st.integers(0, 2)))]

    def text(kind: str) -> str:
        return f"{kind} {next(numbers)}"

    def notices() -> list[Entry]:
        notice = st.sampled_from([SystemText("hook"), UserMessage((TextPart("<subagent_notification>"),))])
        return draw(st.lists(notice, max_size=1))

    def calls() -> list[ToolCall]:
        turn = 0 if reuse_ids else next(numbers)
        return [ToolCall(f"call_{turn}_{i}", "shell", "{}") for i in range(draw(st.integers(1, 3)))]

    def answer(made: list[ToolCall]) -> None:
        hook = notices()
        for number, one in enumerate(made):
            entries.extend([one, *(hook if number else ())])
            if number and draw(st.booleans()) and number < len(made) - 1:
                entries.append(ToolResult(one.call_id, None, (TextPart("aborted"),)))
                made = [other for other in made if other is not one]
        for one in draw(st.permutations(made)):
            shown = (IMAGE,) if draw(st.booleans()) else ()
            entries.extend([ToolResult(one.call_id, None, (TextPart(text("out")), *shown)), *notices()])

    for _ in range(draw(st.integers(1, 4))):
        entries.extend(notices() if requests else ())
        entries.append(UserMessage((TextPart(text("user")),)))
        requests.append(list(entries))
        for kind in draw(
            st.lists(st.sampled_from(["text", "text, calls", "calls", "cut", "interrupted"]), max_size=4)
        ):
            # After a text that was cut off, only reasoning or a text tells that a new answer begins.
            reasoned = draw(st.booleans()) or (kind == "calls" and isinstance(entries[-1], AssistantText))
            if reasoned:
                entries.append(Thinking(text("why")))
            if "text" in kind or kind == "cut":
                entries.append(AssistantText(text("answer")))
            if "calls" in kind:
                answer(calls())
            if kind == "interrupted":
                if isinstance(entries[-1], AssistantText):
                    entries.append(Thinking(text("why")))
                made = calls()
                entries.extend([*made, UserMessage((TextPart("<turn_aborted>"),))])
                interrupted.extend(one.call_id for one in made)
            requests.append(list(entries))
        if interrupted and draw(st.booleans()):
            entries.append(AssistantText(text("answer")))
            entries.append(ToolResult(interrupted.pop(), None, (TextPart(text("late")),)))
        if draw(st.booleans()):
            entries.append(Thinking(text("cut off before it said anything")))
    return requests


@given(requests=sessions(), vision=st.booleans(), thinking=st.booleans())
@settings(max_examples=300)
def test_what_was_sent_is_a_prefix_of_what_is_sent_next(
    deepseek_check: Check,
    deepseek_prompt: Prompt,
    requests: list[list[Entry]],
    vision: bool,
    thinking: bool,
) -> None:
    bodies = [
        body_of(compiled(entries, vision=vision, thinking=thinking), vision=vision, thinking=thinking)
        for entries in requests
    ]
    for body in bodies:
        assert deepseek_check(body) == (200, None)
    for before, after in pairwise(bodies):
        sent = orjson.dumps(before["messages"])
        assert orjson.dumps(after["messages"]).startswith(sent[:-1])
        assert deepseek_prompt(after).startswith(deepseek_prompt(before))


@pytest.mark.parametrize("thinking", [True, False])
def test_placeholders_do_not_depend_on_the_distance_from_the_end(thinking: bool) -> None:
    entries: list[Entry] = [AssistantText("foreign")]
    alone = compiled(entries, vision=True, thinking=thinking).messages
    for i in range(3):
        entries += [
            UserMessage((TextPart("u"),)),
            ToolCall(str(i), "shell", "{}"),
            ToolResult(str(i), None, ()),
        ]
        assert compiled(entries, vision=True, thinking=thinking).messages[:1] == alone
