"""Chunks and bodies equal those of DeepSeek's own generator, key for key; a stream folds to the body."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import deepseek_recipe as recipe
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepseek_proxy.simulator import markup, wire
from deepseek_proxy.simulator.turns import Call, Turn
from deepseek_proxy.simulator.wire import Answer, Identity, Kind, Piece, Shape

OPTIONS = recipe.ConversionOptions().with_model_alias("deepseek-flash", recipe.ModelVersion.DeepseekV41Flash)
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
IDENTITY = Identity("cmpl-1", 17, "deepseek-flash", "fp_1", ("call_00_a", "call_01_b", "call_02_c"))


def answer_to(turn: Turn, finish: str | None = None) -> Answer:
    finish = finish or ("tool_calls" if turn.calls else "stop")
    return Answer(wire.pieces_of(turn), finish, prompt_tokens=40, cached_tokens=32)


def generated(turn: Turn, *, thinking: bool, include_usage: bool) -> tuple[list[str], str]:
    """The chunks and the body that DeepSeek's generator makes of the same turn, token by token."""
    body = {
        "model": "deepseek-flash",
        "messages": [{"role": "user", "content": "hi"}],
        "tools": [TOOL],
        "thinking": {"type": "enabled" if thinking else "disabled"},
        "stream": True,
        "stream_options": {"include_usage": include_usage},
    }
    request = recipe.ChatCompletionRequest(json.dumps(body)).convert(OPTIONS)
    generator = recipe.ChatCompletionRequest.chunk_generator(request, IDENTITY.id, IDENTITY.model)
    stream = recipe.StreamProcessor(generator, request.parsing_options)
    usage = recipe.PromptUsage(prompt_tokens=40, prompt_cache_hit_tokens=32)
    chunks = stream.push(recipe.InferenceChunk.ready(system_fingerprint="fp_1", prompt_usage=usage))
    for text in pushed(turn, thinking):
        chunks += stream.push(recipe.InferenceChunk.text(text, 1))
    chunks += stream.push(recipe.InferenceChunk.finish(recipe.InferenceFinishReason.Stop)) + stream.finish()
    whole = recipe.ChatCompletionResponse(IDENTITY.id, IDENTITY.model, IDENTITY.created, 40, 32)
    lines = [chunk.to_json() for chunk in chunks]
    for chunk in chunks:
        whole.accumulate(chunk)
    return lines, whole.to_json()


def pushed(turn: Turn, thinking: bool) -> Iterator[str]:
    """What the model writes, in the pieces of the simulator wherever a chunk shows them."""
    pieces = wire.pieces_of(turn)
    if thinking:
        yield from (piece.text for piece in pieces if piece.kind is Kind.REASONING)
        yield "</think>"
    yield from (piece.text for piece in pieces if piece.kind is Kind.CONTENT)
    if turn.calls:
        # The generator takes quotes, braces and keys from the markup by itself; only values come in pieces.
        for part in markup.of_calls(turn.calls, "v4.1").splitlines(keepends=True):
            opening, mark, rest = part.partition('string="true">')
            if not mark:
                yield part
                continue
            value, closing, tail = rest.rpartition("</｜DSML｜ parameter>")
            yield opening + mark
            yield from wire.tokens.split(value)
            yield closing + tail


def normal(text: str) -> Any:
    """A chunk or body with ids, time and the generator's own token counts replaced."""
    body = json.loads(text)
    body["created"] = 17
    if body.get("usage"):
        body["usage"] = {key: None for key in body["usage"] if key != "completion_tokens_details"}
    for choice in body["choices"]:
        for call in (choice.get("delta") or choice.get("message")).get("tool_calls", ()):
            if "id" in call:
                assert call["id"].startswith(f"call_{call['index']:02d}_")
                call["id"] = "call"
    return json.dumps(body)  # the order of keys counts


TURNS = {
    "text": Turn(text="Hello there, 你好 and é"),
    "thinking": Turn(reasoning="Let me see.", text="Hello"),
    "call": Turn(reasoning="Hm.", text="Look:", calls=(Call("f", '{"a": "say \\"hé\\" to me", "b": "x"}'),)),
    "calls": Turn(calls=(Call("f", '{"a": "x"}'), Call("g", "{}"), Call("f", '{"n": true}'))),
    "empty": Turn(),
    "only thinking": Turn(reasoning="Well."),
}


