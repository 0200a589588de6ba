"""What the client tries again and when, and what it takes for an answer."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests
import responses
from harness.fake_upstream import FakeUpstream
from harness.wire import Request, Wire

from deepseek_proxy import errors
from deepseek_proxy.errors import ProxyError

Drive = Callable[..., Any]
"""Of `conftest`."""
URL = "http://deepseek.test"
ENDPOINT = f"{URL}/chat/completions"
ANSWER = b"data: [DONE]\n\n"


class Script:
    """DeepSeek as a list of statuses and headers, the last one for ever. Keeps the times and bodies."""

    def __init__(self, *steps: int | Exception | tuple[int, dict[str, str]], delay: float = 0) -> None:
        self._steps = list(steps)
        self._delay = delay
        self.times: list[float] = []
        self.bodies: list[bytes] = []

    @property
    def gaps(self) -> list[float]:
        return [later - earlier for earlier, later in itertools.pairwise(self.times)]

    def __call__(self, sent: Any) -> tuple[int, dict[str, str], bytes]:
        self.times.append(time.monotonic())
        self.bodies.append(sent.body)
        time.sleep(self._delay)
        step = self._steps.pop(0) if len(self._steps) > 1 else self._steps[0]
        if isinstance(step, Exception):
            raise step
        status, headers = step if isinstance(step, tuple) else (step, {})
        return status, headers, ANSWER if status == 200 else b'{"error": {"message": "no"}}'


@contextlib.contextmanager
def deepseek_says(*steps: int | Exception | tuple[int, dict[str, str]], delay: float = 0) -> Iterator[Script]:
    script = Script(*steps, delay=delay)
    with responses.RequestsMock() as mock:
        mock.add_callback(responses.POST, ENDPOINT, script, content_type="text/event-stream")
        yield script


HASTY = {"upstream_url": URL, "retry_max_seconds": 0.05}
UNREACHABLE = requests.exceptions.ConnectionError("refused")


def test_a_good_answer_takes_one_attempt(drive: Drive) -> None:
    driver = drive(**HASTY)
    with deepseek_says(200) as script:
        assert driver.ask() == (ANSWER, 1)
    assert script.bodies == [driver.body]
    assert driver.failures == []


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("fault", [429, 500, 502, 503, 504, UNREACHABLE, requests.exceptions.ReadTimeout()])
def test_a_passing_fault_is_tried_again(drive: Drive, fault: int | Exception, stream: bool) -> None:
    driver = drive(**HASTY)
    with deepseek_says(fault, 200) as script:
        assert driver.ask(stream=stream) == (ANSWER, 2)
    assert script.bodies == [driver.body, driver.body]
    assert len(driver.failures) == 1


@pytest.mark.parametrize(
    ("status", "counts"),
    [
        (400, False),
        (401, False),
        (403, False),
        (413, False),
        (422, False),
        (402, True),
        (404, True),
        (301, True),
    ],
)
def test_a_final_refusal_is_not_and_a_clients_mistake_is_no_failure(
    drive: Drive, status: int, counts: bool
) -> None:
    driver = drive(**HASTY)
    with deepseek_says(status):
        error, attempts = driver.fail()
    assert not error.retryable
    assert attempts == 1
    assert driver.failures == ([error] if counts else [])


@pytest.mark.parametrize("attempts", [1, 2, 3])
def test_attempts_are_bounded(drive: Drive, attempts: int) -> None:
    driver = drive(**HASTY, upstream_attempts=attempts)
    with deepseek_says(503) as script:
        error, made = driver.fail()
    assert type(error) is errors.UpstreamOverloaded
    assert made == len(script.times) == len(driver.failures) == attempts


def test_a_final_refusal_ends_the_attempts(drive: Drive) -> None:
    driver = drive(**HASTY)
    with deepseek_says(503, 400):
        error, attempts = driver.fail()
    assert (type(error), attempts) == (errors.InvalidRequest, 2)
    assert [type(failure) for failure in driver.failures] == [errors.UpstreamOverloaded]


@pytest.mark.parametrize(("asked", "allowed", "pause"), [("0.3", 20, 0.3), ("30", 0.2, 0.2), ("0", 20, 0)])
def test_retry_after_is_honoured_within_bounds(
    drive: Drive, asked: str, allowed: float, pause: float
) -> None:
    driver = drive(upstream_url=URL, retry_max_seconds=allowed)
    with deepseek_says((429, {"Retry-After": asked}), 200) as script:
        driver.ask()
    assert pause <= script.gaps[0] < pause + 0.2


def test_pauses_grow_with_jitter_and_are_bounded(drive: Drive) -> None:
    driver = drive(upstream_url=URL, upstream_attempts=3, retry_max_seconds=0.7)
    with deepseek_says(500) as script:
        driver.fail()
    first, second = script.gaps
    assert 0.5 <= first < 0.9
    assert 0.65 < second < 0.9


def test_a_broken_connection_is_replaced_at_once_but_only_the_first_time(
    drive: Drive,
) -> None:
    driver = drive(upstream_url=URL, upstream_attempts=3, retry_max_seconds=0.4)
    with deepseek_says(UNREACHABLE) as script:
        error, _ = driver.fail()
    assert type(error) is errors.UpstreamUnreachable
    at_once, later = script.gaps
    assert at_once < 0.15
    assert later > 0.3


def test_a_stream_is_not_tried_again_once_its_client_has_a_heartbeat(drive: Drive) -> None:
    slow = {**HASTY, "heartbeat_seconds": 0.2}
    with deepseek_says(503, 200, delay=0.3):
        assert drive(**slow).fail()[1] == 1
    with deepseek_says(503, 200, delay=0.3):
        assert drive(**slow).ask(stream=False)[1] == 2


def test_nor_is_it_if_the_pause_would_last_that_long(drive: Drive) -> None:
    """The client gets the status and the upstream's wish, instead of a stream that fails."""
    driver = drive(upstream_url=URL, heartbeat_seconds=2)
    started = time.monotonic()
    with deepseek_says((429, {"Retry-After": "3"}), 200):
        error, attempts = driver.fail()
    assert time.monotonic() - started < 1
    assert (error.retry_after, attempts) == (3, 1)


