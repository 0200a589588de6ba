"""The gateway as a Vercel function: what Vercel reads, and how its runtime serves the application."""

from __future__ import annotations

import base64
import configparser
import inspect
import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from harness import deepseek
from harness.fake_upstream import FakeUpstream
from harness.responses import read_stream
from harness.vercel import GENUINE, IS_INSTALLED, STAND_IN, Function
from harness.waiting import wait_for
from harness.wire import Request, Wire

from deepseek_proxy.settings import Settings

ROOT = Path(__file__).parents[2]
CONFIG = json.loads((ROOT / "vercel.json").read_text())
FUNCTION = CONFIG["functions"]["wsgi.py"]
PLATFORM_BODY_BYTES = 4_500_000
KEY = "sk-vercel-canary-7d20"
PROMPT = "the canary word is heliotrope"
SEAL_KEY = base64.b64encode(b"k" * 32).decode()


# -- what Vercel reads ----------------------------------------------------------------------------


def test_requirements_are_those_of_the_package() -> None:
    """Also a layer of the Docker image."""
    package = configparser.ConfigParser()
    package.read(ROOT / "setup.cfg")
    needed = [
        line for line in package["options"]["install_requires"].splitlines() if line[:1] not in ("", "#")
    ]
    listed = (ROOT / "requirements.txt").read_text().splitlines()
    assert [line for line in listed if not line.startswith("#")] == needed


def test_the_entry_point_is_found_before_any_other_file() -> None:
    """`@vercel/python` 25 takes the first of these that is there, in the root folder first."""
    candidates = [f"{name}.py" for name in ("app", "index", "server", "main", "wsgi", "asgi")]
    assert [name for name in candidates if (ROOT / name).exists()] == ["wsgi.py"]
    assert CONFIG["framework"] == "flask"
    assert re.search("[Ff]lask", (ROOT / "requirements.txt").read_text())
    from flask import Flask

    assert list(inspect.signature(Flask.__call__).parameters)[1:] == ["environ", "start_response"]


def test_an_answer_ends_itself_before_the_platform_cuts_it() -> None:
    variables = CONFIG["env"]
    assert {f"DEEPSEEK_PROXY_{name.upper()}" for name in Settings.model_fields} >= set(variables)
    assert float(variables["DEEPSEEK_PROXY_TOTAL_SECONDS"]) + 10 <= FUNCTION["maxDuration"] <= 300
    assert not [name for name in variables if "KEY" in name]


def test_nothing_is_packed_that_the_function_does_not_need() -> None:
    left_out = re.fullmatch(r"\{(.*)\}/\*\*", FUNCTION["excludeFiles"])
    assert left_out
    names = left_out[1].split(",")
    assert not {"deepseek_proxy", "wsgi.py"} & set(names)
    assert {"tests", "docs", "deploy"} <= set(names)


# -- served as there ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def upstream() -> Iterator[FakeUpstream]:
    server = FakeUpstream()
    yield server
    server.close()


# The stand-in always, and Vercel's own package on the Pythons that have it.
RUNTIMES = {"stand-in": STAND_IN, **({"vercel-runtime": GENUINE} if IS_INSTALLED else {})}


@pytest.fixture(params=RUNTIMES.values(), ids=RUNTIMES)
def start(
    request: pytest.FixtureRequest, tmp_path: Path, upstream: FakeUpstream
) -> Iterator[Callable[..., Function]]:
    started: list[Function] = []

    def begin(**settings: object) -> Function:
        folder = tmp_path / str(len(started))
        folder.mkdir()
        given = {"seal_keys": SEAL_KEY, **settings}
        started.append(Function(folder, upstream.url, request.param, **given))
        return started[-1]

    yield begin
    for function in started:
        function.stop()


def ask(function: Function, headers: dict[str, str] | None = None, **fields: Any) -> Any:
    body = {"model": "deepseek-flash", "input": PROMPT, "stream": True, **fields}
    sent = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json", **(headers or {})}
    return function.call("POST", "/v1/responses", json.dumps(body).encode(), sent)


def test_every_event_is_passed_on_as_it_comes_and_one_line_is_logged(
    start: Callable[..., Function], upstream: FakeUpstream
) -> None:
    seen = threading.Event()

    def handler(_: Request, wire: Wire) -> None:
        wire.start_stream()
        wire.chunk(deepseek.opening() + deepseek.text("Hel"))
        assert seen.wait(10), "the first piece does not arrive before the second is sent"
        for frame in (deepseek.text("lo"), deepseek.last(), deepseek.DONE):
            wire.chunk(frame)
        wire.end()

    upstream.serve(handler)
    function = start()
    with ask(function) as call:
        reply = call.reply()
        frames = []
        for frame in reply.frames():
            frames.append(frame)
            if '"delta":"Hel"' in frame.raw:
                seen.set()
    assert reply.status == 200
    assert frames[-1].is_done
    assert frames[-2].event["type"] == "response.completed"
    wait_for(lambda: '"path":"/v1/responses"' in function.log, 5)
    assert function.log.count("first token") == 1, "written once, by us alone"
    assert '"logger":"deepseek_proxy.requests"' in function.log
    assert KEY not in function.log
    assert PROMPT not in function.log


