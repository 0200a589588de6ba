"""The log has one line for every request, whatever became of it, and no secret in any of them."""

from __future__ import annotations

import contextlib
import itertools
import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from harness import deepseek
from harness.fake_upstream import FakeUpstream
from harness.gateway import CLIENT_KEY, OWN_KEY, PROMPT, Gateway
from harness.responses import read_stream
from harness.wire import Request, Wire

WORKERS = 4
CLIENTS = 6
CALLS_EACH = 50
SECONDS = 20
"""The longest wait for a line that has to come."""
ANSWER = "the answering canary is marigold"


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("logs")


@pytest.fixture(scope="module")
def cluster(
    tmp_path_factory: pytest.TempPathFactory, deepseek_server: FakeUpstream, logs: Path
) -> Iterator[Gateway]:
    """Four workers whose log files are so small that they rotate all the time."""
    runner = Gateway(
        tmp_path_factory.mktemp("cluster"),
        deepseek_server.url,
        workers=WORKERS,
        settings={
            "log_dir": logs,
            "log_max_bytes": 8192,
            "log_backups": 1000,
            "log_level": "debug",
            "heartbeat_seconds": 0.3,
            "retry_max_seconds": 0.05,
        },
    )
    yield runner
    runner.stop()


def files(folder: Path, stem: str) -> dict[Path, str]:
    """A log as it stands at one moment: what is rotated while it is read is read again."""
    deadline = time.monotonic() + SECONDS
    while True:
        with contextlib.suppress(FileNotFoundError):  # it has its next name by now
            before = numbers(folder, stem)
            found = {path: path.read_text() for path in before}
            if numbers(folder, stem) == before:
                return found
        assert time.monotonic() < deadline, "the log is never at rest"


def numbers(folder: Path, stem: str) -> dict[Path, int]:
    """Which file has which name: that of its inode stays when it is renamed."""
    return {path: path.stat().st_ino for path in folder.glob(f"{stem}*")}


def lines(folder: Path, stem: str) -> list[dict[str, Any]]:
    """Those that have been written to their end."""
    complete = (text.rpartition("\n")[0].splitlines() for text in files(folder, stem).values())
    return [json.loads(line) for line in itertools.chain.from_iterable(complete)]


def request_lines(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """The lines of requests by their ids."""
    by_id: dict[str, list[dict[str, Any]]] = {}
    for line in lines(folder, "gateway.log"):
        if line["logger"] == "deepseek_proxy.requests":
            by_id.setdefault(line["request_id"], []).append(line)
    return by_id


def accesses(folder: Path) -> Counter[str | None]:
    return Counter(line.get("path") for line in lines(folder, "access.log"))


def line_of(folder: Path, request_id: str) -> dict[str, Any]:
    """The one line of a request, which may be written after the client has its answer."""
    deadline = time.monotonic() + SECONDS
    while not (found := request_lines(folder).get(request_id)):
        assert time.monotonic() < deadline, f"no line for {request_id}"
        time.sleep(0.02)
    (line,) = found
    return line


def test_no_line_is_lost_when_four_workers_rotate_at_once(
    cluster: Gateway, upstream: FakeUpstream, logs: Path
) -> None:
    upstream.serve(deepseek.answers())
    failures: list[BaseException] = []

    def ask_many(client: int) -> None:
        try:
            for number in range(CALLS_EACH):
                with cluster.ask({"X-Request-ID": f"count-{client}-{number}"}) as call:
                    read_stream(call.reply())
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=ask_many, args=(client,)) for client in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    expected = {f"count-{client}-{number}" for client in range(CLIENTS) for number in range(CALLS_EACH)}
    # The lines of the last requests may still wait for others.
    upstream.wait_until(lambda: expected <= set(request_lines(logs)), SECONDS)
    upstream.wait_until(lambda: accesses(logs)["/v1/responses"] >= len(expected), SECONDS)
    found = {i: len(found) for i, found in request_lines(logs).items() if i.startswith("count-")}
    assert found == dict.fromkeys(expected, 1)
    assert len(files(logs, "gateway.log")) > 4, "nothing was rotated: the test proves nothing"
    pids = {line["pid"] for line in lines(logs, "gateway.log") if line["logger"] == "deepseek_proxy.requests"}
    assert len(pids) == WORKERS, "one worker did it all: the test proves nothing"


def test_the_request_id_comes_back(any_gateway: Gateway) -> None:
    with any_gateway.ask({"X-Request-ID": "my-own-id-1"}) as call:
        reply = call.reply()
        read_stream(reply)
    assert reply.headers["x-request-id"] == "my-own-id-1"


def test_a_request_without_an_id_gets_one(gateway: Gateway) -> None:
    seen = set()
    for _ in range(2):
        with gateway.ask(stream=False) as call:
            seen.add(call.reply().headers["x-request-id"])
    assert len(seen) == 2
    assert all(len(found) >= 16 for found in seen)


@pytest.mark.parametrize("given", ["x" * 500, "with space", "a\tb", 'quote"quote', "é"])
def test_an_id_that_could_spoil_the_log_is_replaced(gateway: Gateway, given: str) -> None:
    with gateway.ask({"X-Request-ID": given}, stream=False) as call:
        reply = call.reply()
        assert reply.status == 200
    assert reply.headers["x-request-id"] != given
    assert reply.headers["x-request-id"].isascii()