# -- mending --------------------------------------------------------------------------------------


def test_a_refused_body_may_be_mended_once(drive: Drive) -> None:
    told: list[ProxyError] = []

    def mend(error: ProxyError) -> bytes:
        told.append(error)
        return b"better"

    driver = drive(**HASTY)
    with deepseek_says(400, 200) as script:
        assert driver.ask(mend=mend) == (ANSWER, 2)
    assert script.bodies == [driver.body, b"better"]
    assert [error.message for error in told] == ["no"]


def test_a_mended_body_that_is_refused_too_is_an_error(drive: Drive) -> None:
    driver = drive(**HASTY)
    with deepseek_says(400) as script:
        error, attempts = driver.fail(mend=lambda _: b"better")
    assert (type(error), attempts) == (errors.InvalidRequest, 2)
    assert script.bodies == [driver.body, b"better"]


def test_a_mended_body_survives_passing_faults_too(drive: Drive) -> None:
    driver = drive(**HASTY)
    with deepseek_says(400, 503, 200) as script:
        assert driver.ask(mend=lambda _: b"better") == (ANSWER, 3)
    assert script.bodies == [driver.body, b"better", b"better"]


# -- what is an answer ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stream", "content_type", "answers"),
    [
        (True, "text/event-stream; charset=utf-8", True),
        (True, "text/plain", True),
        (True, "application/json", False),
        (True, "text/html", False),
        (False, "application/json", True),
    ],
)
def test_a_document_is_no_stream(drive: Drive, stream: bool, content_type: str, answers: bool) -> None:
    driver = drive(**HASTY)
    with responses.RequestsMock() as mock:
        mock.post(ENDPOINT, body=b"<hello>", content_type=content_type)
        if answers:
            assert driver.ask(stream=stream) == (b"<hello>", 1)
        else:
            error, _ = driver.fail(stream=stream)
            assert type(error) is errors.UpstreamMisconfigured
            assert content_type in error.message


def test_an_answer_of_no_type_is_believed(drive: Drive, upstream: FakeUpstream) -> None:
    def handler(_: Request, wire: Wire) -> None:
        wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\none")
        wire.answered = True

    upstream.serve(handler)
    assert drive(upstream_url=upstream.url).ask() == (b"one", 1)
