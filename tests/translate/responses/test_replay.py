"""Stored events: which of them are asked for, and the end of a stream that has none."""

from __future__ import annotations

from typing import Any

import pytest
from harness.machines import events_of, machine
from harness.responses_grammar import assert_responses_grammar

from deepseek_proxy.errors import InvalidRequest
from deepseek_proxy.translate.hub import Chunk
from deepseek_proxy.translate.responses import replay


def stream() -> bytes:
    playing = machine()
    said = playing.start() + playing.feed(Chunk(content="Hi")) + playing.feed(Chunk(finish_reason="stop"))
    return said + playing.finish()


def pieces(frames: bytes) -> list[bytes]:
    return [frame + b"\n\n" for frame in frames.split(b"\n\n")[:-1]]


# -- parts of a log -------------------------------------------------------------------------------


def test_the_part_behind_an_event_begins_with_the_next_one() -> None:
    every = pieces(stream())
    for first in range(len(every)):
        log = b"".join(every[first:])
        for after in range(-1, len(every) + 1):
            assert replay.behind(after, first, log) == b"".join(every[max(first, after + 1) :])


def test_the_last_number_is_that_of_the_last_event() -> None:
    every = pieces(stream())
    assert replay.last_number(0, b"".join(every)) == len(every) - 2  # [DONE] has none
    assert replay.last_number(3, b"".join(every[3:5])) == 4


# -- the question ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "expected"),
    [({}, False), ({"stream": "true"}, True), ({"stream": "False"}, False), ({"stream": "1"}, True)],
)
def test_a_flag(query: dict[str, str], expected: bool) -> None:
    assert replay.flag(query, "stream") is expected


@pytest.mark.parametrize(("query", "expected"), [({}, -1), ({"starting_after": "0"}, 0)])
def test_where_to_start(query: dict[str, str], expected: int) -> None:
    assert replay.starting_after(query) == expected


@pytest.mark.parametrize("text", ["", "-1", "1.5", "one", "٣", "1" * 10])
def test_what_is_no_sequence_number_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        replay.starting_after({"starting_after": text})
    assert (caught.value.param, caught.value.code) == ("starting_after", "invalid_type")


# -- what nobody will finish ----------------------------------------------------------------------


@pytest.mark.parametrize("events", [2, 5, 8])
def test_an_abandoned_stream_ends_in_failure(events: int) -> None:
    log = b"".join(pieces(stream())[:events])
    begun: dict[str, Any] = events_of(log)[0]["response"]
    failed = replay.abandoned(begun, log)
    words = replay.last_words(events, failed)
    assert words.endswith(b"data: [DONE]\n\n")
    assert assert_responses_grammar(events_of(log + words)) == failed
    assert len(failed["output"]) == (events == 8)
