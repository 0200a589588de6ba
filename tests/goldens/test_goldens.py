"""Whole exchanges of both dialects: however DeepSeek's answer is split, the client gets the same bytes."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from goldens.replay import CHAT_FOLDER, Golden, goldens
from harness.machines import cut
from hypothesis import given, settings
from hypothesis import strategies as st

CASES = [*goldens(), *goldens(CHAT_FOLDER)]
every_case = pytest.mark.parametrize("case", CASES, ids=str)


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
def test_in_one_piece(case: Golden) -> None:
    assert case.streamed([case.upstream]) == case.expected("expected.sse")


@every_case
def test_byte_by_byte(case: Golden) -> None:
    pieces = (case.upstream[i : i + 1] for i in range(len(case.upstream)))
    assert case.streamed(pieces) == case.expected("expected.sse")


@settings(max_examples=120)
@given(st.sampled_from(CASES), st.lists(st.integers(0, 20_000), max_size=30))
def test_at_any_split(case: Golden, cuts: list[int]) -> None:
    assert case.streamed(cut(case.upstream, cuts)) == case.expected("expected.sse")


@every_case
def test_without_stream(case: Golden) -> None:
    assert case.whole() == json.loads(case.expected("expected.json"))
