from __future__ import annotations

import json

import pytest
from harness.chats import ENVELOPE, chunks_of

from deepseek_proxy.translate.chat.emitter import Emitter
from deepseek_proxy.translate.hub import Usage

HEAD, TAIL = b'{"content":', b"}"


@pytest.mark.parametrize("tells_usage", [True, False])
@pytest.mark.parametrize("fingerprint", [None, "fp_1"])
def test_a_prepared_delta_is_the_same_as_a_dumped_one(tells_usage: bool, fingerprint: str | None) -> None:
    emitter = Emitter(ENVELOPE, tells_usage=tells_usage)
    emitter.knows(fingerprint)
    prepared = emitter.text(emitter.template(HEAD, TAIL), '"ü\\n"'.encode())
    assert prepared == emitter.delta({"content": "ü\n"})
    (chunk,) = chunks_of(prepared)
    assert chunk == {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": ENVELOPE.created,
        "model": "deepseek-flash",
        "system_fingerprint": fingerprint,
        "choices": [{"index": 0, "delta": {"content": "ü\n"}, "logprobs": None, "finish_reason": None}],
        **({"usage": None} if tells_usage else {}),
    }


def test_the_chunk_with_the_usage_has_no_choices() -> None:
    (chunk,) = chunks_of(Emitter(ENVELOPE, tells_usage=True).usage(Usage(40, 32, 9, 4)))
    assert chunk["choices"] == []
    assert chunk["usage"]["total_tokens"] == 49


def test_padding_makes_texts_of_one_size_look_alike() -> None:
    emitter = Emitter(ENVELOPE, tells_usage=False, padding=lambda size: "x" * size)
    template = emitter.template(HEAD, TAIL)
    frames = [emitter.text(template, json.dumps("a" * size).encode()) for size in range(1, 14)]
    assert len({len(frame) for frame in frames}) == 1
    assert chunks_of(frames[0])[0]["obfuscation"] == "x" * 13


def test_the_end_has_a_reason() -> None:
    (chunk,) = chunks_of(Emitter(ENVELOPE, tells_usage=False).delta({}, finish_reason="stop"))
    assert chunk["choices"][0]["finish_reason"] == "stop"
