"""The nginx configuration of deploy/, in a real nginx between a TLS client and a real gateway."""

from __future__ import annotations

import contextlib
import http.client
import os
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import orjson
import pytest
from harness import deepseek
from harness.certificates import self_signed
from harness.fake_upstream import FakeUpstream
from harness.gateway import CLIENT_KEY, ROOT, Gateway
from harness.programs import program
from harness.responses_grammar import assert_responses_grammar
from harness.websocket import Refused, WebSocket
from harness.wire import Request, Wire

CONFIGURATION: Final = ROOT / "deploy" / "nginx" / "deepseek-proxy.conf"
EVENTS: Final = 30
GAP_SECONDS: Final = 0.02
ALLOWED_DELAY_SECONDS: Final = 0.05
TRIES: Final = 3
"""A busy machine may hold up one event of one try; a buffer holds up those of every try."""

# What a distribution or an operator may have set around it: compression of everything, small buffers on disk.
MAIN: Final = """
{user}
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log info;
events {{ worker_connections 512; }}
http {{
    gzip on;
    gzip_types *;
    gzip_min_length 1;
    access_log {folder}/access.log;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/deepseek-proxy.conf;
}}
"""


@dataclass(frozen=True)
class Front:
    """A running nginx. `port` speaks TLS with a certificate for 127.0.0.1 that `trust` trusts."""

    folder: Path
    port: int
    gateway_port: int
    trust: ssl.SSLContext

    def connect(self) -> http.client.HTTPSConnection:
        return http.client.HTTPSConnection("127.0.0.1", self.port, context=self.trust, timeout=20)

    @property
    def errors(self) -> str:
        return (self.folder / "error.log").read_text()


@contextlib.contextmanager
def running_nginx(nginx: str, folder: Path, gateway_port: int) -> Iterator[Front]:
    """nginx with the shipped file, but for addresses and certificate."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    trusted, _ = self_signed(folder, "front")
    site = CONFIGURATION.read_text()
    for shipped, here in (
        ("    listen 443 ssl;\n", f"    listen 127.0.0.1:{port} ssl;\n"),
        ("    listen [::]:443 ssl;\n", ""),
        ("server 127.0.0.1:8787;", f"server 127.0.0.1:{gateway_port};"),
        ("/etc/letsencrypt/live/gateway.example.com/fullchain.pem", str(trusted)),
        ("/etc/letsencrypt/live/gateway.example.com/privkey.pem", str(folder / "front.key")),
    ):
        assert site.count(shipped) == 1, shipped
        site = site.replace(shipped, here)
    (folder / "deepseek-proxy.conf").write_text(site)
    user = "user root;" if os.geteuid() == 0 else ""
    (folder / "nginx.conf").write_text(MAIN.format(folder=folder, user=user))
    command = [
        nginx,
        "-p",
        str(folder),
        "-c",
        str(folder / "nginx.conf"),
        "-e",
        str(folder / "start.log"),
    ]
    checked = subprocess.run([*command, "-t"], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr
    assert "[warn]" not in checked.stderr, checked.stderr
    with subprocess.Popen(command) as process:
        try:
            wait_for_port(port)
            yield Front(folder, port, gateway_port, ssl.create_default_context(cafile=trusted))
        finally:
            process.terminate()


def wait_for_port(port: int) -> None:
    deadline = time.monotonic() + 10
    while True:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        assert time.monotonic() < deadline, "nginx does not listen"
        time.sleep(0.02)


@pytest.fixture(scope="module")
def upstream() -> Iterator[FakeUpstream]:
    server = FakeUpstream()
    yield server
    server.close()


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory, upstream: FakeUpstream) -> Iterator[Front]:
    nginx = program("nginx")
    gateway = Gateway(tmp_path_factory.mktemp("gateway"), upstream.url)
    with running_nginx(nginx, tmp_path_factory.mktemp("nginx"), gateway.port) as running:
        yield running
    gateway.stop()


def post(
    connection: http.client.HTTPSConnection, fields: dict[str, object], key: str = CLIENT_KEY
) -> http.client.HTTPResponse:
    body = orjson.dumps({"model": "deepseek-flash", "input": "Hello", **fields})
    headers = {"Accept-Encoding": "gzip, deflate, br", "Content-Type": "application/json"}
    if key:
        headers["Authorization"] = f"Bearer {key}"
    connection.request("POST", "/v1/responses", body, headers)
    return connection.getresponse()


# -- streams --------------------------------------------------------------------------------------


def delays(front: Front, upstream: FakeUpstream) -> list[float]:
    """For each of the upstream's events: the seconds until its text was there, through gateway and nginx."""
    sent: list[float] = []

    def paced(_: Request, wire: Wire) -> None:
        wire.start_stream()
        wire.chunk(deepseek.opening())
        for number in range(EVENTS):
            wire.sleep(GAP_SECONDS)
            sent.append(time.monotonic())
            wire.chunk(deepseek.text(f"<{number}>"))
        wire.chunk(deepseek.last() + deepseek.DONE)
        wire.end()

    upstream.serve(paced)
    arrived: list[float] = []
    received = b""
    with contextlib.closing(front.connect()) as connection:
        response = post(connection, {"stream": True})
        assert response.status == 200
        assert response.headers["Content-Encoding"] is None
        while piece := response.read1(1 << 16):
            received += piece
            while f'"delta":"<{len(arrived)}>"'.encode() in received:
                arrived.append(time.monotonic())
    assert received.endswith(b"data: [DONE]\n\n")
    return [there - left for left, there in zip(sent, arrived, strict=True)]


