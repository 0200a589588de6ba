"""The end of a server and of its workers, with two hundred streams open.

Through real gunicorn, with gevent workers (the project's configuration) and with threads (plain gunicorn).
Each stream is read by a thread of its own, so that its end has a time.
"""

from __future__ import annotations

import contextlib
import errno
import http.client
import os
import shutil
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import pytest
from harness import deepseek
from harness.client import Call, Reply
from harness.fake_upstream import FakeUpstream
from harness.gateway import CLIENT_KEY, PROMPT, ROOT, Gateway, Server
from harness.responses import Told, read_error, read_stream
from harness.scenes import prompt_of, scene_of
from harness.waiting import wait_for
from harness.wire import Request, Wire

STREAMS = 200
GRACE_SECONDS = 5
"""After so long a worker cuts what is left; its streams end two seconds earlier."""
BOTH = pytest.mark.parametrize("server", [Server.GEVENT, Server.GTHREAD], ids=lambda server: server.value)
STOPPING = "The gateway is stopping. Send the request again."


class Play:
    """What the upstream does: a stream of each kind begins; `curtain` lets those end that mean to."""

    def __init__(self) -> None:
        self.curtain = threading.Event()

    def handler(self, request: Request, wire: Wire) -> None:
        getattr(self, scene_of(request))(wire)

    def ends(self, wire: Wire) -> None:
        wire.start_stream()
        wire.chunk(deepseek.opening() + deepseek.text("Hel"))
        while not self.curtain.is_set():
            wire.sleep(0.2)
        wire.chunk(deepseek.text("lo") + deepseek.last() + deepseek.DONE)
        wire.end()

    def silent(self, wire: Wire) -> None:
        wire.start_stream()
        wire.chunk(deepseek.opening() + deepseek.text("Hel"))
        wire.sleep(60)

    def busy(self, wire: Wire) -> None:
        """Never silent for as long as a tick."""
        wire.start_stream()
        wire.chunk(deepseek.opening())
        while True:
            wire.chunk(deepseek.text("more "))
            wire.sleep(0.05)

    def queued(self, wire: Wire) -> None:
        wire.start_stream()
        while True:
            wire.chunk(deepseek.KEEP_ALIVE)
            wire.sleep(0.3)

    def unanswered(self, wire: Wire) -> None:
        wire.sleep(60)


@dataclass
class Audience:
    """The clients of one gateway, who read many answers at once."""

    gateway: Gateway
    upstream: FakeUpstream
    play: Play = field(default_factory=Play)
    _readers: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(STREAMS + 20))
    _begun: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    _kept: list[Kept] = field(default_factory=list)

    def open(self, kind: str, count: int, **fields: Any) -> list[Future[Any]]:
        """Begins `count` answers of a kind; returns when all of them have begun."""
        before = len(self.upstream.requests)
        calls = [self.gateway.ask(input=prompt_of(kind), **fields) for _ in range(count)]
        futures = [self._readers.submit(self._read, call) for call in calls]
        self.upstream.wait_until(lambda: len(self.upstream.requests) == before + count, 20)
        if kind != "unanswered":
            for _ in range(count):
                assert self._begun.acquire(timeout=20)
        return futures

    def _read(self, call: Call) -> tuple[Reply, Told | None]:
        with call:
            reply = call.reply()
            self._begun.release()
            if reply.status == 200:
                return reply, read_stream(reply)
            assert reply.body
            return reply, None

    def keep(self) -> Kept:
        """A connection on which one request was answered."""
        self._kept.append(Kept(self.gateway))
        return self._kept[-1]

    def close(self) -> None:
        self._readers.shutdown()
        for kept in self._kept:
            kept.close()


@pytest.fixture
def audience(tmp_path: Path) -> Iterator[Callable[..., Audience]]:
    """Starts a server with its audience; what is still running in the end is killed."""
    with contextlib.ExitStack() as stack:

        def start(server: Server, workers: int = 1, **settings: object) -> Audience:
            upstream = FakeUpstream()
            stack.callback(upstream.close)
            plain = ("--threads", str(STREAMS + 20), "--graceful-timeout", str(GRACE_SECONDS))
            gateway = Gateway(
                tmp_path,
                upstream.url,
                server=server,
                workers=workers,
                settings={"drain_seconds": GRACE_SECONDS - 2, **settings},
                options=(*plain, "--workers", str(workers)) if server is Server.GTHREAD else (),
            )
            stack.callback(gateway.process.wait)
            stack.callback(gateway.process.kill)
            opened = Audience(gateway, upstream)
            stack.callback(opened.close)
            upstream.serve(opened.play.handler)
            return opened

        yield start


def told(future: Future[Any]) -> Told:
    """A stream that was told to its end, in good grammar."""
    _, stream = future.result(20)
    assert stream is not None
    return stream


def assert_last_words(future: Future[Any]) -> Told:
    """The stream ended in its own words, and says why."""
    stream = told(future)
    assert stream.final["status"] == "failed"
    assert stream.final["error"] == {"code": "server_error", "message": STOPPING}
    return stream


