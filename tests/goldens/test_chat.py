"""Whole exchanges of Chat Completions, byte for byte: whatever the split of DeepSeek's answer, the client
gets the same."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from goldens.replay import CHAT_FOLDER, FOLDER, Golden, goldens
from harness.chats import chunks_of, folded
from harness.machines import cut
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types.chat import ChatCompletion, ChatCompletionChunk

CASES = goldens(CHAT_FOLDER)
every_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


@every_case
def test_deepseek_gets_the_same_body(case: Golden) -> None:
    """To the byte, and so in the same order: the upstream cache matches bytes."""
    sent = json.dumps(case.request().upstream, ensure_ascii=False)
    assert sent == json.dumps(json.loads(case.expected("upstream_request.json")), ensure_ascii=False)


@every_case
def test_deepseek_accepts_the_body(
    case: Golden, deepseek_check: Callable[[Any], tuple[int, str | None]]
) -> None:
    assert deepseek_check(json.loads(case.expected("upstream_request.json"))) == (200, None)


@every_case
def test_the_same_conversation_is_the_same_body_through_responses(case: Golden) -> None:
    """A case of the same name asks for the same in the other dialect."""
    other = FOLDER / case.name / "upstream_request.json"
    if other.exists():
        assert case.expected("upstream_request.json") == other.read_bytes()


@every_case
def test_in_one_piece(case: Golden) -> None:
    assert case.streamed([case.upstream]) == case.expected("expected.sse")


@every_case
def test_byte_by_byte(case: Golden) -> None:
    pieces = (case.upstream[i : i + 1] for i in range(len(case.upstream)))
    assert case.streamed(pieces) == case.expected("expected.sse")


@settings(max_examples=60)
@given(st.sampled_from(CASES), st.lists(st.integers(0, 20_000), max_size=30))
def test_at_any_split(case: Golden, cuts: list[int]) -> None:
    assert case.streamed(cut(case.upstream, cuts)) == case.expected("expected.sse")


@every_case
def test_without_stream(case: Golden) -> None:
    assert case.whole() == json.loads(case.expected("expected.json"))


@every_case
def test_stream_and_whole_answer_say_the_same(case: Golden) -> None:
    whole, fold = json.loads(case.expected("expected.json")), folded(case.expected("expected.sse"))
    if "error" in fold:
        assert fold["error"]["code"] == whole["error"]["code"]
    else:
        assert fold == {key: value for key, value in whole.items() if key in fold}
        assert {"usage", *fold} == {*whole}


@every_case
def test_openais_types_take_every_chunk(case: Golden) -> None:
    for chunk in chunks_of(case.expected("expected.sse")):
        if "error" not in chunk and case.name != "custom_tool":  # for which the SDK has no type in a stream
            ChatCompletionChunk.model_validate(chunk, strict=True)
    whole = json.loads(case.expected("expected.json"))
    if "error" not in whole:
        ChatCompletion.model_validate(whole, strict=True)


def test_there_are_enough_of_them() -> None:
    assert len(CASES) >= 20
    ends = [folded(case.expected("expected.sse")) for case in CASES]
    reasons = {end["choices"][0]["finish_reason"] for end in ends if "choices" in end}
    assert reasons == {"stop", "length", "tool_calls", "function_call", "content_filter"}
    assert any("error" in end for end in ends)
    assert {case.name for case in CASES} & {case.name for case in goldens()}
