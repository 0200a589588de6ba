from __future__ import annotations

import contextlib
import json
from dataclasses import replace
from typing import Any

import orjson
import pytest
from harness import deepseek
from hypothesis import given, settings
from hypothesis import strategies as st

from deepseek_proxy.errors import ProxyError, UpstreamError
from deepseek_proxy.translate import hub, jsontext
from deepseek_proxy.translate.hub import Chunk, ChunkParser, Literal, Stage, ToolCallDelta, Usage


def payload(delta: dict[str, Any], **outside: Any) -> bytes:
    """The data of one frame; `outside` replaces keys of the chunk."""
    chunk = {**deepseek.chunk(delta), **outside}
    return json.dumps(chunk, ensure_ascii=False, separators=(",", ":")).encode()


def content(text: str) -> bytes:
    return payload({"content": text, "reasoning_content": None})


def thinking(text: str) -> bytes:
    return payload({"content": None, "reasoning_content": text})


# -- what a chunk says ----------------------------------------------------------------------------

CALL = {"index": 0, "id": "call_00_a", "type": "function", "function": {"name": "f", "arguments": ""}}
LOGPROB = {"token": "Hi", "logprob": -0.5, "bytes": [72, 105], "top_logprobs": []}


@pytest.mark.parametrize(
    ("delta", "chunk"),
    [
        ({"role": "assistant", "content": ""}, Chunk()),
        ({"role": "assistant", "content": None, "reasoning_content": ""}, Chunk(announces_thinking=True)),
        ({"content": None, "reasoning_content": "Hm"}, Chunk(reasoning="Hm")),
        ({"content": "Hi", "reasoning_content": None}, Chunk(content="Hi")),
        ({"content": "Hi"}, Chunk(content="Hi")),
        ({"reasoning": "Hm"}, Chunk(reasoning="Hm")),  # other hosts' name
        ({"refusal": "No."}, Chunk(refusal="No.")),
        ({}, Chunk()),
        ({"tool_calls": [CALL]}, Chunk(tool_calls=(ToolCallDelta(0, "call_00_a", "f", ""),))),
        (
            {"tool_calls": [{"index": 1, "function": {"arguments": '{"a'}}]},
            Chunk(tool_calls=(ToolCallDelta(1, None, None, '{"a'),)),
        ),
        (  # without an index the place in the list counts
            {"tool_calls": [{"function": {"name": "f"}}, {"id": "", "function": {"name": "g"}}]},
            Chunk(tool_calls=(ToolCallDelta(0, None, "f", ""), ToolCallDelta(1, None, "g", ""))),
        ),
    ],
)
def test_a_delta_becomes_a_chunk(delta: dict[str, Any], chunk: Chunk) -> None:
    assert ChunkParser().parse(payload(delta)) == chunk


def test_the_last_chunk_has_the_finish_reason_and_the_usage() -> None:
    last = deepseek.chunk({"content": ""}, finish="stop", usage=deepseek.USAGE)
    assert hub.parse_chunk(last) == Chunk(finish_reason="stop", usage=Usage(40, 32, 9, 4))


@pytest.mark.parametrize("choices", [[], None])
def test_a_chunk_may_hold_nothing_but_usage(choices: list[Any] | None) -> None:
    body = {**deepseek.chunk({}), "choices": choices, "usage": deepseek.USAGE}
    assert hub.parse_chunk(body) == Chunk(usage=Usage(40, 32, 9, 4))


def test_logprobs_come_with_their_content() -> None:
    body = deepseek.chunk({"content": "Hi"})
    body["choices"][0]["logprobs"] = {"content": [LOGPROB], "reasoning_content": None}
    assert hub.parse_chunk(body) == Chunk(content="Hi", logprobs=[LOGPROB])


def test_a_whole_completion_is_the_one_chunk_that_says_the_same() -> None:
    whole = json.loads(deepseek.completion("Hello", "Hm", "stop"))
    assert hub.parse_completion(whole) == Chunk(
        reasoning="Hm", content="Hello", finish_reason="stop", usage=Usage(40, 32, 9, 4)
    )