@pytest.mark.parametrize("turn", TURNS.values(), ids=TURNS)
@pytest.mark.parametrize("thinking", [True, False])
@pytest.mark.parametrize("include_usage", [True, False])
def test_the_chunks_are_those_of_the_generator(turn: Turn, thinking: bool, include_usage: bool) -> None:
    if not thinking:
        turn = Turn(text=turn.text, calls=turn.calls)
    shape = Shape(thinking, usage_everywhere=include_usage)
    ours = [json.dumps(chunk) for chunk in wire.chunks(answer_to(turn), IDENTITY, shape)]
    theirs, _ = generated(turn, thinking=thinking, include_usage=include_usage)
    assert [normal(chunk) for chunk in ours] == [normal(chunk) for chunk in theirs]


@pytest.mark.parametrize("turn", TURNS.values(), ids=TURNS)
@pytest.mark.parametrize("thinking", [True, False])
def test_the_body_is_that_of_the_generator(turn: Turn, thinking: bool) -> None:
    if not thinking:
        turn = Turn(text=turn.text, calls=turn.calls)
    ours = json.dumps(wire.completion(answer_to(turn), IDENTITY, Shape(thinking)))
    _, theirs = generated(turn, thinking=thinking, include_usage=True)
    assert normal(ours) == normal(theirs)


def test_usage_of_a_turn_that_thought() -> None:
    turn = Turn(reasoning="one two three", text="four")
    assert wire.usage(answer_to(turn)) == {
        "prompt_tokens": 40,
        "completion_tokens": 4,
        "total_tokens": 44,
        "prompt_tokens_details": {"cached_tokens": 32},
        "completion_tokens_details": {"reasoning_tokens": 3},
        "prompt_cache_hit_tokens": 32,
        "prompt_cache_miss_tokens": 8,
    }


def test_usage_of_a_turn_that_did_not_think() -> None:
    assert "completion_tokens_details" not in wire.usage(answer_to(Turn(text="x")))


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)
ARGUMENTS = st.dictionaries(st.text(), JSON_VALUES, max_size=3).map(wire.arguments_json) | st.text()
ANY_TURN = st.builds(
    Turn,
    reasoning=st.text(max_size=40),
    text=st.text(max_size=40),
    calls=st.lists(st.builds(Call, st.text(min_size=1), ARGUMENTS), max_size=3).map(tuple),
)


@given(turn=ANY_TURN, characters=st.none() | st.integers(1, 7))
def test_a_fold_of_the_chunks_is_the_body(turn: Turn, characters: int | None) -> None:
    answer, shape = answer_to(turn), Shape(thinking=True)
    content, reasoning, calls = "", "", []
    for chunk in wire.chunks(answer, IDENTITY, shape, characters):
        delta = chunk["choices"][0]["delta"]
        content += delta.get("content") or ""
        reasoning += delta.get("reasoning_content") or ""
        for call in delta.get("tool_calls", ()):
            if "id" in call:
                calls.append(call)
            else:
                calls[call["index"]]["function"]["arguments"] += call["function"]["arguments"]
    message = wire.completion(answer, IDENTITY, shape)["choices"][0]["message"]
    assert message["content"] == content == turn.text
    assert message["reasoning_content"] == reasoning == turn.reasoning
    assert message.get("tool_calls", []) == calls
    assert [Call(c["function"]["name"], c["function"]["arguments"]) for c in calls] == list(turn.calls)


def test_chunks_of_so_many_characters() -> None:
    turn = Turn(text="Hello", calls=(Call("f", '{"a": 1}'),))
    assert wire.regrouped(wire.pieces_of(turn), 3) == [
        Piece(Kind.CONTENT, "Hel"),
        Piece(Kind.CONTENT, "lo"),
        Piece(Kind.CALL, "f"),
        Piece(Kind.ARGUMENTS, '{"a'),
        Piece(Kind.ARGUMENTS, '": '),
        Piece(Kind.ARGUMENTS, "1}"),
    ]


def test_logprobs_say_which_part_they_belong_to() -> None:
    answer = answer_to(Turn(reasoning="a", text="é"))
    shape = Shape(thinking=True, logprobs=True, top_logprobs=2)
    _, thought, said, last = (c["choices"][0]["logprobs"] for c in wire.chunks(answer, IDENTITY, shape))
    assert list(thought) == ["reasoning_content"]
    (entry,) = said["content"]
    assert (entry["token"], entry["bytes"], len(entry["top_logprobs"])) == ("é", [195, 169], 2)
    assert last is None
    body = wire.completion(answer, IDENTITY, shape)
    assert list(body["choices"][0]["logprobs"]) == ["reasoning_content", "content"]
