"""Bodies on real sockets: what has arrived is handed out, silence is told, and connections are not wasted."""

from __future__ import annotations

import contextlib
import gzip
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests
import responses
from harness.certificates import self_signed
from harness.fake_upstream import FakeUpstream
from harness.wire import Handler, Request, Wire

from deepseek_proxy.errors import UpstreamError, UpstreamTruncated
from deepseek_proxy.upstream.body import Body, BufferedBody, SocketBody, body_of
from deepseek_proxy.upstream.readiness import TICK_SECONDS

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
CONTENT = b"data: one\n\ndata: zwei \xc3\xa4\n\n"
FORMS = {
    "chunked": HEAD
    + b"Transfer-Encoding: chunked\r\n\r\n"
    + b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (CONTENT[:9], CONTENT[9:], b"")),
    "counted": HEAD + b"Content-Length: %d\r\n\r\n" % len(CONTENT) + CONTENT,
    "until close": HEAD + b"\r\n" + CONTENT,
}


@pytest.fixture
def session() -> Iterator[requests.Session]:
    with requests.Session() as session:
        session.trust_env = False
        yield session


def get(session: requests.Session, upstream: FakeUpstream) -> Body:
    return body_of(session.get(upstream.url, stream=True, timeout=10))


def read_all(body: Body) -> bytes:
    """The rest of a body; silence is waited through."""
    content = b""
    while (received := body.read()) != b"":
        content += received or b""
    return content


def stream_then(act: Callable[[Wire], None], *chunks: bytes) -> Handler:
    """Sends chunks, and then lets `act` say how it goes on."""

    def handler(_: Request, wire: Wire) -> None:
        wire.start_stream()
        for chunk in chunks:
            wire.chunk(chunk)
        act(wire)

    return handler


@pytest.mark.parametrize("form", FORMS)
def test_every_framing_at_every_split(form: str, upstream: FakeUpstream, session: requests.Session) -> None:
    answer = FORMS[form]

    def handler(request: Request, wire: Wire) -> None:
        cut = int(request.path[1:])
        wire.send(answer[:cut])
        wire.sleep(0.001)
        wire.send(answer[cut:])
        wire.answered = form != "until close"

    upstream.serve(handler)
    for cut in range(1, len(answer)):
        body = body_of(session.get(f"{upstream.url}/{cut}", stream=True, timeout=10))
        assert isinstance(body, SocketBody)
        assert read_all(body) == CONTENT, cut
        body.close()
    assert upstream.connections == (len(answer) - 1 if form == "until close" else 1)


def test_what_came_with_the_header_is_there_at_once(
    upstream: FakeUpstream, session: requests.Session
) -> None:
    def handler(_: Request, wire: Wire) -> None:
        wire.send(FORMS["chunked"][:-5])
        wire.wait_closed(10)

    upstream.serve(handler)
    body = get(session, upstream)
    started = time.monotonic()
    assert body.read() == CONTENT
    assert time.monotonic() - started < TICK_SECONDS / 2
    body.close()


def test_what_has_arrived_does_not_wait_for_more_and_silence_is_told(
    upstream: FakeUpstream, session: requests.Session
) -> None:
    go_on = threading.Event()

    def slow(wire: Wire) -> None:
        assert go_on.wait(10)
        wire.chunk(b"two")
        wire.chunk(b"three")
        wire.end()

    upstream.serve(stream_then(slow, b"one"))
    body = get(session, upstream)
    assert body.read() == b"one"
    started = time.monotonic()
    assert body.read() is None
    assert TICK_SECONDS * 0.9 < time.monotonic() - started < TICK_SECONDS + 0.5
    go_on.set()
    assert read_all(body) == b"twothree"
    assert body.read() == b""
    body.close()


def test_the_end_of_a_chunk_alone_is_nothing_to_pass_on(
    upstream: FakeUpstream, session: requests.Session
) -> None:
    def handler(_: Request, wire: Wire) -> None:
        wire.start_stream()
        wire.send(b"3\r\none")
        wire.sleep(0.05)
        wire.send(b"\r\n")
        wire.wait_closed(10)

    upstream.serve(handler)
    body = get(session, upstream)
    assert [body.read(), body.read()] == [b"one", None]
    body.close()