def test_errors_have_an_id_too(gateway: Gateway) -> None:
    with gateway.call("GET", "/nothing", headers={"X-Request-ID": "lost-1"}) as call:
        assert call.reply().headers["x-request-id"] == "lost-1"


def test_a_good_request_is_told_in_full(cluster: Gateway, upstream: FakeUpstream, logs: Path) -> None:
    upstream.serve(deepseek.answers(["Hel", "lo"], ["hm"]))
    with cluster.ask({"X-Request-ID": "good-1"}, model="gpt-5", no_such_field=1) as call:
        read_stream(call.reply())
    line = line_of(logs, "good-1")
    expected = {
        "dialect": "responses",
        "model": "gpt-5",
        "upstream_model": "deepseek-flash",
        "stream": True,
        "status": 200,
        "input_tokens": 40,
        "cached_tokens": 32,
        "output_tokens": 9,
        "reasoning_tokens": 4,
        "finish": "stop",
        "attempts": 1,
        "unknown_fields": ["no_such_field"],
    }
    assert {key: line.get(key) for key in expected} == expected
    assert 0 < line["first_token_seconds"] <= line["duration_seconds"]
    assert not line.get("client_gone")
    assert not line.get("error_code")


def test_a_broken_stream_is_told(cluster: Gateway, upstream: FakeUpstream, logs: Path) -> None:
    def cut(_: Request, wire: Wire) -> None:
        wire.start_stream()
        wire.chunk(deepseek.opening() + deepseek.text(ANSWER))

    upstream.serve(cut)
    with cluster.ask({"X-Request-ID": "cut-1"}) as call:
        read_stream(call.reply())
    line = line_of(logs, "cut-1")
    assert (line["status"], line["error_code"], line["level"]) == (200, "server_error", "warning")


def test_a_retried_request_counts_its_attempts(cluster: Gateway, upstream: FakeUpstream, logs: Path) -> None:
    upstream.serve(deepseek.refuses(503, deepseek.BUSY), deepseek.answers())
    with cluster.ask({"X-Request-ID": "retried-1"}) as call:
        read_stream(call.reply())
    assert line_of(logs, "retried-1")["attempts"] == 2


def test_a_refused_request_made_no_attempt(cluster: Gateway, logs: Path) -> None:
    with cluster.ask({"X-Request-ID": "refused-1"}, temperature="hot") as call:
        assert call.reply().status == 400
    line = line_of(logs, "refused-1")
    assert (line["status"], line["attempts"]) == (400, 0)


def test_a_client_that_left_is_told(cluster: Gateway, upstream: FakeUpstream, logs: Path) -> None:
    def silent(_: Request, wire: Wire) -> None:
        wire.start_stream()
        wire.wait_closed(5)

    upstream.serve(silent)
    with cluster.ask({"X-Request-ID": "gone-1"}) as call:
        next(call.reply().frames())
        call.leave()
    assert line_of(logs, "gone-1")["client_gone"] is True


def test_heartbeats_are_counted(cluster: Gateway, upstream: FakeUpstream, logs: Path) -> None:
    def slow(request: Request, wire: Wire) -> None:
        wire.sleep(1.3)
        deepseek.answers()(request, wire)

    upstream.serve(slow)
    with cluster.ask({"X-Request-ID": "slow-1"}) as call:
        told = read_stream(call.reply())
    heartbeats = len(told.comments) + told.count("response.in_progress") - 1
    assert heartbeats
    assert line_of(logs, "slow-1")["heartbeats"] == heartbeats


def test_no_secret_and_no_prompt_is_logged(cluster: Gateway, upstream: FakeUpstream, logs: Path) -> None:
    """Good, refused, broken and unreadable calls, all full of canaries; then every log is read."""

    def echo_key(request: Request, wire: Wire) -> None:
        wire.respond(401, deepseek.error(f"Your api key {CLIENT_KEY} is invalid: {PROMPT}", "x"))

    def echo_prompt(request: Request, wire: Wire) -> None:
        wire.start_stream()
        wire.chunk(deepseek.text(ANSWER) + deepseek.event({"error": {"message": f"{ANSWER} {PROMPT}"}}))
        wire.end()

    def malformed(request: Request, wire: Wire) -> None:
        wire.start_stream()
        wire.chunk(b"data: {" + ANSWER.encode() + b"\n\n")
        wire.end()

    before = len(request_lines(logs))
    upstream.serve(
        deepseek.answers([ANSWER], [ANSWER]), echo_key, echo_prompt, malformed, deepseek.answers([ANSWER])
    )
    for _ in range(4):
        with cluster.ask() as call:
            assert call.reply().body
    with cluster.ask({"Authorization": ""}) as call:
        assert call.reply().body
    for body in (f'{{"input": "{PROMPT}"', f'{{"input": ["{PROMPT}"]}}', PROMPT, f'{{"{PROMPT}": 1}}'):
        with cluster.call("POST", f"/v1/responses?key={CLIENT_KEY}", body.encode()) as call:
            assert call.reply().status in (400, 415)
    with cluster.call("GET", f"/nothing?api_key={CLIENT_KEY}") as call:
        assert call.reply().status == 404
    upstream.wait_until(lambda: len(request_lines(logs)) >= before + 9, SECONDS)
    everything = "".join([cluster.log, *files(logs, "").values()])
    for secret in (CLIENT_KEY, OWN_KEY, PROMPT, ANSWER, "netrc-canary"):
        assert secret not in everything
