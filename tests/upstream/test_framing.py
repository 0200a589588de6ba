"""Body framing: the same content whatever the split, an end that is known, and no way to be led astray."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepseek_proxy.errors import UpstreamError, UpstreamTruncated
from deepseek_proxy.upstream.framing import MAX_LINE_BYTES, Chunked, Counted, Framing, UntilClose, framing

PARTS = [b"data: 1\n\n", b"\r\n", b"0\r\n\r\n", b"x" * 300, "é".encode()]


def chunked(parts: list[bytes], *, end: bytes = b"0\r\n\r\n") -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + end


def feed_split(body: Framing, received: bytes, cuts: list[int]) -> bytes:
    edges = [0, *sorted(cuts), len(received)]
    return b"".join(body.feed(received[start:stop]) for start, stop in itertools.pairwise(edges))


@pytest.mark.parametrize(
    ("transfer_encoding", "content_length", "kind"),
    [
        ("chunked", None, Chunked),
        ("Chunked", None, Chunked),
        ("chunked", "5", Chunked),  # RFC 9112, 6.3: the transfer encoding overrides the length
        (None, "5", Counted),
        (None, "0", Counted),
        (None, None, UntilClose),
        ("identity", None, UntilClose),
        (None, "-1", UntilClose),
        (None, "five", UntilClose),
        (None, "", UntilClose),
    ],
)
def test_the_headers_choose_the_framing(
    transfer_encoding: str | None, content_length: str | None, kind: type
) -> None:
    assert type(framing(transfer_encoding, content_length)) is kind


class TestChunked:
    def test_at_every_split(self) -> None:
        received = chunked(PARTS)
        for cut in range(len(received) + 1):
            body = Chunked()
            assert feed_split(body, received, [cut]) == b"".join(PARTS), cut
            assert body.ended, cut
            assert body.reusable, cut

    def test_byte_by_byte_nothing_that_is_complete_waits(self) -> None:
        body = Chunked()
        given = [body.feed(bytes([byte])) for byte in chunked([b"ab", b"c"])]
        assert given == [b"", b"", b"", b"a", b"b", b"", b"", b"", b"", b"", b"c", *[b""] * 7]

    @given(parts=st.lists(st.binary(min_size=1, max_size=40), max_size=8), data=st.data())
    def test_any_parts_at_any_splits(self, parts: list[bytes], data: st.DataObject) -> None:
        received = chunked(parts)
        cuts = data.draw(st.lists(st.integers(0, len(received)), max_size=6))
        body = Chunked()
        assert feed_split(body, received, cuts) == b"".join(parts)
        assert body.reusable

    @pytest.mark.parametrize(
        "received",
        [
            b"5\r\nhello\r\n0\r\n\r\n",
            b"5;name=value\r\nhello\r\n0;last\r\n\r\n",
            b'5 ; name="a b"\r\nhello\r\n0\r\n\r\n',
            b"0005\r\nhello\r\n000\r\n\r\n",
            b"5\nhello\r\n0\n\n",
            b"5\r\nhello\r\n0\r\nExpires: never\r\nX-Sum: 5\r\n\r\n",
        ],
        ids=["plain", "extensions", "spaced extension", "leading zeros", "bare LF", "trailers"],
    )
    def test_forms_of_lines(self, received: bytes) -> None:
        body = Chunked()
        assert body.feed(received) == b"hello"
        assert body.ended
        assert body.reusable
        body.eof()

    def test_sizes_are_hexadecimal_in_either_case(self) -> None:
        assert Chunked().feed(b"1A\r\n" + b"x" * 26 + b"\r\n1a\r\n" + b"y" * 26) == b"x" * 26 + b"y" * 26

    @pytest.mark.parametrize(
        "line",
        [b"", b"xyz", b"-6", b"+5", b"0x5", b"1_0", b"5 5", b";5", b"\xd9\xa5", b"HTTP/1.1 200", b"1" * 17],
    )
    def test_a_size_that_is_none_is_an_error(self, line: bytes) -> None:
        with pytest.raises(UpstreamError, match="broken chunk header"):
            Chunked().feed(line + b"\r\nhello\r\n0\r\n\r\n")

    def test_what_came_before_a_break_is_content_still(self) -> None:
        body = Chunked()
        assert body.feed(b"5\r\nhello\r\nxyz\r\n5\r\nworld\r\n") == b"hello"
        assert body.ended
        assert not body.reusable

    def test_an_endless_size_line_is_an_error(self) -> None:
        body = Chunked()
        body.feed(b"0" * MAX_LINE_BYTES)
        with pytest.raises(UpstreamError, match="too long"):
            body.feed(b"0")

    def test_endless_trailers_are_an_error(self) -> None:
        body = Chunked()
        body.feed(b"0\r\n")
        for _ in range(MAX_LINE_BYTES // 4):
            body.feed(b"X: 1\r\n")
        with pytest.raises(UpstreamError, match="too long"):
            body.feed(b"X: 1\r\n")

    def test_not_over_before_the_last_line(self) -> None:
        body = Chunked()
        body.feed(b"5\r\nhello\r\n0\r\n")
        assert not body.ended
        with pytest.raises(UpstreamTruncated):
            body.eof()
        assert body.feed(b"\r\n") == b""
        assert body.ended

    @pytest.mark.parametrize("received", [b"", b"5", b"5\r\nhel", b"5\r\nhello", b"5\r\nhello\r\n"])
    def test_a_cut_is_noticed(self, received: bytes) -> None:
        body = Chunked()
        body.feed(received)
        assert not body.ended
        with pytest.raises(UpstreamTruncated, match="in the middle"):
            body.eof()

    def test_bytes_beyond_the_end_are_no_content_and_spoil_the_connection(self) -> None:
        body = Chunked()
        assert body.feed(b"1\r\na\r\n0\r\n\r\nHTTP/1.1 200 OK\r\n") == b"a"
        assert body.ended
        assert not body.reusable
        assert body.feed(b"5\r\nhello\r\n") == b""
        assert not body.reusable


class TestCounted:
    def test_at_every_split(self) -> None:
        received = b"".join(PARTS)
        for cut in range(len(received) + 1):
            body = Counted(len(received))
            assert feed_split(body, received, [cut]) == received
            assert body.ended
            assert body.reusable
            body.eof()

    def test_nothing_is_over_at_once(self) -> None:
        assert Counted(0).ended
        assert Counted(0).reusable

    def test_a_cut_is_noticed(self) -> None:
        body = Counted(5)
        assert body.feed(b"hell") == b"hell"
        assert not body.ended
        with pytest.raises(UpstreamTruncated):
            body.eof()

    def test_bytes_beyond_the_end_are_no_content_and_spoil_the_connection(self) -> None:
        body = Counted(5)
        assert body.feed(b"hello\r\n") == b"hello"
        assert body.ended
        assert not body.reusable

    def test_bytes_that_come_after_the_end_spoil_the_connection_too(self) -> None:
        body = Counted(5)
        body.feed(b"hello")
        assert body.feed(b"\r\n") == b""
        assert body.ended
        assert not body.reusable


def test_until_close_passes_everything_and_never_goes_back() -> None:
    body = UntilClose()
    assert body.feed(b"5\r\nhello") == b"5\r\nhello"
    assert not body.ended
    body.eof()
    assert body.ended
    assert not body.reusable