# -- usage ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        (None, None),
        ([], None),
        ({}, Usage(0, 0, 0, 0)),
        (deepseek.USAGE, Usage(40, 32, 9, 4)),
        # another host: OpenAI's keys, and no details of the completion
        ({"prompt_tokens": 7, "prompt_tokens_details": {"cached_tokens": 5}}, Usage(7, 5, 0, 0)),
        ({"prompt_tokens": 7, "completion_tokens": 2, "prompt_cache_hit_tokens": 0}, Usage(7, 0, 2, 0)),
        ({"prompt_tokens": 7.0, "completion_tokens_details": None}, Usage(7, 0, 0, 0)),
        ({"prompt_tokens": "many", "completion_tokens_details": [1]}, Usage(0, 0, 0, 0)),
        ({"prompt_tokens": -1, "completion_tokens": 1e300}, Usage(0, 0, 0, 0)),
        ({"prompt_tokens": 7, "prompt_cache_hit_tokens": 9}, Usage(7, 7, 0, 0)),
        (
            {"completion_tokens": 2, "completion_tokens_details": {"reasoning_tokens": 3}},
            Usage(0, 0, 2, 2),
        ),
    ],
)
def test_usage_is_read_in_either_spelling(usage: Any, expected: Usage | None) -> None:
    assert hub.parse_usage(usage) == expected


# -- what is no chunk -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "The upstream sent an event that is not JSON."),
        (b"<html>", "The upstream sent an event that is not JSON."),
        (b'{"choices": [', "The upstream sent an event that is not JSON."),
        (b"[]", "The upstream sent an event that is not a chunk."),
        (b'"text"', "The upstream sent an event that is not a chunk."),
        (b'{"choices": [1]}', "The upstream sent a chunk of an unknown shape."),
        (b'{"choices": {"0": {}}}', "The upstream sent a chunk of an unknown shape."),
        (payload({"content": 5}), "The upstream sent a chunk of an unknown shape."),
        (payload({"content": [{"text": "Hi"}]}), "The upstream sent a chunk of an unknown shape."),
        (payload({"tool_calls": [{"index": "one"}]}), "The upstream sent a chunk of an unknown shape."),
        (
            payload({"tool_calls": [{"function": {"name": {}}}]}),
            "The upstream sent a chunk of an unknown shape.",
        ),
        (b'{"error": {"message": "Busy", "code": 5}}', "The upstream reported an error: Busy"),
        (b'{"error": "no"}', "The upstream reported an error: no reason given"),
        (payload({"content": "Hi"}, error={"message": "Busy"}), "The upstream reported an error: Busy"),
    ],
)
def test_what_is_no_chunk_is_the_upstreams_error(data: bytes, message: str) -> None:
    with pytest.raises(UpstreamError) as caught:
        ChunkParser().parse(data)
    assert caught.value.message == message


def test_half_a_character_costs_that_character_alone() -> None:
    """Hosts that cut text by UTF-16 send halves of surrogate pairs, for which there is no UTF-8."""
    parser = ChunkParser()
    said = [payload({"content": text}) for text in ("One", " tw+ ", "three")]
    halves = [one.replace(b"+", rb"\ud83d") for one in said]
    assert [parser.parse(half) for half in halves] == [
        Chunk(content="One"),
        Chunk(content=" tw\ufffd "),
        Literal(Stage.CONTENT, b'"three"'),
    ]
    pair = payload({"content": "+"}).replace(b"+", rb"\ud83d\ude00 \\ud83d")
    assert parser.parse(pair) == Chunk(content="😀 \\ud83d")


def halved(delta: dict[str, Any], finish: str | None = None) -> bytes:
    """The data of a frame whose texts may have halves of surrogate pairs in them."""
    return json.dumps(deepseek.chunk(delta, finish=finish)).encode()


def said_by(payloads: list[bytes]) -> list[str]:
    """What a stream says: its reasoning, its content, and the arguments of its first two calls."""
    said = ["", "", "", ""]
    parser = ChunkParser()
    for data in payloads:
        delta = parser.parse(data)
        if isinstance(delta, Literal):
            said[delta.stage is Stage.CONTENT] += jsontext.literal_text((delta.json,))
            continue
        said[0] += delta.reasoning
        said[1] += delta.content
        for call in delta.tool_calls:
            said[2 + call.position] += call.arguments
    return said


