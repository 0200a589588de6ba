from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from harness import deepseek
from harness.machines import events_of, healer_for, judged, machine, table_of, turn

from deepseek_proxy import pipeline
from deepseek_proxy.errors import ProxyError, UpstreamError, UpstreamTimeout, UpstreamTruncated
from deepseek_proxy.ops.lifecycle import Drain
from deepseek_proxy.pipeline import Pace, Relay, Tally
from deepseek_proxy.translate import sse
from deepseek_proxy.translate.responses.stream import ResponseStream
from deepseek_proxy.upstream.call import Clocks

PATIENT = Clocks(bytes_idle=60, data_idle=60, total=60, after_finish=60)
QUIET = Pace(heartbeat=60, progress=60)
ANSWER = deepseek.frames(("Hel", "lo"), ("Hm",))
SILENCE = None


class Scripted:
    """A source that gives what it is told to, one thing a read; then the answer has ended."""

    def __init__(
        self, *script: bytes | ProxyError | None, clocks: Clocks = PATIENT, arrived: bool = False
    ) -> None:
        self.clocks = clocks
        self.arrived = arrived
        self._script = iter(script)

    def read(self) -> bytes | None:
        given = next(self._script, b"")
        if isinstance(given, ProxyError):
            raise given
        return given


def streaming(
    source: Scripted,
    playing: ResponseStream,
    *,
    pace: Pace = QUIET,
    tally: Tally | None = None,
    gone: Iterable[bool] = (),
    drain: Drain | None = None,
) -> Iterator[bytes]:
    """The writes for the client. `gone` are the answers to "has the client left?", one after another."""
    answers = iter(gone)
    return pipeline.stream(
        Relay(source, turn(playing)), pace, tally or Tally(), lambda: next(answers, False), drain or Drain()
    )


def told(source: Scripted, playing: ResponseStream, **around: Any) -> list[bytes]:
    """All of them; see `streaming`."""
    return [*streaming(source, playing, **around)]


# -- one turn -------------------------------------------------------------------------------------


def test_what_arrives_together_goes_out_together() -> None:
    playing = turn(machine())
    first = playing.machine.start()
    data = playing.feed(b"".join(ANSWER))
    assert playing.ended
    assert judged(first + data)["status"] == "completed"


def test_nothing_waits_for_what_has_not_arrived() -> None:
    playing = turn(machine())
    playing.machine.start()
    writes = [playing.feed(frame) for frame in ANSWER]
    deltas = [[event["delta"] for event in events_of(write) if "delta" in event] for write in writes]
    assert deltas == [[], ["Hm"], ["Hel"], ["lo"], [], []]
    assert [bool(write) for write in writes] == [False, True, True, True, False, True]


def test_what_follows_the_end_is_not_read() -> None:
    playing = turn(machine())
    data = playing.machine.start() + playing.feed(b"".join([*ANSWER, deepseek.text("more"), b"data: {\n\n"]))
    assert judged(data)["status"] == "completed"
    assert playing.feed(deepseek.text("more")) == b""
    assert playing.feed(deepseek.DONE) == playing.eof() == playing.fail(UpstreamError("Late.")) == b""


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (b"data: {\n\n", "The upstream sent an event that is not JSON."),
        (b"<html><body>502 Bad Gateway</body></html>\n\n", None),  # no event at all: the end tells
        (b'data: {"error": {"message": "Busy"}}\n\n', "The upstream reported an error: Busy"),
        (b"data: " + b"x" * (1 << 20) + b"\n\n", "The upstream sent an event of more than 1048576 bytes."),
        (deepseek.arguments(0, "{}"), "The upstream sent a tool call without a name."),
    ],
)
def test_a_broken_stream_ends_after_what_was_good_of_it(broken: bytes, message: str | None) -> None:
    playing = turn(machine())
    data = playing.machine.start() + playing.feed(deepseek.text("Hel") + broken)
    assert playing.ended is (message is not None)
    data += playing.eof()
    assert '"delta":"Hel"' in data.decode()
    final = judged(data)
    cut = "The upstream's answer was cut off before its end."
    assert final["error"] == {"code": "server_error", "message": message or cut}


def test_an_answer_that_just_ends_is_cut() -> None:
    playing = turn(machine())
    data = playing.machine.start() + playing.feed(b"".join(ANSWER[:-1])) + playing.eof()
    assert judged(data)["status"] == "failed"  # not even with a finish reason: [DONE] is missing
    assert isinstance(playing.machine.error, UpstreamTruncated)


@pytest.mark.parametrize("end", [deepseek.DONE, b""])
def test_text_that_was_kept_back_is_not_lost(end: bytes) -> None:
    """The healer holds what may become markup: the beginning of a tag is text after all."""
    answering = machine()
    playing = turn(answering, healer_for(table_of()))
    data = answering.start() + playing.feed(deepseek.text("a <｜DSML｜tool_ca") + end)
    data += playing.eof()
    judged(data)
    shown = "".join(event["delta"] for event in events_of(data) if "delta" in event)
    assert shown == "a <｜DSML｜tool_ca"


