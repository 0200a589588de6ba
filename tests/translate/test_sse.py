from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepseek_proxy.errors import UpstreamError
from deepseek_proxy.translate import sse

MAX_EVENT_BYTES = 64


def decode(pieces: Iterable[bytes]) -> tuple[list[bytes], str | None]:
    """The payloads of a stream that comes in these pieces, and the error that ended it, if one did."""
    decoder = sse.Decoder(MAX_EVENT_BYTES)
    payloads: list[bytes] = []
    try:
        for piece in pieces:
            for payload in decoder.feed(piece):
                payloads.append(payload)
    except UpstreamError as error:
        return payloads, error.message
    return payloads, None


def byte_by_byte(stream: bytes) -> list[bytes]:
    return [stream[i : i + 1] for i in range(len(stream))]


# -- frames out -----------------------------------------------------------------------------------


def test_a_frame_is_a_name_and_data_and_lf_only() -> None:
    assert sse.encode(b"response.created", b"{}") == b"event: response.created\ndata: {}\n\n"
    assert sse.encode_data(b"{}") == b"data: {}\n\n"


def test_our_own_frames_are_what_a_decoder_reads() -> None:
    assert decode([sse.encode(b"e", b"1"), sse.HEARTBEAT_FRAME, sse.encode_data(b"2"), sse.DONE_FRAME]) == (
        [b"1", b"2", b"[DONE]"],
        None,
    )


# -- the grammar of event streams -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("stream", "payloads"),
    [
        (b"", []),
        (b"\n\n\n", []),
        (b"data: a\n\n", [b"a"]),
        (b"data: a\n\ndata: b\n\n", [b"a", b"b"]),
        (b"data:a\n\n", [b"a"]),
        (b"data:  a \n\n", [b" a "]),  # one space is the separator's
        (b"data: a\ndata: b\n\n", [b"a\nb"]),
        (b"data\n\n", [b""]),
        (b"data:\n\n", [b""]),
        (b"data\ndata\n\n", [b"\n"]),
        (b": keep-alive\n\ndata: a\n\n", [b"a"]),
        (b": one\n: two\ndata: a\n: three\n\n", [b"a"]),
        (b"event: x\nid: 1\nretry: 5\ndata: a\n\n", [b"a"]),
        (b"event: x\n\n", []),
        (b"datafile: a\ndat: b\nDATA: c\n\n", []),
        (b"data: a", []),
        (b"data: a\n", []),  # what is not ended by a blank line is not an event
        (b"data: a\r\n\r\ndata: b\r\n\r\n", [b"a", b"b"]),
        (b"data: a\r\rdata: b\r\r", [b"a", b"b"]),
        (b"data: a\r\n\ndata: b\n\r\n", [b"a", b"b"]),
        (b"data: a\r\ndata: b\rdata: c\n\n", [b"a\nb\nc"]),
        ("data: 你好 😀\n\n".encode(), ["你好 😀".encode()]),
        (b"data: [DONE]\n\n", [b"[DONE]"]),
        (b"\xef\xbb\xbfdata: a\n\n", [b"a"]),
        (b"\xef\xbb\xbf: hi\r\n\r\ndata: a\r\n\r\n", [b"a"]),
        (b"\xef\xbb\xbf", []),
        (b"\xef\xbb\xbf\xef\xbb\xbfdata: a\n\ndata: b\n\n", [b"b"]),  # there is one mark at most
        (b"data: a\n\n\xef\xbb\xbfdata: b\n\n", [b"a"]),  # and it comes first
        (b"\xef\xbbdata: a\n\ndata: b\n\n", [b"b"]),
    ],
)
def test_any_line_ends_and_any_split(stream: bytes, payloads: list[bytes]) -> None:
    assert decode([stream]) == (payloads, None)
    assert decode(byte_by_byte(stream)) == (payloads, None)
    for cut in range(len(stream)):
        assert decode([stream[:cut], b"", stream[cut:]]) == (payloads, None)


def test_what_is_complete_is_not_held_back() -> None:
    """Neither by the first bytes of the next event nor by an LF that may follow a CR."""
    decoder = sse.Decoder(MAX_EVENT_BYTES)
    assert [*decoder.feed(b"data: a\n\ndata: b")] == [b"a"]
    assert [*decoder.feed(b"\r\r")] == [b"b"]
    assert [*decoder.feed(b"\ndata: c\n\n")] == [b"c"]


LINES = st.sampled_from(
    [
        b"data: a",
        b"data:b",
        b"data",
        b"data: ",
        b": note",
        b"event: e",
        b"",
        b"\xef\xbb\xbfdata: c",
        b"data: " + b"x" * 30,
        b"y" * 63,
    ]
)
ENDS = st.sampled_from([b"\n", b"\r\n", b"\r"])


@given(
    st.lists(st.tuples(LINES, ENDS).map(b"".join), max_size=12).map(b"".join),
    st.lists(st.integers(0, 400), max_size=6),
)
def test_any_split_of_any_stream_gives_the_same_payloads(stream: bytes, cuts: list[int]) -> None:
    edges = sorted({0, len(stream), *(cut % (len(stream) + 1) for cut in cuts)})
    whole = decode([stream])
    assert decode(stream[a:b] for a, b in pairwise(edges)) == whole
    assert decode(byte_by_byte(stream)) == whole


# -- bounds ---------------------------------------------------------------------------------------

TOO_LARGE = f"The upstream sent an event of more than {MAX_EVENT_BYTES} bytes."


@pytest.mark.parametrize(
    "large",
    [
        b"data: " + b"x" * MAX_EVENT_BYTES,
        b"data: " + b"x" * MAX_EVENT_BYTES + b"\n\n",
        b": " + b"x" * MAX_EVENT_BYTES,
        b"data: " + b"x" * 40 + b"\ndata: " + b"x" * 20 + b"\n\n",
        b"data\n" * (MAX_EVENT_BYTES + 1),
    ],
)
def test_an_event_that_is_too_large_fails_after_the_events_before_it(large: bytes) -> None:
    stream = b"data: a\n\ndata: b\n\n" + large
    assert decode([stream]) == ([b"a", b"b"], TOO_LARGE)
    assert decode(byte_by_byte(stream)) == ([b"a", b"b"], TOO_LARGE)


def test_many_events_together_may_be_larger_than_one() -> None:
    stream = b"data: 0123456789\n\n" * 20
    assert decode([stream]) == ([b"0123456789"] * 20, None)
    assert decode([b"data: " + b"x" * (MAX_EVENT_BYTES - 6) + b"\n\n"]) == ([b"x" * 58], None)


def test_payloads_are_those_of_named_frames() -> None:
    frames = (
        sse.encode(b"a", b'{"x":1}')
        + sse.HEARTBEAT_FRAME
        + sse.encode(b"b", '{"ü":"data: "}'.encode())
        + sse.DONE_FRAME
    )
    assert sse.payloads(frames) == [b'{"x":1}', '{"ü":"data: "}'.encode()]
    assert sse.payloads(b"") == []