@pytest.mark.parametrize("end", [b"", b"5", b"5\r\nda", b"5\r\ndata:"])
def test_a_connection_that_ends_too_early_is_an_error(
    end: bytes, upstream: FakeUpstream, session: requests.Session
) -> None:
    upstream.serve(stream_then(lambda wire: wire.send(end), b"one"))
    body = get(session, upstream)
    with pytest.raises(UpstreamTruncated, match="in the middle"):
        read_all(body)
    body.close()


def test_a_reset_is_an_error(upstream: FakeUpstream, session: requests.Session) -> None:
    received = threading.Event()

    def reset(wire: Wire) -> None:
        assert received.wait(10)
        wire.reset()

    upstream.serve(stream_then(reset, b"one"))
    body = get(session, upstream)
    assert body.read() == b"one"
    received.set()
    with pytest.raises(UpstreamTruncated, match=r"broke: .*reset"):
        read_all(body)
    body.close()


def test_broken_framing_is_an_error_after_what_came_before_it(
    upstream: FakeUpstream, session: requests.Session
) -> None:
    received = threading.Event()

    def break_off(wire: Wire) -> None:
        assert received.wait(10)
        wire.send(b"zz\r\n")

    upstream.serve(stream_then(break_off, b"one"))
    body = get(session, upstream)
    assert body.read() == b"one"
    received.set()
    with pytest.raises(UpstreamError, match="chunk header"):
        read_all(body)
    body.close()