def assert_whole(future: Future[Any]) -> None:
    stream = told(future)
    assert (stream.final["status"], stream.text) == ("completed", "Hello")


def request_lines(log: str) -> list[Mapping[str, Any]]:
    lines = [orjson.loads(line) for line in log.splitlines() if line.startswith("{")]
    return [line for line in lines if line["logger"] == "deepseek_proxy.requests"]


def refuses(gateway: Gateway) -> bool:
    """Whether nobody listens any more."""
    with socket.socket() as connection:
        return connection.connect_ex(("127.0.0.1", gateway.port)) == errno.ECONNREFUSED


class Kept:
    """A client's connection that stays open between its requests."""

    def __init__(self, gateway: Gateway) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=20)
        self._connection.auto_open = 0  # never another one
        self._connection.connect()
        assert self.get("/healthz")[0] == 200

    def close(self) -> None:
        self._connection.close()

    def get(self, path: str) -> tuple[int, http.client.HTTPMessage, bytes]:
        return self._send("GET", path)

    def ask(self, size: int) -> tuple[int, http.client.HTTPMessage, bytes]:
        body = orjson.dumps({"model": "deepseek-flash", "input": PROMPT + "x" * size})
        return self._send("POST", "/v1/responses", body)

    def _send(
        self, method: str, path: str, body: bytes | None = None
    ) -> tuple[int, http.client.HTTPMessage, bytes]:
        self._connection.request(method, path, body, {"Authorization": f"Bearer {CLIENT_KEY}"})
        response = self._connection.getresponse()
        return response.status, response.headers, response.read()


# -- the end of the server ------------------------------------------------------------------------


@BOTH
def test_sigterm_drains(audience: Callable[..., Audience], server: Server) -> None:
    crowd = audience(server)
    gateway, open_answers = crowd.gateway, crowd.open
    ending = open_answers("ends", STREAMS - 70)
    outlasting = [*open_answers("silent", 54), *open_answers("busy", 8), *open_answers("queued", 4)]
    without_answer = [*open_answers("unanswered", 2), *open_answers("unanswered", 2, stream=False)]
    probe, late, large = crowd.keep(), crowd.keep(), crowd.keep()

    told_to_stop = time.monotonic()
    gateway.process.send_signal(signal.SIGTERM)
    while (answer := probe.get("/readyz"))[0] == 200:
        assert time.monotonic() - told_to_stop < 1, "ready a second after the order to stop"
        time.sleep(0.01)
    assert (answer[0], orjson.loads(answer[2])) == (503, {"status": "draining"})

    for status, headers, body in (late.ask(0), large.ask(4 << 20)):
        assert (status, headers["Retry-After"]) == (503, "1")
        assert orjson.loads(body)["error"]["message"] == STOPPING

    if server is Server.GEVENT:  # a plain worker keeps the listener to its end, and accepts nothing
        wait_for(lambda: refuses(gateway), 2)

    crowd.play.curtain.set()
    for future in ending:
        assert_whole(future)
    for future in outlasting:
        ended = assert_last_words(future).frames[-1].at - told_to_stop
        assert GRACE_SECONDS - 2.1 < ended < GRACE_SECONDS - 0.2
    for future in without_answer:
        assert read_error(future.result(20)[0], 503, "server_error")["message"] == STOPPING

    assert gateway.process.wait(GRACE_SECONDS) == 0
    assert time.monotonic() - told_to_stop < GRACE_SECONDS + 1.5
    assert len(request_lines(gateway.log)) == STREAMS
    assert "graceful timeout" not in gateway.log
    assert "Traceback" not in gateway.log


@BOTH
def test_ctrl_c_ends_streams_at_once_in_their_own_words(
    audience: Callable[..., Audience], server: Server
) -> None:
    """With the project's configuration the second one: the first one drains."""
    crowd = audience(server)
    gateway = crowd.gateway
    streams = [*crowd.open("silent", STREAMS - 20), *crowd.open("busy", 8), *crowd.open("queued", 12)]
    gateway.process.send_signal(signal.SIGINT)
    if server is Server.GEVENT:
        time.sleep(1)
        assert not any(future.done() for future in streams)
        gateway.process.send_signal(signal.SIGINT)
    signalled = time.monotonic()
    for future in streams:
        assert assert_last_words(future).frames[-1].at - signalled < 2
    assert gateway.process.wait(5) == 0
    assert len(request_lines(gateway.log)) == STREAMS


# -- a reload -------------------------------------------------------------------------------------


class Knocking(threading.Thread):
    """A client that comes back on new connections again and again: is it ready, and which version is it?"""

    def __init__(self, gateway: Gateway) -> None:
        super().__init__()
        self._port = gateway.port
        self._over = threading.Event()
        self.statuses: set[int] = set()
        self.versions: list[str] = []
        self.longest_wait = 0.0
        self.start()

    def run(self) -> None:
        while not self._over.wait(0.02):
            asked = time.monotonic()
            with Call(self._port, "GET", "/readyz") as call:
                self.statuses.add(call.reply().status)
            self.longest_wait = max(self.longest_wait, time.monotonic() - asked)
            with Call(self._port, "GET", "/version") as call:
                self.versions.append(call.reply().json()["version"])

    def stop(self) -> None:
        self._over.set()
        self.join()


