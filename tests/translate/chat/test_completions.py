from __future__ import annotations

import json
from typing import Any

import pytest
from harness.machines import CREATED, payloads_of
from openai.types import Completion

from deepseek_proxy import models
from deepseek_proxy.errors import InvalidRequest, UpstreamError
from deepseek_proxy.translate.chat.completions import CompletionRequest, CompletionStream, parse
from deepseek_proxy.translate.chat.emitter import Envelope
from deepseek_proxy.translate.hub import Chunk, Literal, Stage, Usage, parse_chunk

USAGE = Usage(40, 32, 9, 0)
STOP = Chunk(finish_reason="stop", usage=USAGE)


def read(**body: Any) -> CompletionRequest:
    return parse(
        {"model": "deepseek-chat", "prompt": "def f(", **body}, lambda name: models.resolve(name, {}, None)
    )


def machine(**changes: Any) -> CompletionStream:
    return CompletionStream(Envelope("cmpl-1", CREATED, "deepseek-chat"), **{"tells_usage": False, **changes})


def test_the_request_goes_up_as_it_is() -> None:
    request = read(suffix="):", max_tokens=5, logprobs=2, made_up=1)
    assert request.upstream == {
        "model": "deepseek-flash",
        "prompt": "def f(",
        "suffix": "):",
        "max_tokens": 5,
        "logprobs": 2,
        "made_up": 1,
    }


def test_a_list_of_one_prompt_is_that_prompt() -> None:
    assert read(prompt=["def f("]).upstream == read().upstream


def test_a_stream_always_asks_deepseek_for_the_usage() -> None:
    request = read(stream=True)
    assert request.upstream["stream_options"] == {"include_usage": True}
    assert not request.tells_usage
    assert read(stream=True, stream_options={"include_usage": True}).tells_usage


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"prompt": None}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": ["a", "b"]}, "prompt"),
        ({"prompt": [[1, 2]]}, "prompt"),
        ({"model": ""}, "model"),
        ({"stream": 1}, "stream"),
        ({"n": 2}, "n"),
        ({"model": "deepseek-chat-search"}, "model"),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_path(body: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        read(**body)
    assert refused.value.param == param


def test_deepseeks_chunks_are_read() -> None:
    choice = {"index": 0, "text": "a", "logprobs": {"tokens": ["a"]}, "finish_reason": None}
    chunk = parse_chunk({"choices": [choice], "system_fingerprint": "fp_1"})
    assert (chunk.content, chunk.logprobs, chunk.fingerprint) == ("a", [{"tokens": ["a"]}], "fp_1")


def test_a_stream_and_the_whole_answer_say_the_same() -> None:
    stream = machine(tells_usage=True)
    chunks = [
        Chunk(content="x", logprobs=({"tokens": ["x"], "text_offset": [0]},), fingerprint="fp_1"),
        Literal(Stage.CONTENT, b'" + y"'),
        Chunk(content="!", logprobs=({"tokens": ["!"], "text_offset": [5]},)),
        STOP,
    ]
    data = stream.start() + b"".join(map(stream.feed, chunks)) + stream.finish()
    assert data.endswith(b"data: [DONE]\n\n")
    *said, usage = payloads_of(data)
    assert usage["choices"] == []
    assert all(payload["usage"] is None for payload in said)
    choices = [payload["choices"][0] for payload in said]
    assert "".join(choice["text"] for choice in choices) == "x + y!"
    whole = stream.response
    assert whole is not None
    assert whole["choices"][0]["text"] == "x + y!"
    assert whole["choices"][0]["logprobs"] == {"tokens": ["x", "!"], "text_offset": [0, 5]}
    assert choices[-1]["finish_reason"] == whole["choices"][0]["finish_reason"] == "stop"
    assert usage["usage"] == whole["usage"]
    assert whole["system_fingerprint"] == "fp_1"
    Completion.model_validate(whole, strict=True)


@pytest.mark.parametrize("chunk", [Chunk(content="x"), Chunk(finish_reason="insufficient_system_resource")])
def test_an_answer_that_breaks_off_is_a_failure(chunk: Chunk) -> None:
    stream = machine()
    stream.feed(chunk)
    data = stream.finish()
    assert json.loads(data[6:])["error"]["code"] == "server_error"
    assert isinstance(stream.error, UpstreamError)
    assert (stream.response, stream.finish(), stream.feed(STOP)) == (None, b"", b"")


def test_after_the_finish_reason_only_usage_counts() -> None:
    stream = machine()
    stream.feed(Chunk(finish_reason="stop"))
    assert stream.feed(Chunk(content="more", usage=USAGE)) == b""
    assert (stream.text, stream.usage) == ("", USAGE)


def test_an_answer_ends_once() -> None:
    stream = machine()
    stream.feed(Chunk(finish_reason="stop"))
    assert stream.finish().endswith(b"data: [DONE]\n\n")
    assert (stream.finish(), stream.fail(UpstreamError("late")), stream.error) == (b"", b"", None)