def test_many_at_once_and_whole_answers_too(start: Callable[..., Function], upstream: FakeUpstream) -> None:
    upstream.serve(deepseek.answers())
    function = start()
    calls = [ask(function, stream=bool(number % 2)) for number in range(20)]
    for number, call in enumerate(calls):
        with call:
            reply = call.reply()
            text = read_stream(reply).text if number % 2 else reply.json()["output"][-1]["content"][0]["text"]
            assert text == "Hello"


def test_the_time_limit_ends_a_stream_in_its_own_words(
    start: Callable[..., Function], upstream: FakeUpstream
) -> None:
    def handler(_: Request, wire: Wire) -> None:
        wire.start_stream()
        wire.chunk(deepseek.opening())
        while True:
            wire.chunk(deepseek.text("and on "))
            wire.sleep(0.05)

    upstream.serve(handler)
    function = start(total_seconds=1.5)
    with ask(function) as call:
        began = time.monotonic()
        told = read_stream(call.reply())
    assert time.monotonic() - began < 3
    assert told.events[-1]["type"] == "response.failed"
    assert "longer than 1.5 seconds" in told.final["error"]["message"]
    assert told.text.startswith("and on ")


def test_a_body_of_the_platforms_largest_size(start: Callable[..., Function], upstream: FakeUpstream) -> None:
    upstream.serve(deepseek.answers())
    function = start()
    with ask(function, input="x" * (PLATFORM_BODY_BYTES - 500)) as call:
        assert read_stream(call.reply()).text == "Hello"


def test_thinking_returns_on_another_instance_and_nothing_is_kept(
    start: Callable[..., Function], upstream: FakeUpstream, tmp_path: Path
) -> None:
    upstream.serve(deepseek.answers(["Hello"], ["Let me see"]))
    first, second = start(), start()
    with ask(first) as call:
        told = read_stream(call.reply())
    first.stop()
    bodies: list[Any] = []

    def handler(request: Request, wire: Wire) -> None:
        bodies.append(request.json())
        deepseek.answers()(request, wire)

    upstream.serve(handler)
    history = [
        {"role": "user", "content": PROMPT},
        *told.final["output"],
        {"role": "user", "content": "go on"},
    ]
    with ask(second, input=history) as call:
        read_stream(call.reply())
    assert [message.get("reasoning_content") for message in bodies[0]["messages"]] == [
        None,
        "Let me see",
        None,
    ]
    assert "No sealing key" not in first.log + second.log
    kept = {path.name for path in tmp_path.rglob("*") if not path.is_dir()}
    assert kept == {"ipc.sock", "output"}


def test_without_a_sealing_key_it_serves_and_warns(
    start: Callable[..., Function], upstream: FakeUpstream
) -> None:
    upstream.serve(deepseek.answers())
    function = start(seal_keys="", state_dir="/proc/no-such-folder")
    with ask(function) as call:
        assert read_stream(call.reply()).text == "Hello"
    assert "No sealing key can be kept in /proc/no-such-folder" in function.log


def test_a_client_that_leaves_ends_the_call_to_deepseek(
    start: Callable[..., Function], upstream: FakeUpstream
) -> None:
    """No socket can be watched there, so it shows with the next comment that is sent."""
    closed: list[float | None] = []

    def handler(_: Request, wire: Wire) -> None:
        wire.start_stream()
        wire.chunk(deepseek.opening() + deepseek.text("Hel"))
        closed.append(wire.wait_closed(10))

    upstream.serve(handler)
    function = start(heartbeat_seconds=0.2)
    call = ask(function)
    pieces = call.reply().pieces()
    next(pieces)
    call.leave(abruptly=True)
    upstream.wait_until(lambda: closed, timeout=12)
    assert closed[0] is not None


def test_the_own_key_does_not_pay_for_strangers_unless_it_is_meant(start: Callable[..., Function]) -> None:
    function = start(deepseek_api_key=KEY)
    assert function.process.wait(20) != 0
    assert "everybody who knows the address of this deployment" in function.log
    assert KEY not in function.log
    assert start(deepseek_api_key=KEY, allow_remote=True).port()


def test_metrics_are_for_the_admin_key_alone(start: Callable[..., Function]) -> None:
    function = start(admin_key="vercel-admin-canary")

    def status(**headers: str) -> int:
        with function.call("GET", "/metrics", headers=headers) as call:
            return call.reply().status

    assert status() == 403
    assert status(**{"X-Forwarded-For": "127.0.0.1"}) == 403
    assert status(Authorization="Bearer vercel-admin-canary") == 200
