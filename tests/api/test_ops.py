"""The operator's routes: who may read the metrics, and that the admin key goes nowhere else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from deepseek_proxy.app import create_app
from deepseek_proxy.ops import logs
from deepseek_proxy.settings import isolated
from deepseek_proxy.version import __version__

ADMIN_KEY = "0123456789abcdef0123"
STRANGER = "203.0.113.7"


def make(folder: Path, **settings: Any) -> Flask:
    return create_app(isolated(state_dir=folder, log_stderr="never", **settings))


@pytest.fixture
def app(tmp_path):
    yield make(tmp_path, admin_key=ADMIN_KEY)
    logs.close()


def get(client: FlaskClient, address: str, **headers: str) -> int:
    return client.get("/metrics", environ_overrides={"REMOTE_ADDR": address}, headers=headers).status_code


@pytest.mark.parametrize("address", ["127.0.0.1", "127.8.8.8", "::1"])
def test_metrics_need_no_key_on_this_machine(app, address):
    response = app.test_client().get("/metrics", environ_overrides={"REMOTE_ADDR": address})
    assert response.status_code == 200
    assert response.content_type.startswith("text/plain; version=")
    assert b"deepseek_proxy_open_streams 0.0" in response.data


@pytest.mark.parametrize("address", [STRANGER, "10.0.0.2", "2001:db8::1", "", "not-an-address"])
def test_metrics_are_refused_to_strangers(app, address):
    assert get(app.test_client(), address) == 403


@pytest.mark.parametrize("forwarded", [{"X-Forwarded-For": "127.0.0.1"}, {"Forwarded": "for=127.0.0.1"}])
def test_metrics_are_refused_to_strangers_whom_a_proxy_of_this_machine_passes_on(app, forwarded):
    assert get(app.test_client(), "127.0.0.1", **forwarded) == 403


@pytest.mark.parametrize("address", [STRANGER, ""])
def test_the_admin_key_opens_them_to_everybody(app, address):
    client = app.test_client()
    assert get(client, address, Authorization=f"Bearer {ADMIN_KEY}") == 200
    assert get(client, address, Authorization=f"bearer  {ADMIN_KEY} ") == 200
    for wrong in (
        f"Bearer {ADMIN_KEY}x",
        f"Bearer {ADMIN_KEY[:-1]}",
        f"Basic {ADMIN_KEY}",
        ADMIN_KEY,
        "Bearer ",
        "é",
    ):
        assert get(client, address, Authorization=wrong) == 403, wrong


@pytest.mark.parametrize("sent", ["Bearer ", "Bearer None", ""])
def test_where_no_admin_key_is_set_no_key_opens_them(tmp_path, sent):
    assert get(make(tmp_path).test_client(), STRANGER, Authorization=sent) == 403
    logs.close()


def test_the_refusal_says_what_opens_them(app):
    response = app.test_client().get("/metrics", environ_overrides={"REMOTE_ADDR": STRANGER})
    assert response.json["error"]["code"] == "permission_denied"
    assert "admin key" in response.json["error"]["message"]


def test_the_admin_key_is_never_sent_to_deepseek(app):
    response = app.test_client().post(
        "/v1/responses", json={"input": "hi"}, headers={"Authorization": f"Bearer {ADMIN_KEY}"}
    )
    assert response.status_code == 401
    assert "never sent to DeepSeek" in response.json["error"]["message"]
    assert ADMIN_KEY not in response.text


def test_health_readiness_and_version_are_for_everybody(app):
    client = app.test_client()
    answers = {
        path: client.get(path, environ_overrides={"REMOTE_ADDR": STRANGER})
        for path in ("/healthz", "/readyz", "/version")
    }
    assert [answer.json for answer in answers.values()] == [
        {"status": "ok"},
        {"status": "ready"},
        {"name": "deepseek-proxy", "version": __version__},
    ]


def test_readiness_ends_with_the_order_to_stop_and_health_does_not(app):
    app.extensions["deepseek_proxy"].drain.begin(30)
    client = app.test_client()
    assert client.get("/readyz").status_code == 503
    assert client.get("/healthz").status_code == 200
    assert get(client, "127.0.0.1") == 200


ACCOUNTS = [{"name": "a", "api_key": "sk-canary", "base_url": "http://127.0.0.1:9"}]


def test_accounts_are_shown_to_those_who_may_see_the_metrics(tmp_path):
    client = make(tmp_path, admin_key=ADMIN_KEY, accounts=ACCOUNTS).test_client()
    stranger = {"REMOTE_ADDR": STRANGER}
    assert client.get("/admin/accounts", environ_overrides=stranger).status_code == 403
    key = {"Authorization": f"Bearer {ADMIN_KEY}"}
    response = client.get("/admin/accounts", environ_overrides=stranger, headers=key)
    assert response.status_code == 200
    assert [entry["name"] for entry in response.json["accounts"]] == ["a"]
    assert b"canary" not in response.data
    assert client.get("/admin/accounts").status_code == 200
    logs.close()


def test_without_accounts_there_is_no_page_of_them(tmp_path):
    assert make(tmp_path).test_client().get("/admin/accounts").status_code == 404
    logs.close()


def test_the_metrics_have_the_accounts(tmp_path):
    client = make(tmp_path, accounts=ACCOUNTS).test_client()
    text = client.get("/metrics").get_data(as_text=True)
    assert 'deepseek_proxy_account_out{account="a",reason="none"} 0.0' in text
    assert 'deepseek_proxy_account_requests_limit{group="a",model="deepseek-flash"} 2500.0' in text
    assert text.count("# TYPE deepseek_proxy_account_out gauge") == 1
    logs.close()


def test_metrics_without_a_ledger_are_metrics_all_the_same(tmp_path):
    (tmp_path / "ledger.db").write_bytes(b"no database" * 100)
    client = make(tmp_path, accounts=ACCOUNTS).test_client()
    response = client.get("/metrics")
    assert response.status_code == 200
    assert b"deepseek_proxy_account_out" not in response.data
    assert client.get("/admin/accounts").status_code == 503
    logs.close()
