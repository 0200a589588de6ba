"""Failures before the first byte: an HTTP status for everybody, `response.failed` for Codex."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Never

import pytest
from flask import Flask
from harness.machines import judged
from werkzeug.test import TestResponse

from deepseek_proxy.api.gateway import EXTENSION
from deepseek_proxy.app import create_app
from deepseek_proxy.ops import logs
from deepseek_proxy.settings import isolated

CODEX = {"Originator": "codex_exec"}
KEY = {"Authorization": "Bearer sk-client"}
BODY = {"model": "deepseek-flash", "input": "hi", "stream": True}


@pytest.fixture
def app(tmp_path: Path) -> Iterator[Flask]:
    settings = isolated(
        state_dir=tmp_path, log_stderr="never", unknown_models="reject", max_body_bytes=2000, max_nesting=20
    )
    yield create_app(settings)
    logs.close()


def post(app: Flask, headers: Mapping[str, str], path: str = "/v1/responses", **sent: Any) -> TestResponse:
    return app.test_client().post(path, headers=headers, **sent or {"json": BODY})


def failure(response: TestResponse) -> Mapping[str, Any]:
    """The error in a whole, good stream that holds nothing else."""
    assert response.status_code == 200
    assert response.mimetype == "text/event-stream"
    final = judged(response.data)
    assert (final["status"], final["output"]) == ("failed", [])
    error: Mapping[str, Any] = final["error"]
    return error


# What is sent, with a key or without -> the status, and words of the message.
CLIENTS_FAULTS: dict[str, tuple[Mapping[str, str], Mapping[str, Any], int, str]] = {
    "no key": ({}, {"json": BODY}, 401, "No DeepSeek API key"),
    "no key that can be": ({"Authorization": "Bearer a b"}, {"json": BODY}, 401, "is not one"),
    "no JSON": (KEY, {"data": "{", "content_type": "application/json"}, 400, "JSON"),
    "no object": (KEY, {"json": []}, 400, "expected a JSON object"),
    "a wrong type": (KEY, {"json": {**BODY, "input": [{"role": 5}]}}, 400, "input[0].role"),
    "nothing to answer": (KEY, {"json": {"model": "deepseek-flash"}}, 400, "'input'"),
    "an unknown model": (KEY, {"json": {**BODY, "model": "gpt-6"}}, 404, "'gpt-6' does not exist"),
    "too much": (KEY, {"json": {**BODY, "input": "x" * 3000}}, 413, "larger than 2000 bytes"),
    "an unknown encoding": (KEY | {"Content-Encoding": "br"}, {"json": BODY}, 415, "'br'"),
    "something stored": (KEY, {"json": {**BODY, "previous_response_id": "resp_1"}}, 400, "resp_1"),
}


@pytest.mark.parametrize("fault", CLIENTS_FAULTS)
def test_codex_is_told_of_its_own_faults_in_the_one_form_in_which_it_stops(app: Flask, fault: str) -> None:
    headers, sent, status, words = CLIENTS_FAULTS[fault]
    plain = post(app, headers, **sent)
    assert plain.status_code == status
    assert words in plain.json["error"]["message"]
    error = failure(post(app, headers | CODEX, **sent))
    assert error == {"code": "invalid_prompt", "message": plain.json["error"]["message"]}


def test_while_the_gateway_stops_codex_is_asked_to_come_again(app: Flask) -> None:
    app.extensions[EXTENSION].drain.begin(30)
    assert post(app, KEY).status_code == 503
    assert failure(post(app, KEY | CODEX))["code"] == "server_error"


class Broken:
    """A client of DeepSeek's that has a bug."""

    def open(self, *_: object, **__: object) -> Never:
        raise ZeroDivisionError


def test_a_bug_is_told_and_its_traceback_logged(app: Flask, caplog: pytest.LogCaptureFixture) -> None:
    app.extensions[EXTENSION] = replace(app.extensions[EXTENSION], client=Broken())
    plain = post(app, KEY | {"X-Request-ID": "plain"})
    assert plain.status_code == 500
    assert "its log has the reason under plain" in plain.json["error"]["message"]
    error = failure(post(app, KEY | CODEX | {"X-Request-ID": "for-codex"}))
    assert error["code"] == "server_error"
    assert "its log has the reason under for-codex" in error["message"]
    tracebacks = [record for record in caplog.records if record.exc_info]
    assert [record.levelno for record in tracebacks] == [logging.ERROR] * 2
    assert [record.exc_info[0] for record in tracebacks] == [ZeroDivisionError] * 2


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/v1/responses/compact", 401),
        ("GET", "/v1/models/nothing", 404),
        ("GET", "/v1/responses", 405),
        ("GET", "/v1/nothing", 404),
    ],
)
def test_answers_that_are_no_streams_fail_by_status_for_codex_too(
    app: Flask, method: str, path: str, status: int
) -> None:
    response = app.test_client().open(path, method=method, headers=CODEX, json={})
    assert response.status_code == status
    assert response.json["error"]["message"]
