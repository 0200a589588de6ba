"""That no route is open to strangers where clients have keys, and that a mistyped key is sent nowhere."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from harness.fake_upstream import FakeUpstream

Make = Callable[..., Any]
"""Of `conftest`."""

KEY = "the-key-of-alice-01"
OPEN = {"/healthz", "/readyz", "/version", "/metrics", "/admin/accounts"}


@pytest.fixture
def face(make: Make) -> Any:
    return make(keys=[{"key": KEY, "name": "alice"}], deepseek_api_key="sk-own")


@pytest.mark.parametrize("sent", [None, f"Bearer {KEY}x", "Bearer gateway", "Bearer sk-0123456789abcdef"])
def test_every_route_but_the_operators_wants_a_key(
    face: Any, upstream: FakeUpstream, sent: str | None
) -> None:
    headers = {"Authorization": sent} if sent is not None else {}
    asked = 0
    for rule in face.app.url_map.iter_rules():
        path = re.sub("<[^>]+>", "name", rule.rule)
        if path in OPEN or rule.websocket:
            continue
        for method in rule.methods - {"HEAD"}:
            answer = face.request(
                method, path, headers=headers, json={"model": "deepseek-flash", "input": "hi"}
            )
            assert answer.status_code == 401, f"{method} {path}"
            assert answer.json["error"]["type"] == "authentication_error"
            asked += 1
    assert asked > 10
    assert upstream.connections == 0


def test_the_operators_routes_have_rules_of_their_own(face: Any) -> None:
    for path in OPEN:
        # There are no accounts here, and even that is told without a key.
        assert face.request("GET", path).status_code == (404 if path == "/admin/accounts" else 200)


def test_an_address_that_is_none_is_not_told_to_strangers(face: Any) -> None:
    assert face.request("GET", "/v1/none").status_code == 401
    assert face.request("GET", "/v1/none", headers={"x-api-key": KEY}).status_code == 404


def test_a_refusal_is_logged_without_a_name(face: Any) -> None:
    face.finish(face.ask({"Authorization": f"Bearer {KEY}x"}))
    face.finish(face.ask({"Authorization": f"Bearer {KEY}"}))
    refused, answered = face.lines()
    assert (refused["status"], refused["error_code"]) == (401, "invalid_api_key")
    assert "client" not in refused
    assert answered["client"] == "alice"
    assert face.metric('requests_total{dialect="responses",model="none",status="401"}') == 1


def test_without_keys_the_lists_of_models_are_for_everybody(make: Make) -> None:
    assert make(deepseek_api_key="sk-own").request("GET", "/v1/models").status_code == 200
