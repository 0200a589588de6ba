"""Pages in browsers: the questions that browsers ask for the official SDKs, and who may read the answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from harness import deepseek
from harness.fake_upstream import FakeUpstream

Make = Callable[..., Any]
"""Of `conftest`."""

PAGE = "https://app.example"
KEY = "the-key-of-alice-01"

# What a browser asks leave for: all that the SDK sets and that is not on the Fetch standard's safe list. It
# writes the names in lower case and in order. openai 7.55.0 and @anthropic-ai/sdk of November 2026.
OPENAI_JS = (
    "authorization,content-type,x-stainless-arch,x-stainless-lang,x-stainless-os,"
    "x-stainless-package-version,x-stainless-retry-count,x-stainless-runtime,"
    "x-stainless-runtime-version,x-stainless-timeout"
)
ANTHROPIC_JS = (
    "anthropic-beta,anthropic-dangerous-direct-browser-access,anthropic-version,content-type,"
    "idempotency-key,x-api-key,x-stainless-arch,x-stainless-helper-method,x-stainless-lang,x-stainless-os,"
    "x-stainless-package-version,x-stainless-retry-count,x-stainless-runtime,"
    "x-stainless-runtime-version,x-stainless-timeout"
)


def ask_leave(face: Any, origin: str = PAGE, names: str = OPENAI_JS, method: str = "POST") -> Any:
    headers = {
        "Origin": origin,
        "Access-Control-Request-Method": method,
        "Access-Control-Request-Headers": names,
    }
    return face.request("OPTIONS", "/v1/responses", headers=headers)


@pytest.fixture
def face(make: Make) -> Any:
    return make(cors_origins=[PAGE], keys=[KEY], deepseek_api_key="sk-own")


@pytest.mark.parametrize("names", [OPENAI_JS, ANTHROPIC_JS, OPENAI_JS.replace(",", ", ")])
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_a_page_of_the_operators_may_send_what_sdks_send(face: Any, names: str, method: str) -> None:
    answer = ask_leave(face, names=names, method=method)
    assert (answer.status_code, answer.get_data()) == (204, b"")
    assert answer.headers["Access-Control-Allow-Origin"] == PAGE
    assert method in answer.headers["Access-Control-Allow-Methods"].split(", ")
    assert answer.headers["Access-Control-Allow-Headers"] == names
    assert answer.headers["Access-Control-Max-Age"] == "7200"
    assert "Access-Control-Allow-Credentials" not in answer.headers
    assert set(answer.headers.getlist("Vary")) == {"Origin", "Access-Control-Request-Headers"}


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "http://app.example", f"{PAGE}.evil.example", "null"]
)
def test_other_pages_may_not(face: Any, origin: str) -> None:
    answer = ask_leave(face, origin)
    assert answer.status_code == 401
    assert not [name for name, _ in answer.headers if name.startswith("Access-Control-")]
    assert answer.headers["Vary"] == "Origin"


@pytest.mark.parametrize("names", ["x" * 5000, "a b", "x-name: value", "naïve"])
def test_what_can_be_no_names_is_not_repeated(face: Any, names: str) -> None:
    answer = ask_leave(face, names=names)
    assert answer.status_code == 204
    assert "Access-Control-Allow-Headers" not in answer.headers


@pytest.mark.parametrize("stream", [False, True])
def test_it_may_read_answers_and_their_headers(face: Any, stream: bool) -> None:
    headers = {"Origin": PAGE, "Authorization": f"Bearer {KEY}"}
    answer = face.finish(face.ask(headers, stream=stream))
    assert answer.status_code == 200
    assert answer.headers["Access-Control-Allow-Origin"] == PAGE
    assert answer.headers["Access-Control-Expose-Headers"] == "*"


def test_it_may_read_why_it_was_refused(face: Any) -> None:
    answer = face.ask({"Origin": PAGE, "Authorization": "Bearer not-a-key-of-anybody"})
    assert (answer.status_code, answer.headers["Access-Control-Allow-Origin"]) == (401, PAGE)


def test_leave_is_asked_without_a_key_and_logged_as_little_as_health(face: Any) -> None:
    ask_leave(face)
    assert face.lines() == []


def test_nobody_may_where_nothing_is_said(make: Make) -> None:
    face = make(keys=[KEY])
    assert ask_leave(face).status_code == 401
    answer = face.finish(face.ask({"Origin": PAGE, "Authorization": f"Bearer {KEY}"}))
    assert answer.status_code == 200
    assert not [name for name, _ in answer.headers if name.startswith(("Access-Control-", "Vary"))]


def test_all_pages_may_where_that_is_said(make: Make) -> None:
    face = make(keys=[KEY], cors_origins="*")
    assert (
        ask_leave(face, "https://any.example").headers["Access-Control-Allow-Origin"] == "https://any.example"
    )


def test_a_page_that_was_named_may_use_the_gateways_key(make: Make, upstream: FakeUpstream) -> None:
    upstream.serve(deepseek.answers())
    face = make(cors_origins=[PAGE], deepseek_api_key="sk-own")
    named = {"Authorization": "", "Origin": PAGE}
    assert face.finish(face.ask(named)).status_code == 200
    assert face.ask({**named, "Origin": "https://evil.example"}).status_code == 403