def argued(position: int, text: str) -> dict[str, Any]:
    return {"tool_calls": [{"index": position, "function": {"arguments": text}}]}


IN_PLACES = [
    lambda text: {"reasoning_content": text},
    lambda text: {"content": text, "reasoning_content": None},
    lambda text: argued(0, text),
    lambda text: argued(1, text),
]
UNITS = st.lists(st.text(st.sampled_from('\ud83d\ude00\ud83d\ude80a"é'), max_size=3), max_size=8)


@given(st.tuples(UNITS, UNITS, UNITS, UNITS))
def test_a_text_may_be_cut_between_any_two_units_of_utf16(texts: tuple[list[str], ...]) -> None:
    """Also where it is no text at all, but halves in any order."""
    payloads = [halved(place(piece)) for place, text in zip(IN_PLACES, texts) for piece in text]
    payloads.append(halved({}, "stop"))
    wholes = [jsontext.mend_surrogates("".join(text)) for text in texts]
    said = said_by(payloads)
    assert said[:2] == wholes[:2]
    # Arguments that end in half a character are no JSON, and nobody misses it.
    assert said[2:] == [
        whole[:-1] if "".join(text)[-1:] == "\ud83d" else whole for text, whole in zip(texts[2:], wholes[2:])
    ]


def test_calls_may_be_halved_in_turns() -> None:
    pieces = [(0, "\ud83d"), (1, "b\ud83d"), (0, "\ude00a"), (1, "\ude80")]
    assert said_by([halved(argued(*piece)) for piece in pieces])[2:] == ["😀a", "b🚀"]


def test_the_second_half_may_come_late() -> None:
    """A chunk that says nothing is no end of what was being said."""
    payloads = [
        halved(delta) for delta in ({"content": "\ud83d"}, {}, {"content": ""}, {"content": "\ude00"})
    ]
    assert said_by(payloads)[1] == "😀"


def test_half_a_character_holds_nothing_else_up() -> None:
    parser = ChunkParser()
    parser.parse(content("Zero, "))
    assert parser.parse(halved({"content": "one \ud83d"})) == Chunk(content="one ")
    assert parser.parse(content("two")) == Chunk(content="\ufffdtwo")
    assert parser.parse(content("three")) == Literal(Stage.CONTENT, b'"three"')


@pytest.mark.parametrize(
    "body",
    [{}, {"choices": []}, {"choices": "none"}, {"choices": [None]}],
)
def test_an_answer_without_choices_is_the_upstreams_error(body: dict[str, Any]) -> None:
    with pytest.raises(UpstreamError, match="has no choices"):
        hub.parse_completion(body)


def test_an_answer_that_is_an_error_is_the_upstreams_error() -> None:
    with pytest.raises(UpstreamError, match="reported an error: Busy"):
        hub.parse_completion({"error": {"message": "Busy"}})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.floats(allow_nan=False) | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                "choices delta message usage error index content reasoning_content tool_calls function name "
                "arguments id logprobs finish_reason prompt_tokens prompt_tokens_details total".split()
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(JSON, JSON, JSON)
def test_no_value_whatever_raises_anything_else(delta: Any, choice: Any, body: Any) -> None:
    """An error that is not ours would end a stream without its terminal event."""
    shapes = [
        body,
        {"choices": choice},
        {"choices": [choice], "usage": body},
        {"choices": [{"delta": delta, "message": delta, "finish_reason": choice, "logprobs": body}]},
        {"choices": [{"delta": {"tool_calls": [delta, {"function": choice, "index": body}]}}]},
    ]
    for shape in shapes:
        with contextlib.suppress(ProxyError):
            chunk = ChunkParser().parse(jsontext.dumps(shape))
            assert isinstance(chunk, Chunk)
            assert isinstance(chunk.finish_reason, str | None)
            assert all(isinstance(call.position, int) for call in chunk.tool_calls)
        if isinstance(shape, dict):
            with contextlib.suppress(ProxyError):
                hub.parse_completion(shape)


# -- the way without parsing ----------------------------------------------------------------------


