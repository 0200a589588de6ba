"""HTTP/1.1 body framing, sans I/O: what of the received bytes is content, and where the body ends.

Follows RFC 9112, sections 6 and 7. The standard library's reader hands out one chunk at a time and waits
inside; a gateway wants everything that has arrived, at once.
"""

from __future__ import annotations

from typing import Protocol

from deepseek_proxy.errors import UpstreamError, UpstreamTruncated

MAX_LINE_BYTES = 16 * 1024
"""Of one line with a chunk's size, and of all trailers."""

MAX_SIZE_DIGITS = 16
_HEX_DIGITS = frozenset(b"0123456789abcdefABCDEF")


class Framing(Protocol):
    ended: bool
    """Whether the body is over: nothing that may still come belongs to it."""
    reusable: bool
    """Whether it ended where its framing says and nothing came after it, so that the connection is clean."""

    def feed(self, received: bytes) -> bytes:
        """The content in `received`. Raises `UpstreamError` for broken framing."""

    def eof(self) -> None:
        """Nothing more comes. Raises `UpstreamError` if the body did not end as its framing says."""


def framing(transfer_encoding: str | None, content_length: str | None) -> Framing:
    if transfer_encoding and "chunked" in transfer_encoding.lower():
        return Chunked()
    if content_length is not None and content_length.isdigit():
        return Counted(int(content_length))
    return UntilClose()


class UntilClose:
    """A body that ends with its connection."""

    __slots__ = ("ended", "reusable")

    def __init__(self) -> None:
        self.ended = False
        self.reusable = False

    def feed(self, received: bytes) -> bytes:
        return received

    def eof(self) -> None:
        self.ended = True


class Counted:
    """A body of a known number of bytes."""

    __slots__ = ("_left", "ended", "reusable")

    def __init__(self, length: int) -> None:
        self._left = length
        self.ended = self.reusable = length == 0

    def feed(self, received: bytes) -> bytes:
        content = received[: self._left]
        self._left -= len(content)
        self.ended = self._left == 0
        self.reusable = self.ended and len(content) == len(received)
        return content

    def eof(self) -> None:
        if self._left:
            raise UpstreamTruncated("The upstream closed the connection in the middle of its answer.")


class Chunked:
    """A body in chunks: hexadecimal size, CRLF, data, CRLF; size 0 and trailers end it."""

    __slots__ = ("_broken", "_buffer", "_left", "_trailer_bytes", "_trailers", "ended", "reusable")

    def __init__(self) -> None:
        self._buffer = b""  # an unfinished line
        self._left = 0  # of the current chunk, its CRLF included; 0: a size line comes next
        self._trailers = False  # whether the last chunk was read
        self._trailer_bytes = 0
        self._broken: UpstreamError | None = None
        self.ended = False
        self.reusable = False

    def feed(self, received: bytes) -> bytes:
        content: list[bytes] = []
        try:
            self._take(received, content)
        except UpstreamError as error:
            if not content:
                raise
            # What came before the break is content still; `eof` tells of the break.
            self._broken, self.ended = error, True
        return content[0] if len(content) == 1 else b"".join(content)

    def _take(self, received: bytes, content: list[bytes]) -> None:
        data = self._buffer + received if self._buffer else received
        position, end = 0, len(data)
        while position < end and not self.ended:
            if self._left:
                taken = min(self._left, end - position)
                if self._left > 2:
                    content.append(data[position : position + min(taken, self._left - 2)])
                self._left -= taken
                position += taken
                continue
            newline = data.find(b"\n", position)
            if newline < 0:
                if end - position > MAX_LINE_BYTES:
                    raise UpstreamError("The upstream sent a chunk header that is too long.")
                break
            line = data[position:newline].rstrip(b"\r")
            position = newline + 1
            if self._trailers:
                self._trailer(line)
                continue
            length = _chunk_length(line)
            stop = position + length
            if not length:
                self._trailers = True
            elif stop + 2 <= end:  # the usual case: the chunk is whole
                content.append(data[position:stop])
                position = stop + 2
            else:
                self._left = length + 2
        self._buffer = data[position:] if not self.ended else b""
        self.reusable = self.ended and position == end

    def eof(self) -> None:
        if self._broken is not None:
            raise self._broken
        if not self.ended:
            raise UpstreamTruncated("The upstream closed the connection in the middle of its answer.")

    def _trailer(self, line: bytes) -> None:
        self.ended = not line
        self._trailer_bytes += len(line)
        if self._trailer_bytes > MAX_LINE_BYTES:
            raise UpstreamError("The upstream sent a trailer that is too long.")


def _chunk_length(line: bytes) -> int:
    if not line.isalnum():
        line = line.split(b";", 1)[0].rstrip(b" \t")
    # int() alone would take signs, underscores and 0x; a negative size would make the reader go in circles.
    if not _HEX_DIGITS.issuperset(line) or not 0 < len(line) <= MAX_SIZE_DIGITS:
        raise UpstreamError("The upstream sent a broken chunk header.")
    return int(line, 16)
