"""Server-sent events, both ways: bytes -> data payloads, and payloads -> frames.

Follows the WHATWG event-stream grammar: lines end in LF, CRLF or CR, split anywhere; a blank line
dispatches; lines that start with a colon are comments; a byte order mark may come first. Only `data` is
kept: DeepSeek names no events.
Refuses to know what a payload means, and holds back nothing that is complete.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from deepseek_proxy.errors import UpstreamError

_BOM = b"\xef\xbb\xbf"
DONE_FRAME = b"data: [DONE]\n\n"
HEARTBEAT_FRAME = b": keep-alive\n\n"


def encode(event: bytes, data: bytes) -> bytes:
    """One frame with a name, LF only: parsers in the field split on LF alone."""
    return b"event: %b\ndata: %b\n\n" % (event, data)


def encode_data(data: bytes) -> bytes:
    """One frame without a name."""
    return b"data: %b\n\n" % data


def payloads(frames: bytes) -> list[bytes]:
    """The payloads in `frames`, which `encode` has made; comments and frames without a name have none."""
    found = []
    for frame in frames.split(b"\n\n"):
        _, data, payload = frame.partition(b"\ndata: ")
        if data:
            found.append(payload)
    return found


class Decoder:
    """Feeds on bytes in any split and returns the data payloads that became complete.

    `max_event_bytes` bounds what an unfinished event may hold.
    """

    __slots__ = ("_after_cr", "_begun", "_bytes", "_data", "_line", "_max")

    def __init__(self, max_event_bytes: int) -> None:
        self._max = max_event_bytes
        self._begun = False  # whether it is known if a byte order mark comes first
        self._line = bytearray()  # the unfinished last line
        self._data: list[bytes] = []  # data lines of the unfinished event
        self._bytes = 0  # their size
        self._after_cr = False  # a following LF belongs to the CR before it

    def feed(self, received: bytes) -> Iterable[bytes]:
        """Payloads completed by `received`, to be read to the end or not at all.

        Raises `UpstreamError` when an event outgrows its bound, after the payloads before it.
        """
        if not self._begun:
            received = self._begin(received)
        if (
            not self._line
            and not self._data
            and not self._after_cr
            and received.endswith(b"\n\n")
            and b"\r" not in received
            and len(received) <= self._max
        ):
            # The usual receive: whole events of one data line each.
            frames = received[:-2].split(b"\n\n")
            for frame in frames:
                if frame[:6] != b"data: " or b"\n" in frame:
                    return self._feed_lines(received)
            return [frame[6:] for frame in frames]
        return self._feed_lines(received)

    def _begin(self, received: bytes) -> bytes:
        """The stream's first bytes without the mark, which may come in pieces."""
        start = bytes(self._line) + received
        self._line.clear()
        if len(start) < len(_BOM) and _BOM.startswith(start):
            self._line += start
            return b""
        self._begun = True
        return start.removeprefix(_BOM)

    def _feed_lines(self, received: bytes) -> Iterator[bytes]:
        if self._after_cr and received:
            self._after_cr = False
            if received[:1] == b"\n":
                received = received[1:]
        if received.endswith(b"\r"):
            # Do not wait for the LF that may follow: the line is complete either way.
            self._after_cr = True
        if b"\r" in received:
            received = received.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        *lines, rest = received.split(b"\n")
        for line in lines:
            if self._line:
                line = bytes(self._line) + line
                self._line.clear()
            self._check_size(line)
            if not line:
                if self._data:
                    payload = b"\n".join(self._data)
                    self._data.clear()
                    self._bytes = 0
                    yield payload
            elif line[:5] == b"data:" or line == b"data":
                value = line[6:] if line[5:6] == b" " else line[5:]
                self._data.append(value)
                self._bytes += len(value) + 1  # with the LF that joins them: empty lines count too
        self._line += rest
        self._check_size(self._line)

    def _check_size(self, line: bytes | bytearray) -> None:
        if len(line) + self._bytes > self._max:
            raise UpstreamError(f"The upstream sent an event of more than {self._max} bytes.")