def test_each_event_arrives_within_50_milliseconds_of_its_sending(
    front: Front, upstream: FakeUpstream
) -> None:
    worst = [max(delays(front, upstream)) for _ in range(TRIES)]
    assert min(worst) < ALLOWED_DELAY_SECONDS, worst


def test_when_the_client_leaves_the_upstream_is_let_go(front: Front, upstream: FakeUpstream) -> None:
    closed = threading.Event()

    def waiting(_: Request, wire: Wire) -> None:
        wire.start_stream()
        wire.chunk(deepseek.opening() + deepseek.text("Hel"))
        if wire.wait_closed(5) is not None:
            closed.set()

    upstream.serve(waiting)
    connection = front.connect()
    response = post(connection, {"stream": True})
    assert response.read1(1 << 16)
    response.close()
    connection.close()
    assert closed.wait(2)


# -- bodies ---------------------------------------------------------------------------------------


def test_a_body_of_10_megabytes_passes_and_is_not_written_to_disk(
    front: Front, upstream: FakeUpstream
) -> None:
    upstream.serve(deepseek.answers())
    size = 10_000_000
    with contextlib.closing(front.connect()) as connection:
        response = post(connection, {"input": "x" * size})
        assert response.status == 200
        assert response.headers["Content-Encoding"] is None
        assert orjson.loads(response.read())["status"] == "completed"
    (request,) = upstream.requests
    assert len(request.body) > size
    assert "buffered to a temporary file" not in front.errors


def test_an_error_for_a_large_body_arrives(front: Front, upstream: FakeUpstream) -> None:
    """The gateway answers before it has read the body, and nginx must not make a 502 of it."""
    with contextlib.closing(front.connect()) as connection:
        response = post(connection, {"input": "x" * 10_000_000}, key="two words")
        assert response.status == 401
        assert orjson.loads(response.read())["error"]["code"] == "invalid_api_key"


def test_a_body_beyond_the_limit_is_refused_by_nginx(front: Front) -> None:
    with contextlib.closing(front.connect()) as connection:
        connection.putrequest("POST", "/v1/responses")
        connection.putheader("Content-Length", str(49 << 20))
        connection.endheaders()
        assert connection.getresponse().status == 413


# -- the rest -------------------------------------------------------------------------------------


def test_connections_to_the_gateway_are_kept(front: Front) -> None:
    with contextlib.closing(front.connect()) as connection:
        connection.request("GET", "/healthz")
        response = connection.getresponse()
        assert (response.status, response.read()) == (200, b'{"status":"ok"}\n')
    assert connections_to(front.gateway_port) >= 1


def connections_to(port: int) -> int:
    """Established connections on this machine to a local port: proc_pid_net(5)."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(row[2].endswith(f":{port:04X}") and row[3] == "01" for row in rows)


def test_metrics_are_not_shown_to_the_world(front: Front) -> None:
    with contextlib.closing(front.connect()) as connection:
        connection.request("GET", "/metrics")
        assert connection.getresponse().status == 404


def open_websocket(front: Front, key: str = CLIENT_KEY) -> WebSocket:
    plain = socket.create_connection(("127.0.0.1", front.port))
    secured = front.trust.wrap_socket(plain, server_hostname="127.0.0.1")
    return WebSocket(front.port, headers={"Authorization": f"Bearer {key}"}, deflate=True, sock=secured)


def test_a_websocket_carries_answers(front: Front) -> None:
    with open_websocket(front) as client:
        first = assert_responses_grammar(client.ask(input="one"))
        second = client.ask(input="two", previous_response_id=first["id"])
        assert assert_responses_grammar(second)["status"] == "completed"
        client.close()
        assert client.closed()[0] == 1000


def test_the_refusal_of_one_passes(front: Front) -> None:
    with pytest.raises(Refused) as refused:
        open_websocket(front, "two words")
    assert (refused.value.status, refused.value.json()["error"]["code"]) == (401, "invalid_api_key")
