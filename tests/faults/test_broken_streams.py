"""DeepSeek's answer breaks after its status is known: one correct terminal event, never a false success."""

from __future__ import annotations

import pytest
from harness import deepseek
from harness.broken import END, ERROR_OBJECT, FATAL, HTML, NO_ANSWERS, answer_began, comments_for_ever, says
from harness.fake_upstream import FakeUpstream
from harness.gateway import Gateway
from harness.responses import Told, read_error, read_stream
from harness.wire import Request, Wire


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
    upstream.serve(answer_began(comments_for_ever(said)))
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