def test_under_gevent_a_body_leaves_nothing_behind(upstream: FakeUpstream) -> None:
    """Watchers of sockets that are closed would wake whoever gets their descriptors next."""
    upstream.serve(
        stream_then(lambda wire: wire.end(), b"one"), stream_then(lambda wire: wire.wait_closed(10), b"two")
    )
    script = f"""
from gevent import monkey; monkey.patch_all()
import gevent, requests
from deepseek_proxy.upstream.body import body_of
session = requests.Session()
whole, cut = (body_of(session.get({upstream.url!r}, stream=True, timeout=10)) for _ in range(2))
assert b"".join(iter(lambda: whole.read() or b"", b"")) == b"one"
assert cut.read() == b"two" and cut.read() is None
whole.close()
cut.close()
session.close()
assert gevent.wait(timeout=1), "something is still watched"
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stderr) == (0, "")


class TestConnections:
    def test_one_that_was_read_to_its_end_is_used_again(
        self, upstream: FakeUpstream, session: requests.Session
    ) -> None:
        upstream.serve(stream_then(lambda wire: wire.end(), b"one"))
        for _ in range(5):
            body = get(session, upstream)
            assert read_all(body) == b"one"
            body.close()
        assert (len(upstream.requests), upstream.connections) == (5, 1)

    def test_one_that_was_not_is_closed(self, upstream: FakeUpstream, session: requests.Session) -> None:
        left: list[float | None] = []
        upstream.serve(stream_then(lambda wire: left.append(wire.wait_closed(10)), b"one"))
        for number in (1, 2):
            body = get(session, upstream)
            assert body.read() == b"one"
            body.close()
            closed = time.monotonic()
            upstream.wait_until(lambda n=number: len(left) == n)
            seen = left[-1]
            assert seen is not None
            assert seen - closed < 0.5
        assert upstream.connections == 2

    def test_one_whose_end_comes_a_moment_late_is_used_again_if_drained(
        self, upstream: FakeUpstream, session: requests.Session
    ) -> None:
        def late(wire: Wire) -> None:
            wire.sleep(0.05)
            wire.end()

        upstream.serve(stream_then(late, b"one"))
        for _ in range(3):
            body = get(session, upstream)
            assert body.read() == b"one"
            body.close(drain=True)
        assert (len(upstream.requests), upstream.connections) == (3, 1)

    def test_draining_waits_for_a_tick_at_most(
        self, upstream: FakeUpstream, session: requests.Session
    ) -> None:
        upstream.serve(stream_then(lambda wire: wire.wait_closed(10), b"one"))
        body = get(session, upstream)
        assert body.read() == b"one"
        started = time.monotonic()
        body.close(drain=True)
        assert time.monotonic() - started < TICK_SECONDS + 0.3

    def test_draining_reads_no_endless_answer(
        self, upstream: FakeUpstream, session: requests.Session
    ) -> None:
        def endless(wire: Wire) -> None:
            with contextlib.suppress(OSError):
                while True:
                    wire.chunk(b": comment\n\n" * 100)

        upstream.serve(stream_then(endless, b"one"))
        body = get(session, upstream)
        assert (body.read() or b"").startswith(b"one")
        started = time.monotonic()
        body.close(drain=True)
        assert time.monotonic() - started < 1

    def test_draining_survives_an_answer_that_breaks(
        self, upstream: FakeUpstream, session: requests.Session
    ) -> None:
        upstream.serve(stream_then(lambda wire: wire.close(), b"one"))
        body = get(session, upstream)
        assert body.read() == b"one"
        body.close(drain=True)

    @pytest.mark.parametrize("form", ["chunked", "counted"])
    def test_bytes_beyond_the_end_are_not_waited_for_and_spoil_it(
        self, form: str, upstream: FakeUpstream, session: requests.Session
    ) -> None:
        def handler(_: Request, wire: Wire) -> None:
            wire.send(FORMS[form] + b"\r\n")
            wire.wait_closed(10)

        upstream.serve(handler)
        for _ in range(2):
            started = time.monotonic()
            body = get(session, upstream)
            assert read_all(body) == CONTENT
            body.close()
            assert time.monotonic() - started < TICK_SECONDS
        assert upstream.connections == 2

    def test_the_upstreams_wish_to_close_is_respected(
        self, upstream: FakeUpstream, session: requests.Session
    ) -> None:
        def handler(_: Request, wire: Wire) -> None:
            wire.respond(200, b"one", {"Connection": "close"})
            wire.wait_closed(10)

        upstream.serve(handler)
        for _ in range(2):
            body = get(session, upstream)
            assert read_all(body) == b"one"
            body.close()
        assert upstream.connections == 2


class TestBuffered:
    def test_an_encoding_nobody_asked_for_is_undone(
        self, upstream: FakeUpstream, session: requests.Session
    ) -> None:
        upstream.serve(
            lambda _, wire: wire.respond(200, gzip.compress(CONTENT), {"Content-Encoding": "gzip"})
        )
        body = get(session, upstream)
        assert isinstance(body, BufferedBody)
        assert read_all(body) == CONTENT
        body.close()

    def test_identity_is_none(self, upstream: FakeUpstream, session: requests.Session) -> None:
        upstream.serve(lambda _, wire: wire.respond(200, CONTENT, {"Content-Encoding": "Identity"}))
        body = get(session, upstream)
        assert isinstance(body, SocketBody)
        body.close()

    def test_a_cut_is_an_error(self, upstream: FakeUpstream, session: requests.Session) -> None:
        def handler(_: Request, wire: Wire) -> None:
            wire.start_stream({"Content-Encoding": "gzip"})
            wire.chunk(gzip.compress(CONTENT)[:20])

        upstream.serve(handler)
        body = get(session, upstream)
        with pytest.raises(UpstreamTruncated, match="broke"):
            read_all(body)
        body.close()

    @responses.activate
    def test_a_response_without_a_network_below(self) -> None:
        responses.get("http://127.0.0.1/x", body=CONTENT)
        body = body_of(requests.get("http://127.0.0.1/x", stream=True, timeout=1))
        assert isinstance(body, BufferedBody)
        assert read_all(body) == CONTENT
        body.close()


# -- TLS ------------------------------------------------------------------------------------------


class RecordServer:
    """One TLS connection whose records can be sent in pieces: `ssl.MemoryBIO` between us and the socket."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"https://127.0.0.1:{self._listener.getsockname()[1]}"
        self._context = context

    def __enter__(self) -> RecordServer:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()
        self._listener.close()

    def accept(self) -> None:
        """Shakes hands and reads the request."""
        self._connection, _ = self._listener.accept()
        self._arriving, self._leaving = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = self._context.wrap_bio(self._arriving, self._leaving, server_side=True)
        self._with_more_input(self._tls.do_handshake)
        self._with_more_input(lambda: self._tls.read(65536))

    def record(self, data: bytes) -> bytes:
        """`data` as one record, not sent."""
        self._tls.write(data)
        return self._leaving.read()

    def send(self, raw: bytes) -> None:
        self._connection.sendall(raw)

    def _with_more_input(self, step: Callable[[], object]) -> None:
        while True:
            try:
                step()
            except ssl.SSLWantReadError:
                self._flush()
                self._arriving.write(self._connection.recv(65536))
            else:
                return self._flush()

    def _flush(self) -> None:
        if waiting := self._leaving.read():
            self._connection.sendall(waiting)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ssl.SSLContext]:
    return self_signed(tmp_path_factory.mktemp("tls"), "upstream")