def test_the_second_content_chunk_is_passed_on_unparsed() -> None:
    parser = ChunkParser()
    assert parser.parse(content("Hel")) == Chunk(content="Hel")
    assert parser.parse(content("lo\n")) == Literal(Stage.CONTENT, rb'"lo\n"')
    assert parser.parse(thinking("Hm")) == Chunk(reasoning="Hm")
    assert parser.parse(thinking("m…")) == Literal(Stage.REASONING, '"m…"'.encode())
    assert parser.parse(content('"')) == Literal(Stage.CONTENT, rb'"\""')


@pytest.mark.parametrize(
    ("data", "chunk"),
    [
        (content(""), Chunk()),
        (content("a < b"), Chunk(content="a < b")),  # tool markup may begin there
        (content("x").replace(b'"x"', rb'"\u0041"'), Chunk(content="A")),
        (content("x").replace(b'"x"', rb'"\ud83d\ude00"'), Chunk(content="😀")),
        (content("x").replace(b'"x"', b"null"), Chunk()),
        (
            content("x").replace(b'"finish_reason":null', b'"finish_reason":"stop"'),
            Chunk("", "x", "", (), "stop"),
        ),
        (payload({"content": "x", "reasoning_content": "y"}), Chunk(reasoning="y", content="x")),
        (
            payload({"content": "x", "reasoning_content": None}, usage={}),
            Chunk("", "x", usage=Usage(0, 0, 0, 0)),
        ),
    ],
)
def test_what_differs_from_the_pattern_is_parsed(data: bytes, chunk: Chunk) -> None:
    parser = ChunkParser()
    parser.parse(content("first"))
    assert parser.parse(data) == chunk


@pytest.mark.parametrize("literal", [b'"\xff"', b'"\xe2\x82"', rb'"\q"', b'"a\nb"', b'"a"b"'])
def test_a_broken_string_is_never_passed_on(literal: bytes) -> None:
    """It would break the client's event instead of being reported."""
    parser = ChunkParser()
    parser.parse(content("first"))
    with pytest.raises(UpstreamError, match="not JSON"):
        parser.parse(content("x").replace(b'"x"', literal))


@pytest.mark.parametrize(
    "first",
    [
        payload({"content": "Hi", "other": {"content": "Hi"}}),  # which of the two?
        payload({"tool_calls": [CALL], "content": "Hi"}),
        payload({"content": "Hi", "reasoning_content": "Hm"}),
        payload({"content": "Hi"}, usage=deepseek.USAGE),
    ],
)
def test_nothing_is_learnt_from_a_chunk_that_says_more(first: bytes) -> None:
    parser = ChunkParser()
    parser.parse(first)
    later = first.replace(b'"Hi"', b'"again"')
    assert parser.parse(later) == hub.parse_chunk(orjson.loads(later))


DELTAS = st.one_of(
    st.builds(lambda text: {"content": text, "reasoning_content": None}, st.text()),
    st.builds(lambda text: {"content": None, "reasoning_content": text}, st.text()),
    st.builds(lambda text: {"content": text}, st.text(st.sampled_from('"\\<\n\u2028é😀 content:{}[],'))),
    st.builds(lambda one, two: {"content": one, "reasoning_content": two}, st.text(), st.text()),
    st.builds(lambda text: {"refusal": text, "content": text}, st.text()),
    st.just({"tool_calls": [CALL], "content": '"content":'}),
)


@settings(max_examples=150)
@given(st.lists(DELTAS, max_size=12), st.booleans(), st.booleans())
def test_a_literal_says_what_parsing_would_say(
    deltas: list[dict[str, Any]], spaced: bool, ascii_only: bool
) -> None:
    parser = ChunkParser()
    for delta in deltas:
        chunk = deepseek.chunk(delta)
        separators = None if spaced else (",", ":")
        data = json.dumps(chunk, ensure_ascii=ascii_only, separators=separators).encode()
        parsed = parser.parse(data)
        expected = hub.parse_chunk(chunk)
        if isinstance(parsed, Literal):
            assert b"<" not in parsed.json
            assert b"\\u" not in parsed.json
            text = jsontext.literal_text((parsed.json,))
            is_content = parsed.stage is Stage.CONTENT
            parsed = Chunk(content=text) if is_content else Chunk(reasoning=text)
            # The chunk the pattern was learnt from has said this already.
            expected = replace(expected, announces_thinking=False)
        assert parsed == expected
