"""`POST /v1/alpha/search`: Codex's standalone search over HTTP."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from harness import deepseek
from harness.fake_upstream import FakeUpstream
from harness.searching import searches

from deepseek_proxy import models

Make = Callable[..., Any]
"""Of `conftest`."""

KEY = "sk-client-0123456789"
COMMANDS = {"search_query": [{"q": "sky"}], "open": [{"ref_id": "https://example.com/sky"}]}


@pytest.fixture
def face(make: Make, upstream: FakeUpstream) -> Any:
    upstream.serve(searches())
    return make(web_search="deepseek")


@pytest.mark.parametrize("path", ["/v1/alpha/search", "/alpha/search"])
def test_commands_are_answered_with_a_text(face: Any, upstream: FakeUpstream, path: str) -> None:
    body = json.dumps({"id": "x", "model": "m", "input": [], "commands": COMMANDS})  # in this order
    response = face.request("POST", path, data=body, headers={"Authorization": f"Bearer {KEY}"})
    assert (response.status_code, response.mimetype) == (200, "application/json")
    assert response.json == {
        "output": "## Search: sky\n\nSky\nhttps://example.com/sky (2026-11-01)\nBlue.\n\n"
        "## Page https://example.com/sky\n\n(Lines 1 to 1 of 1.)\nBlue."
    }
    response.close()
    (line,) = face.lines()
    assert (line["searches"], line["cost_usd"]) == (2, 2 * models.SEARCH_USD)
    assert sorted(request.path for request in upstream.requests) == ["/v1/tools/fetch", "/v1/tools/search"]


def test_where_it_is_off_there_is_no_such_route(make: Make, upstream: FakeUpstream) -> None:
    refused = make().ask(path="/v1/alpha/search", commands=COMMANDS)
    assert (refused.status_code, refused.json["error"]["code"]) == (404, "not_found")
    assert "Web search is off" in refused.json["error"]["message"]
    assert upstream.requests == []


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [(401, deepseek.BAD_KEY, 401), (402, deepseek.NO_BALANCE, 429)],
)
def test_money_is_no_text(face: Any, upstream: FakeUpstream, status: int, body: bytes, expected: int) -> None:
    upstream.serve(searches(deepseek.refuses(status, body)))
    assert face.ask(path="/v1/alpha/search", commands=COMMANDS).status_code == expected


def test_a_failed_search_is_a_text(face: Any, upstream: FakeUpstream) -> None:
    upstream.serve(searches(deepseek.refuses(500, b"")))
    response = face.ask(path="/v1/alpha/search", commands=COMMANDS)
    assert response.status_code == 200
    assert response.json["output"].count("the search service does not answer") == 2


def test_a_wrong_request_names_its_field(face: Any) -> None:
    refused = face.ask(path="/v1/alpha/search", commands={"open": [{}]})
    assert (refused.status_code, refused.json["error"]["param"]) == (400, "commands.open[0].ref_id")


def test_as_much_at_once_as_in_an_answer(make: Make, upstream: FakeUpstream) -> None:
    upstream.serve(searches())
    face = make(web_search="deepseek", web_search_calls=1)
    assert face.ask(path="/v1/alpha/search", commands=COMMANDS).json["output"].endswith("Too much at once.")
    assert len(upstream.requests) == 1
