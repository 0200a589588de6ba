"""One request in the log and the metrics: its id, one line, and what became known on the way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from flask import Request
from harness import deepseek
from harness.fake_upstream import FakeUpstream
from werkzeug.test import EnvironBuilder

from deepseek_proxy import errors
from deepseek_proxy.api.exchange import Exchange
from deepseek_proxy.translate.hub import Usage

Make = Callable[..., Any]
"""Of `conftest`."""


def exchange(**headers: str) -> Exchange:
    return Exchange(
        Request(EnvironBuilder(path="/v1/responses", method="POST", headers=headers).get_environ())
    )


# -- the id ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("sent", ["req_1", "a", "A.b_c:d/e+f=g-h", "x" * 128])
def test_a_clients_id_is_kept(sent: str) -> None:
    assert exchange(**{"X-Request-ID": sent}).id == sent


@pytest.mark.parametrize(
    "sent", ["", "x" * 129, "two words", "é", 'quote"', "a,b", "<script>", "%0a", "a\tb"]
)
def test_one_that_could_spoil_a_log_is_replaced(sent: str) -> None:
    first, second = (exchange(**{"X-Request-ID": sent}).id for _ in range(2))
    assert first != second
    assert first.startswith("req_")
    assert len(first) == 36


@pytest.mark.parametrize(("path", "status"), [("/healthz", 200), ("/nowhere", 404), ("/v1/models", 200)])
def test_every_answer_has_an_id(make: Make, path: str, status: int) -> None:
    response = make().request("GET", path, headers={"X-Request-ID": "req_mine"})
    assert (response.status_code, response.headers["X-Request-ID"]) == (status, "req_mine")


# -- the line -------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [True, False])
def test_a_good_answer_is_told_in_full(make: Make, stream: bool) -> None:
    face = make()
    face.finish(face.ask({"X-Request-ID": "req_mine"}, model="gpt-5", stream=stream, verbosity="x"))
    (line,) = face.lines()
    assert line["request_id"] == "req_mine"
    assert (line["method"], line["path"], line["status"]) == ("POST", "/v1/responses", 200)
    assert (line["dialect"], line["model"], line["upstream_model"]) == (
        "responses",
        "gpt-5",
        "deepseek-flash",
    )
    assert (line["stream"], line["finish"], line["attempts"]) == (stream, "stop", 1)
    assert (line["input_tokens"], line["cached_tokens"]) == (40, 32)
    assert (line["output_tokens"], line["reasoning_tokens"]) == (9, 4)
    assert line["cost_usd"] > 0
    assert line["unknown_fields"] == ["verbosity"]
    assert (line["heartbeats"], line["client_gone"], "error_code" in line) == (0, False, False)
    assert ("first_token_seconds" in line) is stream
    assert face.metric('requests_total{dialect="responses",model="deepseek-flash",status="200"}') == 1
    assert face.metric('tokens_total{kind="cache_hit",model="deepseek-flash"}') == 32


def test_a_stream_is_told_at_its_end_and_once(make: Make) -> None:
    face = make()
    response = face.ask(stream=True)
    assert face.lines() == []
    response.close()
    response.close()
    assert len(face.lines()) == 1


@pytest.mark.parametrize("path", ["/healthz", "/version", "/nowhere"])
def test_what_is_no_work_has_no_line(make: Make, path: str) -> None:
    face = make()
    face.request("GET", path).close()
    assert face.lines() == []


def test_a_refusal_is_told_with_its_code(make: Make, upstream: FakeUpstream) -> None:
    face = make()
    face.ask({"Authorization": ""}).close()
    face.ask(temperature="hot").close()
    face.ask(input=5).close()
    told = [(line["status"], line["error_code"], line["attempts"]) for line in face.lines()]
    assert told == [(401, "invalid_api_key", 0), (400, "invalid_type", 0), (400, "invalid_type", 0)]
    kinds = [line["error_kind"] for line in face.lines()]
    assert kinds == ["unauthenticated", "invalid_request", "invalid_request"]
    assert upstream.requests == []


# -- failures of the upstream ---------------------------------------------------------------------


@pytest.mark.parametrize("stream", [True, False])
def test_a_failed_attempt_is_counted_where_it_was_made(
    make: Make, upstream: FakeUpstream, stream: bool
) -> None:
    upstream.serve(deepseek.refuses(503, deepseek.BUSY), deepseek.answers())
    face = make()
    face.finish(face.ask(stream=stream))
    (line,) = face.lines()
    assert (line["status"], line["attempts"], "error_code" in line) == (200, 2, False)
    assert face.metric('upstream_errors_total{kind="upstream_overloaded"}') == 1
    assert face.metric("retries_total") == 1


@pytest.mark.parametrize("stream", [True, False])
def test_the_last_one_is_not_counted_twice(make: Make, upstream: FakeUpstream, stream: bool) -> None:
    upstream.serve(deepseek.refuses(503, deepseek.BUSY))
    face = make(upstream_attempts=2)
    assert face.finish(face.ask(stream=stream)).status_code == 503
    assert face.lines()[0]["error_code"] == "server_error"
    assert face.metric('upstream_errors_total{kind="upstream_overloaded"}') == 2


def test_a_failure_after_the_answer_began_is_counted_at_its_end(make: Make, upstream: FakeUpstream) -> None:
    def cut(_: object, wire: Any) -> None:
        wire.start_stream()
        wire.chunk(deepseek.opening() + deepseek.text("Hel"))

    upstream.serve(cut)
    face = make()
    face.finish(face.ask(stream=True))
    (line,) = face.lines()
    assert (line["status"], line["error_code"]) == (200, "server_error")
    assert line["error_kind"] == "upstream_truncated"
    assert face.metric('upstream_errors_total{kind="upstream_truncated"}') == 1


@pytest.mark.parametrize(
    ("error", "answered", "counted"),
    [
        (errors.UpstreamTruncated("cut"), True, 1),
        (errors.UpstreamTruncated("cut"), False, 0),
        (errors.InvalidRequest("no"), True, 0),
        (errors.InternalError("bug"), True, 0),
        (None, True, 0),
    ],
)
def test_only_the_upstreams_own_failures_are(
    make: Make, error: errors.ProxyError | None, answered: bool, counted: int
) -> None:
    face, ended = make(), exchange()
    ended.dialect, ended.error, ended.answered = "responses", error, answered
    ended.finish(200, face.gateway.metrics)
    ended.finish(200, face.gateway.metrics)
    assert face.metric("upstream_errors_total") == counted
    assert face.metric('requests_total{dialect="responses",model="none",status="200"}') == 1


# -- tokens ---------------------------------------------------------------------------------------


def test_the_tokens_of_several_answers_add_up() -> None:
    adding = exchange()
    adding.add_usage(None)
    assert adding.usage is None
    adding.add_usage(Usage(10, 8, 3, 1))
    adding.add_usage(Usage(20, 16, 4, 2))
    adding.add_usage(None)
    assert adding.usage == Usage(30, 24, 7, 3)


def test_without_tokens_there_is_no_cost(make: Make, upstream: FakeUpstream) -> None:
    upstream.serve(deepseek.refuses(400, deepseek.INVALID))
    face = make()
    face.ask().close()
    assert "cost_usd" not in face.lines()[0]
