"""Putting the parts together: settings from where they are, nothing shared, every answer with an id."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from flask import Flask

from deepseek_proxy.api.gateway import EXTENSION, Gateway
from deepseek_proxy.app import create_app
from deepseek_proxy.ops import logs
from deepseek_proxy.settings import SettingsError, isolated


@pytest.fixture(autouse=True)
def _logs_closed() -> Iterator[None]:
    yield
    logs.close()


def make(folder: Path) -> Flask:
    return create_app(isolated(state_dir=folder, log_stderr="never"))


def gateway_of(app: Flask) -> Gateway:
    gateway: Gateway = app.extensions[EXTENSION]
    return gateway


def test_without_settings_they_come_from_the_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DEEPSEEK_PROXY_STATE_DIR", str(tmp_path))
    monkeypatch.setenv("DEEPSEEK_PROXY_LOG_STDERR", "never")
    monkeypatch.setenv("DEEPSEEK_PROXY_MAX_NESTING", "42")
    assert gateway_of(create_app()).settings.max_nesting == 42


def test_wrong_settings_end_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEEPSEEK_PROXY_MAX_NESTING", "deep")
    with pytest.raises(SettingsError, match="max_nesting"):
        create_app()


def test_two_applications_share_nothing_but_the_sealing_key(tmp_path: Path) -> None:
    one, other = make(tmp_path), make(tmp_path)
    one.test_client().get("/v1/models").close()
    gateway_of(one).reasoning.remember("tenant", "call_1", "hm")
    assert b'models"' in gateway_of(one).metrics.render()[0]
    assert b'models"' not in gateway_of(other).metrics.render()[0]
    assert gateway_of(other).reasoning.recall("tenant", "call_1") is None
    sealed = gateway_of(one).sealer.seal("reasoning", "tenant", b"hm")
    assert gateway_of(other).sealer.open("reasoning", "tenant", sealed) == b"hm"


def test_a_seal_that_does_not_open_is_counted(tmp_path: Path) -> None:
    gateway = gateway_of(make(tmp_path))
    sealed = gateway.sealer.seal("reasoning", "tenant", b"hm")
    before = gateway.metrics.render()[0]
    assert gateway.sealer.open("reasoning", "tenant", sealed) == b"hm"
    assert gateway.metrics.render()[0] == before
    assert gateway.sealer.open("reasoning", "other", sealed) is None
    assert gateway.metrics.render()[0] != before


@pytest.mark.parametrize("path", ["/healthz", "/healthz/", "/v1/models", "/v1/models/"])
def test_a_trailing_slash_makes_no_difference(tmp_path: Path, path: str) -> None:
    assert make(tmp_path).test_client().get(path).status_code == 200


def test_there_are_no_files_to_be_had(tmp_path: Path) -> None:
    app = make(tmp_path)
    assert not app.has_static_folder
    assert app.test_client().get("/static/app.py").status_code == 404


def test_every_answer_has_an_id_of_its_own(tmp_path: Path) -> None:
    client = make(tmp_path).test_client()
    seen = [
        client.get(path).headers["X-Request-ID"]
        for path in ("/healthz", "/v1/models", "/nowhere", "/v1/responses")
    ]
    assert len(set(seen)) == 4


def test_while_it_stops_only_the_operator_is_let_in(tmp_path: Path) -> None:
    app = make(tmp_path)
    gateway_of(app).drain.begin(30)
    client = app.test_client()
    refused = client.post("/v1/responses", json={"input": "hi"})
    assert (refused.status_code, refused.json["error"]["code"]) == (503, "server_error")
    assert int(refused.headers["Retry-After"]) >= 1
    assert client.get("/v1/models").status_code == 503
    assert client.get("/healthz").status_code == 200
