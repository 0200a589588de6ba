from __future__ import annotations

from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

KEY = {"Authorization": "Bearer sk-simulator-test-0001"}


def post(client: FlaskClient, path: str, body: Any, key: dict[str, str] = KEY) -> TestResponse:
    return client.post(f"/v1/tools/{path}", json=body, headers=key)


def test_results(client: FlaskClient) -> None:
    body = post(client, "search", {"query": "deep seas", "count": 2}).get_json()
    first, second = body["results"]
    assert first.keys() == {
        *("title", "url", "snippet", "summary", "content", "site_name", "site_icon", "date"),
        *("rerank_score", "authority"),
    }
    assert "deep seas" in first["summary"]
    assert first["content"] == ""
    assert first["url"] != second["url"]
    assert post(client, "search", {"query": "deep seas", "count": 2}).get_json() == body


def test_results_with_content_can_be_fetched(client: FlaskClient) -> None:
    body = post(client, "search", {"query": "deep seas", "need_content": True, "unknown": 1}).get_json()
    url = body["results"][0]["url"]
    assert url in body["results"][0]["content"]
    page = post(client, "fetch", {"url": url}).get_json()
    assert page.keys() == {"title", "content"}
    assert url in page["content"]


@pytest.mark.parametrize(
    ("path", "body", "status", "message"),
    [
        ("search", {}, 400, "missing field 'query'"),
        ("search", {"query": " "}, 400, "'query' must be a string of 1 to 128 characters"),
        ("search", {"query": "x" * 129}, 400, "'query' must be"),
        ("search", {"query": "x", "count": 51}, 400, "'count' must be between 1 and 50"),
        ("search", [], 422, "expected a JSON object"),
        ("fetch", {}, 400, "missing field 'url'"),
        ("fetch", {"url": "ftp://example.com"}, 400, "'url' must be a valid HTTP or HTTPS URL"),
        ("fetch", {"url": "http://me:secret@example.com"}, 400, "'url' must be a valid HTTP or HTTPS URL"),
        ("fetch", {"url": "http://unreachable.example/x"}, 404, "failed to fetch URL"),
    ],
)
def test_refusals(path: str, body: Any, status: int, message: str, client: FlaskClient) -> None:
    answer = post(client, path, body)
    assert answer.status_code == status
    assert message in answer.get_json()["error"]["message"]


def test_it_costs_money(client: FlaskClient) -> None:
    assert post(client, "search", {"query": "x"}, {}).status_code == 401
    broke = {"Authorization": "Bearer sk-simulator-broke"}
    assert post(client, "search", {"query": "x"}, broke).status_code == 402
    assert post(client, "fetch", {"url": "http://x"}, broke).status_code == 402
