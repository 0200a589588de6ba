"""DeepSeek's answer breaks after its status is known: one correct terminal event, never a false success."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from harness import deepseek
from harness.fake_upstream import FakeUpstream
from harness.gateway import Gateway
from harness.responses import Told, read_error, read_stream
from harness.wire import Handler, Request, Wire

Fault = Callable[[Wire], None]


def answer_began(then: Fault) -> Handler:
    """A handler that says "Hel" and then does what the test is about."""

    def handler(_: Request, wire: Wire) -> None:
        wire.start_stream()
        wire.chunk(deepseek.opening() + deepseek.text("Hel"))
        then(wire)

    return handler


def says(*frames: bytes) -> Fault:
    """The rest of the answer, and a proper end of the HTTP body."""

    def fault(wire: Wire) -> None:
        wire.chunk(b"".join(frames))
        wire.end()

    return fault


def end_of_file(wire: Wire) -> None:
    wire.close()


def end_inside_a_chunk(wire: Wire) -> None:
    wire.send(b"400\r\n" + deepseek.text("lo"))
    wire.close()


def reset(wire: Wire) -> None:
    wire.sleep(0.05)  # what was sent before would be lost with the connection
    wire.reset()


def broken_framing(wire: Wire) -> None:
    wire.send(b"zz\r\n" + deepseek.text("lo"))
    wire.close()


def huge_line(wire: Wire) -> None:
    wire.chunk(b"data: ")
    for _ in range(80):
        wire.chunk(b"x" * 8192)
    says(b"\n\n", deepseek.last(), deepseek.DONE)(wire)


ERROR_OBJECT = deepseek.event({"error": {"message": "the model fell over", "type": "server_error"}})
END = deepseek.last() + deepseek.DONE

FATAL: dict[str, Fault] = {
    "end of body": lambda wire: wire.end(),
    "end of file": end_of_file,
    "end inside a frame": says(deepseek.text("lo")[:-20]),
    "end inside a chunk": end_inside_a_chunk,
    "end after the finish reason": says(deepseek.last()),
    "reset": reset,
    "broken framing": broken_framing,
    "malformed JSON": says(b'data: {"choices":[{"delta":{"content":"lo"}\n\n', END),
    "no object": says(b"data: [1]\n\n", END),
    "error object": says(ERROR_OBJECT, deepseek.DONE),
    "no finish reason": says(deepseek.text("lo"), deepseek.DONE),
    "interrupted": says(deepseek.last("insufficient_system_resource"), deepseek.DONE),
    "unknown finish reason": says(deepseek.last("lunch"), deepseek.DONE),
    "huge line": huge_line,
}


def assert_failed(told: Told) -> None:
    assert told.final["status"] == "failed"
    assert told.final["error"]["code"] == "server_error"
    assert told.events[-2]["type"] == "error"


@pytest.mark.parametrize("fault", FATAL)
def test_a_broken_answer_fails(gateway: Gateway, upstream: FakeUpstream, fault: str) -> None:
    upstream.serve(answer_began(FATAL[fault]))
    with gateway.ask() as call:
        told = read_stream(call.reply())
    assert_failed(told)
    assert told.text.startswith("Hel")
    assert len(upstream.requests) == 1, "an answer that had begun was asked for again"


@pytest.mark.parametrize("fault", ["end of file", "reset", "malformed JSON"])
def test_a_broken_answer_fails_under_every_server(
    any_gateway: Gateway, upstream: FakeUpstream, fault: str
) -> None:
    upstream.serve(answer_began(FATAL[fault]))
    with any_gateway.ask() as call:
        assert_failed(read_stream(call.reply()))


def test_the_upstreams_own_words_reach_the_client(gateway: Gateway, upstream: FakeUpstream) -> None:
    upstream.serve(answer_began(says(ERROR_OBJECT)))
    with gateway.ask() as call:
        assert "the model fell over" in read_stream(call.reply()).final["error"]["message"]


def test_of_two_finish_reasons_the_first_counts(gateway: Gateway, upstream: FakeUpstream) -> None:
    upstream.serve(
        answer_began(says(deepseek.last("stop"), deepseek.text("more"), deepseek.last("length"), END))
    )
    with gateway.ask() as call:
        told = read_stream(call.reply())
    assert (told.final["status"], told.text) == ("completed", "Hel")


def test_nothing_after_done_is_believed(gateway: Gateway, upstream: FakeUpstream) -> None:
    upstream.serve(answer_began(says(END, deepseek.text("more"), b"data: {not json\n\n")))
    with gateway.ask() as call:
        told = read_stream(call.reply())
    assert (told.final["status"], told.text) == ("completed", "Hel")


@pytest.mark.parametrize(("said", "status"), [(END, "completed"), (deepseek.last(), "failed")])
def test_endless_comments_after_the_answer_do_not_hold_the_client(
    gateway: Gateway, upstream: FakeUpstream, said: bytes, status: str
) -> None:
    def comment_for_ever(wire: Wire) -> None:
        wire.chunk(said)
        for _ in range(100):
            wire.chunk(deepseek.KEEP_ALIVE)
            if wire.wait_closed(0.05) is not None:
                return

    upstream.serve(answer_began(comment_for_ever))
    with gateway.ask() as call:
        reply = call.reply()
        told = read_stream(reply)
        assert told.final["status"] == status
        # after_finish_seconds is half a second here.
        assert told.frames[-1].at - reply.at < 1.5
    upstream.wait_until(lambda: not upstream.busy_handlers, timeout=2)


@pytest.mark.parametrize("reason", ["length", "content_filter"])
def test_a_cut_answer_is_incomplete(gateway: Gateway, upstream: FakeUpstream, reason: str) -> None:
    upstream.serve(answer_began(says(deepseek.last(reason), deepseek.DONE)))
    with gateway.ask() as call:
        told = read_stream(call.reply())
    assert told.final["status"] == "incomplete"
    assert told.final["output"][-1]["status"] == "incomplete"


def test_a_call_cut_in_its_arguments_is_never_complete(gateway: Gateway, upstream: FakeUpstream) -> None:
    def cut(_: Request, wire: Wire) -> None:
        wire.start_stream()
        wire.chunk(deepseek.opening() + deepseek.call(0, "call_00_x", "shell"))
        says(deepseek.arguments(0, '{"command": "rm -r'), deepseek.last("length"), deepseek.DONE)(wire)

    tool = {"type": "function", "name": "shell", "parameters": {"type": "object", "properties": {}}}
    upstream.serve(cut)
    with gateway.ask(tools=[tool]) as call:
        told = read_stream(call.reply())
    assert told.final["status"] == "incomplete"
    (item,) = [item for item in told.final["output"] if item["type"] == "function_call"]
    assert (item["status"], item["arguments"]) == ("incomplete", '{"command": "rm -r')


HTML = b"<html><head><title>502 Bad Gateway</title></head><body>cloudfront</body></html>"
NO_ANSWERS = {
    "html": (HTML, "text/html"),
    "error object": (deepseek.error("odd fault", "server_error"), "application/json"),
    "empty": (b"", "application/json"),
    "not an object": (b"[]", "application/json"),
    "no choices": (json.dumps({"id": "x", "choices": []}).encode(), "application/json"),
    "cut json": (deepseek.completion()[:-30], "application/json"),
}


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize("kind", NO_ANSWERS)
def test_a_200_that_is_no_answer(gateway: Gateway, upstream: FakeUpstream, kind: str, stream: bool) -> None:
    body, content_type = NO_ANSWERS[kind]
    upstream.serve(deepseek.refuses(200, body, {"Content-Type": content_type}))
    with gateway.ask(stream=stream) as call:
        reply = call.reply()
        if reply.status == 200:
            assert stream, "a failure that is known before the answer begins is a status"
            assert_failed(read_stream(reply))
        else:
            read_error(reply, 502, "server_error")


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
def test_an_html_page_with_its_own_status(gateway: Gateway, upstream: FakeUpstream, stream: bool) -> None:
    upstream.serve(deepseek.refuses(502, HTML, {"Content-Type": "text/html"}))
    with gateway.ask(stream=stream) as call:
        error = read_error(call.reply(), 502, "server_error")
    assert "<html" not in error["message"]


def test_a_whole_answer_where_a_stream_was_asked_for(gateway: Gateway, upstream: FakeUpstream) -> None:
    upstream.serve(deepseek.refuses(200, deepseek.completion("Hello")))
    with gateway.ask() as call:
        error = read_error(call.reply(), 502, "server_error")
    assert "application/json" in error["message"]


def test_a_whole_answer_that_is_cut_is_no_answer(gateway: Gateway, upstream: FakeUpstream) -> None:
    def cut(request: Request, wire: Wire) -> None:
        wire.head(200, {"Content-Type": "application/json", "Content-Length": "5000"})
        wire.send(deepseek.completion()[:100])

    upstream.serve(cut)
    with gateway.ask(stream=False) as call:
        read_error(call.reply(), 502, "server_error")
