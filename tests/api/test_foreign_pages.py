"""Web pages of strangers: they may not spend the gateway's key, nor read its metrics."""

import pytest
from flask.testing import FlaskClient

from deepseek_proxy.app import create_app
from deepseek_proxy.settings import isolated


@pytest.fixture
def client(tmp_path) -> FlaskClient:  # type: ignore[no-untyped-def]
    settings = isolated(
        deepseek_api_key="sk-canary",
        upstream_url="http://127.0.0.1:9",
        state_dir=tmp_path,
        upstream_attempts=1,
    )
    return create_app(settings).test_client()


BODY = {"model": "deepseek-flash", "input": "hi"}


@pytest.mark.parametrize("origin", ["http://evil.example:8787", "https://127.0.0.1.evil.example", "null"])
def test_a_foreign_page_may_not_use_the_own_key(client: FlaskClient, origin: str) -> None:
    refused = client.post("/v1/responses", json=BODY, headers={"Origin": origin})
    assert refused.status_code == 403
    assert "another site" in refused.json["error"]["message"]  # type: ignore[index]


@pytest.mark.parametrize(
    "headers", [{}, {"Origin": "http://localhost:3000"}, {"Origin": "http://127.0.0.1:1"}]
)
def test_programs_and_pages_of_this_machine_may(client: FlaskClient, headers: dict[str, str]) -> None:
    assert client.post("/v1/responses", json=BODY, headers=headers).status_code == 502  # it was tried


def test_a_foreign_page_may_bring_a_key(client: FlaskClient) -> None:
    headers = {"Origin": "https://page.example", "Authorization": "Bearer sk-of-the-user"}
    assert client.post("/v1/responses", json=BODY, headers=headers).status_code == 502


def test_metrics_are_not_for_a_name_that_was_made_to_point_here(client: FlaskClient) -> None:
    assert client.get("/metrics", headers={"Host": "localhost:8787"}).status_code == 200
    assert client.get("/metrics", headers={"Host": "evil.example"}).status_code == 403