@BOTH
def test_sighup_reloads_code_and_settings_and_cuts_nothing(
    audience: Callable[..., Audience], server: Server, tmp_path: Path
) -> None:
    """With the project's configuration a replaced worker knows that it is, and may outlast the drain."""
    shutil.copytree(ROOT / "deepseek_proxy", tmp_path / "deepseek_proxy")  # found before the real one
    shutil.copy(ROOT / "wsgi.py", tmp_path)
    version = tmp_path / "deepseek_proxy" / "version.py"
    version.write_text('__version__ = "1.0"\n')
    config = tmp_path / "gateway.toml"
    config.write_text('unknown_models = "map"\n')
    crowd = audience(server, config=config, drain_seconds=1 if server is Server.GEVENT else GRACE_SECONDS)
    gateway = crowd.gateway
    streams = crowd.open("ends", STREAMS)
    (old,) = gateway.worker_pids()
    kept, client = crowd.keep(), Knocking(gateway)
    wait_for(lambda: client.versions, 5)
    version.write_text('__version__ = "2.0"\n')
    if server is Server.GEVENT:  # a worker that is slow to start
        with (tmp_path / "deepseek_proxy" / "app.py").open("a") as app:
            app.write("import time\ntime.sleep(2)\n")
    config.write_text('unknown_models = "reject"\n')
    gateway.process.send_signal(signal.SIGHUP)
    wait_for(lambda: "2.0" in client.versions, 20)
    if server is Server.GEVENT:
        assert kept.get("/readyz")[0] == 200
        time.sleep(1.5)  # longer than drain_seconds
    with gateway.ask(model="gpt-5") as call:
        read_error(call.reply(), 404, "model_not_found", "model")

    assert not any(future.done() for future in streams)
    crowd.play.curtain.set()
    for future in streams:
        assert_whole(future)
    wait_for(lambda: old not in gateway.worker_pids(), 10)
    assert len(gateway.worker_pids()) == 1
    client.stop()
    assert sorted(set(client.versions)) == ["1.0", "2.0"]
    assert client.versions[-20:] == ["2.0"] * 20
    if server is Server.GEVENT:
        assert client.statuses == {200}
        assert client.longest_wait < 1.5
    else:
        assert client.statuses <= {200, 503}
    assert "Traceback" not in gateway.log


def test_sighup_with_a_mistake_changes_nothing(audience: Callable[..., Audience], tmp_path: Path) -> None:
    config = tmp_path / "gateway.toml"
    config.write_text("")
    crowd = audience(Server.GEVENT, config=config)
    gateway = crowd.gateway
    before = gateway.worker_pids()
    config.write_text("max_nestign = 50\n")
    gateway.process.send_signal(signal.SIGHUP)
    wait_for(lambda: "Not reloaded" in gateway.log, 20)
    assert "did you mean max_nesting?" in gateway.log
    crowd.play.curtain.set()
    assert_whole(crowd.open("ends", 1)[0])
    wait_for(lambda: gateway.worker_pids() == before, 20)  # the process that tries the file may still run


def test_a_worker_that_begins_while_the_file_is_wrong_has_the_old_settings(
    audience: Callable[..., Audience], tmp_path: Path
) -> None:
    config = tmp_path / "gateway.toml"
    config.write_text("")
    crowd = audience(Server.GEVENT, config=config)
    gateway = crowd.gateway
    (before,) = gateway.worker_pids()
    config.write_text("max_nestign = 50\n")
    wait_for(lambda: "Not reloaded" in gateway.log, 20)
    os.kill(before, signal.SIGKILL)
    wait_for(lambda: len(pids := gateway.worker_pids()) == 1 and before not in pids, 20)
    crowd.play.curtain.set()
    assert_whole(crowd.open("ends", 1)[0])


# -- a killed worker ------------------------------------------------------------------------------


@BOTH
def test_a_killed_worker_takes_only_its_own_streams_with_it(
    audience: Callable[..., Audience], server: Server
) -> None:
    crowd = audience(server, workers=2)
    gateway = crowd.gateway
    streams = crowd.open("ends", STREAMS)
    killed, survivor = gateway.worker_pids()
    os.kill(killed, signal.SIGKILL)
    wait_for(lambda: len(gateway.worker_pids()) == 2 and killed not in gateway.worker_pids(), 10)
    assert survivor in gateway.worker_pids()

    crowd.play.curtain.set()
    cut = [future for future in streams if future.exception(20)]
    for future in streams:
        if future in cut:
            assert isinstance(future.exception(), (OSError, AssertionError))
            assert "connection" in str(future.exception()).lower()
        else:
            assert_whole(future)
    assert 0 < len(cut) < STREAMS
    for _ in range(4):
        assert_whole(crowd.open("ends", 1)[0])
    if server is Server.GEVENT:
        with gateway.call("GET", "/metrics") as call:
            assert b"deepseek_proxy_open_streams 0.0" in call.reply().body
