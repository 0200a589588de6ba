"""Frames in and out of a socket: sizes, splits, compression, bad manners, and the ends of a connection."""

from __future__ import annotations

import socket
import struct
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from harness.websocket import WebSocket
from websockets.frames import CloseCode

from deepseek_proxy.api import channel
from deepseek_proxy.api.channel import Channel
from deepseek_proxy.api.streaming import ClientGone
from deepseek_proxy.errors import InvalidRequest

MAX_BYTES = 100_000
STALL_SECONDS = 0.5
MASK = b"\x01\x02\x03\x04"

Open = Callable[..., tuple[Channel, WebSocket]]


def accept(sock: socket.socket) -> Channel:
    """Reads an upgrade request as a server does, and takes the connection over."""
    received = b""
    while b"\r\n\r\n" not in received:
        received += sock.recv(4096)
    lines = received.decode().split("\r\n")[1:-2]
    headers = {name: value for name, _, value in (line.partition(": ") for line in lines)}
    return channel.accept(sock, headers.get, MAX_BYTES, STALL_SECONDS, {"X-Request-ID": "req_1"})


@pytest.fixture
def opened() -> Iterator[Open]:
    sockets: list[socket.socket] = []

    def pair(**options: Any) -> tuple[Channel, WebSocket]:
        near, far = socket.socketpair()
        sockets.extend((near, far))
        with ThreadPoolExecutor(1) as pool:
            accepted = pool.submit(accept, near)
            client = WebSocket(1, sock=far, **options)
            return accepted.result(), client

    yield pair
    for each in sockets:
        each.close()


def soon(seconds: float = 2) -> float:
    return time.monotonic() + seconds


def received(near: Channel) -> bytes:
    assert near.wait(soon())
    return near.take()


def masked(payload: bytes) -> bytes:
    return bytes(byte ^ MASK[i % 4] for i, byte in enumerate(payload))


def frame(head: int, payload: bytes, size: int | None = None) -> bytes:
    """A frame of a client; `size` is what its head says of it."""
    size = len(payload) if size is None else size
    assert size < 65536
    length = struct.pack("!B", 0x80 | size) if size < 126 else struct.pack("!BH", 0xFE, size)
    return bytes([head]) + length + MASK + masked(payload)


# -- the handshake --------------------------------------------------------------------------------


def test_the_answer_has_its_headers(opened: Open) -> None:
    _, far = opened()
    assert far.response is not None
    assert far.response.status_code == 101
    assert far.response.headers["X-Request-ID"] == "req_1"
    assert "Sec-WebSocket-Extensions" not in far.response.headers


def test_compression_is_taken_without_a_window_that_lasts(opened: Open) -> None:
    _, far = opened(deflate=True)
    assert far.response is not None
    agreed = far.response.headers["Sec-WebSocket-Extensions"]
    assert "server_no_context_takeover" in agreed
    assert "client_no_context_takeover" in agreed


KEY = {"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="}
GOOD = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13", **KEY}


@pytest.mark.parametrize(
    "headers",
    [
        {**GOOD, "Sec-WebSocket-Version": "8"},
        {**GOOD, "Sec-WebSocket-Key": "short"},
        {**GOOD, "Connection": "close"},
        {name: value for name, value in GOOD.items() if name != "Sec-WebSocket-Key"},
    ],
)
def test_what_is_no_handshake_is_refused_before_anything_is_sent(headers: Mapping[str, str]) -> None:
    near, far = socket.socketpair()
    with near, far:
        with pytest.raises(InvalidRequest, match="no WebSocket handshake"):
            channel.accept(near, headers.get, MAX_BYTES, STALL_SECONDS, {})
        far.setblocking(False)
        with pytest.raises(BlockingIOError):
            far.recv(1)


# -- messages in ----------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65535, 65536, MAX_BYTES])
@pytest.mark.parametrize("deflate", [False, True])
def test_messages_of_any_size_arrive(opened: Open, size: int, deflate: bool) -> None:
    near, far = opened(deflate=deflate)
    text = (b"heliotrope " * (size // 11 + 1))[:size]
    with ThreadPoolExecutor(1) as pool:
        sent = pool.submit(far.send, text)
        assert received(near) == text
        sent.result()


def test_they_arrive_byte_by_byte_and_in_fragments_with_a_ping_between(opened: Open) -> None:
    near, far = opened()
    data = frame(0x01, b"helio") + frame(0x89, b"?") + frame(0x00, "trö".encode()) + frame(0x80, b"pe")

    def dribble() -> None:
        for byte in data:
            far.send_raw(bytes([byte]))

    with ThreadPoolExecutor(1) as pool:
        pool.submit(dribble)
        assert received(near) == "heliotröpe".encode()
    assert far.socket.recv(100) == b"\x8a\x01?"


def test_several_at_once_are_taken_one_by_one(opened: Open) -> None:
    near, far = opened()
    far.send_raw(b"".join(frame(0x81, b"%d" % number) for number in range(5)))
    assert [received(near) for _ in range(5)] == [b"0", b"1", b"2", b"3", b"4"]
    assert not near.wait(time.monotonic() + 0.01)


def test_a_client_that_does_not_wait_is_held_back(opened: Open) -> None:
    near, far = opened()
    far.socket.settimeout(0.2)
    message = frame(0x81, b"x" * 60_000)
    sent = 0
    try:
        while sent < 100_000_000:
            far.send_raw(message)
            sent += len(message)
            near.is_gone()
    except TimeoutError:
        pass
    assert sent < 5_000_000
    assert received(near) == b"x" * 60_000


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (frame(0x82, b"binary"), CloseCode.UNSUPPORTED_DATA),
        (bytes([0x81, 0x01]) + b"x", CloseCode.PROTOCOL_ERROR),  # not masked
        (frame(0x83, b""), CloseCode.PROTOCOL_ERROR),  # no such opcode
        (frame(0x80, b"x"), CloseCode.PROTOCOL_ERROR),  # goes on from nothing
        (frame(0xC1, b"x"), CloseCode.PROTOCOL_ERROR),  # compressed, which was not agreed on
        (bytes([0x81, 0xFF]) + struct.pack("!Q", MAX_BYTES + 1), CloseCode.MESSAGE_TOO_BIG),
        (frame(0x01, b"x" * 60_000) * 1 + frame(0x80, b"x" * 60_000), CloseCode.MESSAGE_TOO_BIG),
    ],
)
def test_bad_frames_end_the_connection_with_the_right_code(opened: Open, data: bytes, code: int) -> None:
    near, far = opened()
    far.send_raw(data)
    with pytest.raises(ClientGone):
        near.wait(soon())
    with ThreadPoolExecutor(1) as pool:
        closing = pool.submit(near.close, CloseCode.INTERNAL_ERROR, "not this one")
        assert far.closed()[0] == code
        far.socket.close()
        closing.result()
    assert near.close_code == code