@pytest.fixture
def records(certificate: tuple[Path, ssl.SSLContext]) -> Iterator[RecordServer]:
    with RecordServer(certificate[1]) as server:
        yield server


def get_tls(
    session: requests.Session, server: RecordServer, trusted: Path, act: Callable[[], None]
) -> tuple[Body, threading.Thread]:
    """Starts a request; `act` is the server's part after it has read it."""

    def serve() -> None:
        server.accept()
        act()

    thread = threading.Thread(target=serve)
    thread.start()
    return body_of(session.get(server.url, stream=True, timeout=10, verify=str(trusted))), thread


def test_tls_at_every_framing(certificate: tuple[Path, ssl.SSLContext], session: requests.Session) -> None:
    trusted, context = certificate
    upstream = FakeUpstream(context)
    answers = iter(FORMS.values())

    def handler(_: Request, wire: Wire) -> None:
        answer = next(answers)
        for start in range(0, len(answer), 7):
            wire.send(answer[start : start + 7])
        wire.answered = answer is not FORMS["until close"]

    upstream.serve(handler)
    for _ in FORMS:
        body = body_of(session.get(upstream.url, stream=True, timeout=10, verify=str(trusted)))
        assert isinstance(body, SocketBody)
        assert read_all(body) == CONTENT
        body.close()
    assert upstream.connections == 1
    upstream.close()
    assert upstream.failures == []


def test_tls_a_record_read_in_parts_leaves_nothing_behind(
    certificate: tuple[Path, ssl.SSLContext], records: RecordServer, session: requests.Session
) -> None:
    """The socket is silent while the rest of a record waits inside the TLS layer."""
    content = b"x" * 15_000
    whole = HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"%x\r\n%b\r\n" % (len(content), content)
    body, thread = get_tls(session, records, certificate[0], lambda: records.send(records.record(whole)))
    started = time.monotonic()
    received = b""
    while len(received) < len(content):
        received += body.read() or b""
    assert received == content
    assert time.monotonic() - started < TICK_SECONDS / 2
    assert body.read() is None
    body.close()
    thread.join()


def test_tls_half_a_record_is_silence(
    certificate: tuple[Path, ssl.SSLContext], records: RecordServer, session: requests.Session
) -> None:
    """The socket is readable, and yet there is nothing to read: nobody may be kept waiting for the rest."""
    go_on = threading.Event()

    def halves() -> None:
        records.send(records.record(HEAD + b"Transfer-Encoding: chunked\r\n\r\n3\r\none\r\n"))
        record = records.record(b"3\r\ntwo\r\n0\r\n\r\n")
        records.send(record[:10])
        assert go_on.wait(10)
        records.send(record[10:])

    body, thread = get_tls(session, records, certificate[0], halves)
    assert body.read() == b"one"
    started = time.monotonic()
    assert body.read() is None
    assert body.read() is None
    assert time.monotonic() - started < 2 * TICK_SECONDS + 0.5
    go_on.set()
    assert read_all(body) == b"two"
    body.close()
    thread.join()