# -- a whole stream -------------------------------------------------------------------------------


def test_a_stream_from_the_first_event_to_the_last() -> None:
    tally = Tally()
    writes = told(Scripted(*ANSWER), machine(), tally=tally)
    assert [event["type"] for event in events_of(writes[0])] == ["response.created", "response.in_progress"]
    assert all(write.endswith(b"\n\n") for write in writes)
    assert judged(b"".join(writes))["output"][1]["content"][0]["text"] == "Hello"
    assert tally.first_output is not None
    assert (tally.heartbeats, tally.client_gone) == (0, False)


def test_the_first_events_do_not_wait_for_the_upstream() -> None:
    assert next(streaming(Scripted(SILENCE), machine())).startswith(b"event: response.created\n")


def test_what_has_arrived_by_then_goes_along_with_the_first_events() -> None:
    playing, tally = machine(), Tally()
    first, *_ = told(Scripted(b"".join(ANSWER), arrived=True), playing, tally=tally)
    assert first.startswith(b"event: response.created\n")
    assert first.endswith(b"data: [DONE]\n\n")
    assert tally.first_output is not None


def test_a_comment_that_has_arrived_by_then_is_no_output() -> None:
    playing, tally = machine(), Tally()
    stream = streaming(Scripted(b": keep-alive\n\n", *ANSWER, arrived=True), playing, tally=tally)
    assert next(stream).startswith(b"event: response.created\n")
    assert tally.first_output is None


def test_an_upstream_that_fails_ends_the_stream() -> None:
    playing = machine()
    writes = told(Scripted(ANSWER[1], UpstreamTimeout("Too slow."), *ANSWER), playing)
    assert judged(b"".join(writes))["error"]["message"] == "Too slow."
    assert isinstance(playing.error, UpstreamTimeout)


def test_an_upstream_that_ends_early_ends_the_stream() -> None:
    assert judged(b"".join(told(Scripted(*ANSWER[:3]), machine())))["status"] == "failed"


# -- silence --------------------------------------------------------------------------------------


def test_silence_is_bridged_by_comments() -> None:
    tally = Tally()
    script = (SILENCE, ANSWER[1], SILENCE, SILENCE, *ANSWER[2:])
    writes = told(Scripted(*script), machine(), pace=Pace(heartbeat=0, progress=60), tally=tally)
    assert writes[1] == writes[3] == writes[4] == sse.HEARTBEAT_FRAME
    assert writes.count(sse.HEARTBEAT_FRAME) == tally.heartbeats >= 3
    assert judged(b"".join(writes))["status"] == "completed"


def test_longer_silence_is_bridged_by_an_event_that_shows_the_output_so_far() -> None:
    """Codex's clock for a silent stream takes no notice of comments."""
    tally = Tally()
    script = (SILENCE, *ANSWER[:3], SILENCE, *ANSWER[3:])
    writes = told(Scripted(*script), machine(), pace=Pace(heartbeat=0, progress=0), tally=tally)
    assert judged(b"".join(writes))["status"] == "completed"
    shown = [event["response"]["output"] for event in events_of(b"".join(writes)) if "response" in event]
    # created, in_progress, two of silence, one for the opening chunk that shows nothing, the end
    assert [[item["type"] for item in output] for output in shown[:-1]].count(["reasoning", "message"]) >= 1
    assert tally.heartbeats == len(shown) - 3


def test_without_silence_there_are_no_heartbeats() -> None:
    tally = Tally()
    told(Scripted(b"".join(ANSWER)), machine(), pace=Pace(heartbeat=0, progress=0), tally=tally)
    assert tally.heartbeats == 0


def test_nothing_but_comments_for_too_long_is_a_failure() -> None:
    playing = machine()
    impatient = Clocks(bytes_idle=60, data_idle=0, total=60, after_finish=60)
    writes = told(Scripted(deepseek.KEEP_ALIVE, clocks=impatient), playing)
    assert judged(b"".join(writes))["error"]["message"] == (
        "The upstream sent nothing but comments for 0 seconds."
    )
    assert isinstance(playing.error, UpstreamTimeout)


def test_an_end_that_does_not_come_is_a_failure() -> None:
    impatient = Clocks(bytes_idle=60, data_idle=60, total=60, after_finish=0)
    script = (*ANSWER[:-1], deepseek.KEEP_ALIVE, deepseek.KEEP_ALIVE)
    final = judged(b"".join(told(Scripted(*script, clocks=impatient), machine())))
    assert final["error"]["message"] == (
        "The upstream did not end its stream within 0 seconds of its finish reason."
    )


