"""The fence around a JSON answer: what is taken away, whatever the split, and what is left alone."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepseek_proxy.translate.fences import Unfenced
from deepseek_proxy.translate.hub import Chunk, Delta, Literal, Stage, ToolCallDelta, Usage

STOP = Chunk(finish_reason="stop", usage=Usage(4, 0, 2, 0))


class Passing:
    """Stands where the healer does, and changes nothing."""

    def feed(self, delta: Delta) -> Sequence[Delta]:
        return (delta,)

    def finish(self) -> Sequence[Delta]:
        return ()


def literal(text: str) -> Literal:
    return Literal(Stage.CONTENT, orjson.dumps(text))


def text_of(deltas: Sequence[Delta]) -> str:
    return "".join(orjson.loads(one.json) if isinstance(one, Literal) else one.content for one in deltas)


def shown(pieces: Sequence[str], *, ends: bool = True) -> str:
    subject = Unfenced(Passing())
    deltas = [out for piece in pieces for out in subject.feed(literal(piece))]
    deltas += subject.feed(STOP) if ends else ()
    return text_of([*deltas, *subject.finish()])


def shown_at_any_split(text: str) -> str:
    whole = shown([text])
    for size in (1, 2, 3, 5):
        assert shown([text[i : i + size] for i in range(0, len(text), size)]) == whole
        assert shown([text[i : i + size] for i in range(0, len(text), size)], ends=False) == whole
    return whole


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ('```json\n{"a": 1}\n```', '{"a": 1}'),
        ('```\n{"a": 1}\n```\n', '{"a": 1}'),
        ('\n ```JSON \r\n\n {"a": 1}\r\n  ``` \n', '{"a": 1}'),
        ('```json\n{"a": 1}```', '{"a": 1}'),
        ('```json\n{"a": 1}', '{"a": 1}'),  # cut off, or never closed
        ('```json\n{"a": 1}\n``', '{"a": 1}\n``'),
        ('```json\n{"a": "```py\\nx\\n```"}\n```', '{"a": "```py\\nx\\n```"}'),
        ('```json\n{"a": 1}\n```\nI hope this helps: `a`.', '{"a": 1}'),
        ('```json\n{"a": 1}\n```\n```json\n{"a": 2}\n```', '{"a": 1}'),
        ("```json\n```", ""),
        ("```json\n[1,\n\n 2]\n```", "[1,\n\n 2]"),
    ],
)
def test_a_fence_is_taken_away(text: str, left: str) -> None:
    assert shown_at_any_split(text) == left


@pytest.mark.parametrize(
    "text",
    [
        "",
        "  \n",
        '{"a": 1}',
        '  {"a": "```"}\n',
        "`",
        "``",
        "```",
        "```json",
        "``x``",
        '```json {"a": 1}```',
        'Here it is:\n```json\n{"a": 1}\n```',
        "```" + "x" * 21 + "\n{}\n```",
        " " * 101 + "```json\n{}\n```",
    ],
)
def test_what_is_no_fence_is_left_alone(text: str) -> None:
    assert shown_at_any_split(text) == text


PARTS = st.sampled_from(["`", "```", "json", "\n", " ", "\r", "{", '"a"', "}", " " * 90])


@given(
    st.lists(PARTS, max_size=14).map("".join),
    st.lists(st.integers(0, 400), max_size=8),
    st.sampled_from(["", "```json\n{"]),
)
def test_any_split_gives_the_same(text: str, cuts: list[int], before: str) -> None:
    text = before + text
    edges = sorted({0, len(text), *(cut % (len(text) + 1) for cut in cuts)})
    assert shown([text[a:b] for a, b in pairwise(edges)]) == shown([text])


def test_a_text_without_a_fence_is_passed_on_unread() -> None:
    subject = Unfenced(Passing())
    assert text_of(subject.feed(literal("{"))) == "{"
    more = literal('"a": "```')
    assert [*subject.feed(more)] == [more]


def test_little_is_kept_back() -> None:
    """A model may stall in white space: the client is to see that."""
    subject = Unfenced(Passing())
    subject.feed(literal("```json\n{"))
    said = sum(len(text_of(subject.feed(literal(" \n")))) for _ in range(1000))
    assert said >= 1700


@pytest.mark.parametrize("text", ["", "{}", "```json\n{}\n```"])
def test_what_comes_with_the_text_keeps_its_place(text: str) -> None:
    """A whole answer is one chunk."""
    call = ToolCallDelta(0, "call_1", "f", "{}")
    whole = Chunk(
        reasoning="Hm",
        content=text,
        tool_calls=(call,),
        finish_reason="tool_calls",
        usage=Usage(4, 0, 2, 1),
        fingerprint="fp",
    )
    subject = Unfenced(Passing())
    deltas: Any = [*subject.feed(whole), *subject.finish()]
    assert text_of(deltas) == text.removeprefix("```json\n").removesuffix("\n```")
    assert deltas[0].reasoning == "Hm"
    assert deltas[0].fingerprint == "fp"
    assert (deltas[-1].tool_calls, deltas[-1].finish_reason) == ((call,), "tool_calls")
    assert [delta.usage for delta in deltas if delta.usage] == [whole.usage]


def test_thinking_is_never_touched() -> None:
    subject = Unfenced(Passing())
    thought = Literal(Stage.REASONING, b'"```json\\n"')
    assert [*subject.feed(thought)] == [thought]
    assert [*subject.feed(Chunk(reasoning="```\n"))] == [Chunk(reasoning="```\n")]


def test_log_probabilities_of_the_fence_go_with_it() -> None:
    subject = Unfenced(Passing())
    pieces = ["```json\n", "{}", "\n``", "`"]
    fed = [Chunk(content=piece, logprobs=({"token": piece},)) for piece in pieces]
    deltas: Any = [out for chunk in [*fed, STOP] for out in subject.feed(chunk)]
    assert [entry["token"] for delta in deltas for entry in delta.logprobs] == ["{}"]
