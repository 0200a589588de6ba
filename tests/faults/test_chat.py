"""The faults of DeepSeek's answer, as a client of Chat Completions is told of them.

An error is never text and never followed by `[DONE]`; a whole answer has one finish reason. Faults that come
before the first byte, and those of requests, are the same for all dialects.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest
from harness import deepseek
from harness.broken import END, FATAL, HTML, NO_ANSWERS, answer_began, comments_for_ever, says
from harness.chats import chunks_of, folded
from harness.client import Reply
from harness.fake_upstream import FakeUpstream
from harness.gateway import Gateway
from harness.responses import read_error, read_frames
from harness.splitting import STREAM, TEXT, THOUGHT, split_at
from harness.wire import Request, Wire


@dataclass(frozen=True)
class Told:
    """One whole stream: what it folds to, a completion or an error; and the text that was seen to grow."""

    answer: Mapping[str, Any]
    text: str
    ended_at: float

    @property
    def end(self) -> str | None:
        """The finish reason, None where there was an error."""
        return self.answer["choices"][0]["finish_reason"] if "choices" in self.answer else None


def read_chat(reply: Reply) -> Told:
    """Reads a stream to its end: right headers, whole frames in each write, and one end of one kind."""
    frames = read_frames(reply)
    data = "".join(f"{frame.raw}\n\n" for frame in frames).encode()
    choices = [choice for chunk in chunks_of(data) for choice in chunk.get("choices", ())]
    text = "".join(choice["delta"].get("content") or "" for choice in choices)
    return Told(folded(data), text, frames[-1].at)


def assert_failed(told: Told) -> None:
    assert told.answer.keys() == {"error"}
    assert told.answer["error"].keys() == {"message", "type", "param", "code"}
    assert told.answer["error"]["code"] == "server_error"


@pytest.mark.parametrize("usage", [True, False], ids=["usage", "no usage"])
@pytest.mark.parametrize("fault", FATAL)
def test_a_broken_answer_is_an_error(
    gateway: Gateway, upstream: FakeUpstream, fault: str, usage: bool
) -> None:
    upstream.serve(answer_began(FATAL[fault]))
    with gateway.chat(stream_options={"include_usage": usage}) as call:
        told = read_chat(call.reply())
    assert_failed(told)
    assert told.text in ("Hel", "Hello"), "what the error says is no text"
    assert len(upstream.requests) == 1, "an answer that had begun was asked for again"


@pytest.mark.parametrize("fault", ["end of file", "reset", "malformed JSON", "error object"])
def test_a_broken_answer_is_an_error_under_every_server(
    any_gateway: Gateway, upstream: FakeUpstream, fault: str
) -> None:
    upstream.serve(answer_began(FATAL[fault]))
    with any_gateway.chat() as call:
        assert_failed(read_chat(call.reply()))


def test_the_upstreams_own_words_reach_the_client(gateway: Gateway, upstream: FakeUpstream) -> None:
    upstream.serve(answer_began(FATAL["error object"]))
    with gateway.chat() as call:
        assert "the model fell over" in read_chat(call.reply()).answer["error"]["message"]


@pytest.mark.parametrize(
    "rest",
    [
        says(deepseek.last("stop"), deepseek.text("more"), deepseek.last("length"), END),
        says(END, deepseek.text("more"), b"data: {not json\n\n"),
    ],
    ids=["two finish reasons", "more after the end"],
)
def test_the_first_end_counts(gateway: Gateway, upstream: FakeUpstream, rest: Any) -> None:
    upstream.serve(answer_began(rest))
    with gateway.chat() as call:
        told = read_chat(call.reply())
    assert (told.end, told.text) == ("stop", "Hel")


@pytest.mark.parametrize(("said", "end"), [(END, "stop"), (deepseek.last(), None)])
def test_endless_comments_after_the_answer_do_not_hold_the_client(
    gateway: Gateway, upstream: FakeUpstream, said: bytes, end: str | None
) -> None:
    upstream.serve(answer_began(comments_for_ever(said)))
    with gateway.chat() as call:
        reply = call.reply()
        told = read_chat(reply)
        assert told.end == end
        # after_finish_seconds is half a second here.
        assert told.ended_at - reply.at < 1.5
    upstream.wait_until(lambda: not upstream.busy_handlers, timeout=2)


@pytest.mark.parametrize("reason", ["length", "content_filter"])
def test_a_cut_answer_says_why(gateway: Gateway, upstream: FakeUpstream, reason: str) -> None:
    upstream.serve(answer_began(says(deepseek.last(reason), deepseek.DONE)))
    with gateway.chat() as call:
        assert read_chat(call.reply()).end == reason


def test_a_call_cut_in_its_arguments_is_no_call_that_ended(gateway: Gateway, upstream: FakeUpstream) -> None:
    def cut(_: Request, wire: Wire) -> None:
        wire.start_stream()
        wire.chunk(deepseek.opening() + deepseek.call(0, "call_00_x", "shell"))
        says(deepseek.arguments(0, '{"command": "rm -r'), deepseek.last("length"), deepseek.DONE)(wire)

    tool = {"type": "function", "function": {"name": "shell", "parameters": {"type": "object"}}}
    upstream.serve(cut)
    with gateway.chat(tools=[tool]) as call:
        told = read_chat(call.reply())
    assert told.end == "length"
    (made,) = told.answer["choices"][0]["message"]["tool_calls"]
    assert made["function"]["arguments"] == '{"command": "rm -r'


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize("kind", NO_ANSWERS)
def test_a_200_that_is_no_answer(gateway: Gateway, upstream: FakeUpstream, kind: str, stream: bool) -> None:
    body, content_type = NO_ANSWERS[kind]
    upstream.serve(deepseek.refuses(200, body, {"Content-Type": content_type}))
    with gateway.chat(stream=stream) as call:
        read_error(call.reply(), 502, "server_error")


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
def test_an_html_page_with_its_own_status(gateway: Gateway, upstream: FakeUpstream, stream: bool) -> None:
    upstream.serve(deepseek.refuses(502, HTML, {"Content-Type": "text/html"}))
    with gateway.chat(stream=stream) as call:
        error = read_error(call.reply(), 502, "server_error")
    assert "<html" not in error["message"]


# -- any split of the same bytes


def test_utf8_and_crlf_may_be_split_at_every_byte(gateway: Gateway, upstream: FakeUpstream) -> None:
    positions = range(1, len(STREAM))
    upstream.serve(*(split_at(position) for position in positions))
    for position in positions:
        with gateway.chat(stream_options={"include_usage": True}) as call:
            answer = read_chat(call.reply()).answer
        message = answer["choices"][0]["message"]
        assert (message["content"], message["reasoning_content"]) == (TEXT, THOUGHT), f"split at {position}"
        assert answer["usage"]["total_tokens"] == 5


def test_a_byte_order_mark_and_half_a_character_break_nothing(
    gateway: Gateway, upstream: FakeUpstream
) -> None:
    def handler(_: Request, wire: Wire) -> None:
        wire.start_stream()
        wire.chunk(b"\xef\xbb")
        wire.chunk(b"\xbf" + deepseek.text("Hel"))
        wire.chunk(deepseek.text("+").replace(b"+", rb"\ud83d") + END)
        wire.end()

    upstream.serve(handler)
    with gateway.chat() as call:
        assert read_chat(call.reply()).text == "Hel\ufffd"


def test_a_frame_of_many_lines_is_one_chunk(gateway: Gateway, upstream: FakeUpstream) -> None:
    """The grammar allows it: the lines of one event are joined by LF, which JSON takes for white space."""
    indented = json.dumps(deepseek.chunk({"content": "Hello"}), indent=1)
    frame = b"event: chunk\nid: 7\n" + b"".join(
        b"data: %b\n" % line.encode() for line in indented.split("\n")
    )
    upstream.serve(answer_began(says(frame + b"\n", END)))
    with gateway.chat() as call:
        assert read_chat(call.reply()).text == "HelHello"