def test_a_bomb_is_not_unpacked(opened: Open) -> None:
    near, far = opened(deflate=True)
    packer = zlib.compressobj(9, wbits=-15)
    bomb = (packer.compress(bytes(20_000_000)) + packer.flush(zlib.Z_SYNC_FLUSH))[:-4]
    far.send_raw(frame(0xC1, bomb))
    with pytest.raises(ClientGone):
        near.wait(soon())
    assert near.close_code == CloseCode.MESSAGE_TOO_BIG


# -- messages out ---------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65535, 65536, 500_000])
@pytest.mark.parametrize("deflate", [False, True])
def test_texts_go_out_in_one_frame_each(opened: Open, size: int, deflate: bool) -> None:
    near, far = opened(deflate=deflate)
    with ThreadPoolExecutor(1) as pool:
        sent = pool.submit(near.send, [b"x" * size, b"next"])
        assert far.receive().raw == b"x" * size
        assert far.receive().raw == b"next"
        sent.result()


def test_a_client_that_takes_nothing_is_let_go(opened: Open) -> None:
    near, _ = opened()
    began = time.monotonic()
    with pytest.raises(ClientGone):
        near.send([b"x" * 10_000_000])
    assert STALL_SECONDS <= time.monotonic() - began < STALL_SECONDS + 1
    assert not near.is_open


# -- ends -----------------------------------------------------------------------------------------


def test_a_client_may_say_goodbye_at_any_time(opened: Open) -> None:
    near, far = opened()
    assert not near.is_gone()
    far.close(4000)
    assert near.is_gone()
    with pytest.raises(ClientGone):
        near.send([b"too late"])
    with ThreadPoolExecutor(1) as pool:
        closing = pool.submit(near.close, CloseCode.GOING_AWAY, "not this one")
        assert far.closed()[0] == 4000
        far.socket.close()
        closing.result()
    assert near.close_code == 4000


def test_a_goodbye_is_heard_while_messages_go_out(opened: Open) -> None:
    near, far = opened()
    near.send([b"1"])
    far.close()
    time.sleep(channel.LOOK_SECONDS)
    with pytest.raises(ClientGone):
        near.send([b"2"])


def test_a_client_that_is_cut_off_is_gone(opened: Open) -> None:
    near, far = opened()
    far.leave()
    with pytest.raises(ClientGone):
        near.wait(soon())
    assert near.is_gone()
    assert near.close_code == CloseCode.ABNORMAL_CLOSURE
    near.ping()
    near.close(CloseCode.NORMAL_CLOSURE, "")


def test_closing_waits_for_the_client(opened: Open) -> None:
    near, far = opened()
    far.send_raw(frame(0x81, b"under way"))
    with ThreadPoolExecutor(1) as pool:
        closing = pool.submit(near.close, CloseCode.GOING_AWAY, "The gateway is stopping.")
        assert far.closed() == (CloseCode.GOING_AWAY, "The gateway is stopping.")
        far.socket.close()
        closing.result()
    assert near.close_code == CloseCode.GOING_AWAY


def test_but_not_for_long(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel, "CLOSE_SECONDS", 0.1)
    near, _ = opened()
    began = time.monotonic()
    near.close(CloseCode.NORMAL_CLOSURE, "")
    assert time.monotonic() - began < 1


def test_a_wait_can_be_ended_by_another_thread(opened: Open) -> None:
    near, far = opened()
    threading.Timer(0.1, near.wake).start()
    began = time.monotonic()
    assert not near.wait(soon(10))
    assert time.monotonic() - began < 5
    near.close(CloseCode.GOING_AWAY, "The gateway is stopping.")
    assert far.closed() == (CloseCode.GOING_AWAY, "The gateway is stopping.")


def test_a_ping_needs_no_answer(opened: Open) -> None:
    near, far = opened()
    near.ping()
    near.ping()
    assert not near.wait(time.monotonic() + 0.01)
    assert near.is_open
    near.send([b"text"])
    far.receive()
    assert len(far.pings) == 2