# -- a client that leaves -------------------------------------------------------------------------


def test_a_client_that_has_left_is_noticed_in_silence() -> None:
    tally = Tally()
    script = (ANSWER[1], SILENCE, SILENCE, SILENCE, *ANSWER[2:])
    playing = machine()
    writes = told(Scripted(*script), playing, tally=tally, gone=[False, True])
    assert tally.client_gone
    assert len(writes) == 2  # the first events and the first delta
    assert playing.response is None  # nobody is told how it ended


def test_a_client_is_not_asked_for_while_data_flows() -> None:
    writes = told(Scripted(b"".join(ANSWER)), machine(), gone=[True] * 9)
    assert judged(b"".join(writes))["status"] == "completed"


# -- a gateway that stops -------------------------------------------------------------------------


@pytest.mark.parametrize("moment", [SILENCE, ANSWER[2], deepseek.KEEP_ALIVE])
def test_a_stream_that_outlives_the_gateway_ends_in_its_own_words(moment: bytes | None) -> None:
    drain = Drain()
    stream = streaming(Scripted(ANSWER[1], moment, *ANSWER[2:]), machine(), drain=drain)
    data = next(stream) + next(stream)
    drain.begin(0)
    data += b"".join(stream)
    assert judged(data)["error"]["message"] == "The gateway is stopping. Send the request again."
    assert ('"delta":"Hel"' in data.decode()) is (moment == ANSWER[2])  # what had arrived goes out


def test_an_answer_that_is_whole_when_the_gateway_stops_stays_whole() -> None:
    drain = Drain()
    stream = streaming(Scripted(b"".join(ANSWER)), machine(), drain=drain)
    data = next(stream)
    drain.begin(0)
    assert judged(data + b"".join(stream))["status"] == "completed"


# -- an answer in one piece -----------------------------------------------------------------------


def complete(body: bytes, playing: ResponseStream | None = None) -> ResponseStream:
    playing = playing or machine()
    pipeline.complete(body, playing, healer_for(table_of()))
    return playing


def test_a_whole_answer_is_the_response() -> None:
    response = complete(deepseek.completion("Hello", "Hm")).response
    assert response is not None
    streamed = judged(b"".join(told(Scripted(*ANSWER), machine())))
    assert response == streamed


def test_half_a_character_and_a_byte_order_mark_are_no_failure() -> None:
    body = b"\xef\xbb\xbf" + deepseek.completion("Hel+").replace(b"+", rb"\ud83d")
    assert complete(body).text == "Hel\ufffd"
    frames = [b"\xef\xbb\xbf" + deepseek.opening(), deepseek.text("Hel"), deepseek.text("+")]
    script = [frame.replace(b"+", rb"\ud83d") for frame in frames] + [deepseek.last() + deepseek.DONE]
    streamed = judged(b"".join(told(Scripted(*script), machine())))
    assert streamed["output"][0]["type"] == "reasoning", "the first event was lost"
    assert streamed["output"][-1]["content"][0]["text"] == "Hel\ufffd"


def test_a_whole_answer_may_be_tidied() -> None:
    playing = machine()
    body = deepseek.completion("```json\n{}\n```", "Hm")
    pipeline.complete(body, playing, healer_for(table_of()), tidy=lambda text: text.strip("`json\n"))
    assert playing.text == "{}"


def test_there_is_nothing_to_tidy_in_an_answer_without_text() -> None:
    playing = machine()
    pipeline.complete(deepseek.completion(""), playing, healer_for(table_of()), tidy=lambda _: "never")
    assert playing.text == ""


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "The upstream sent an answer that is not JSON."),
        (b"<html>", "The upstream sent an answer that is not JSON."),
        (b"[]", "The upstream's answer is not a completion."),
        (b"{}", "The upstream's answer has no choices."),
        (b'{"error": {"message": "Busy"}}', "The upstream reported an error: Busy"),
        (
            deepseek.completion(reason="insufficient_system_resource"),
            "The upstream interrupted its answer (insufficient_system_resource).",
        ),
        (
            deepseek.completion().replace(b'"finish_reason": "stop"', b'"finish_reason": null'),
            "The upstream ended its answer without a finish reason.",
        ),
    ],
)
def test_what_would_fail_a_stream_is_raised(body: bytes, message: str) -> None:
    """Before the first byte a failure is an HTTP status."""
    with pytest.raises(UpstreamError) as caught:
        complete(body)
    assert caught.value.message == message


def test_an_incomplete_answer_is_an_answer() -> None:
    response = complete(deepseek.completion("Hel", reason="length")).response
    assert response is not None
    assert (response["status"], json.dumps(response["incomplete_details"])) == (
        "incomplete",
        '{"reason": "max_output_tokens"}',
    )
