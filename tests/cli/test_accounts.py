"""`deepseek-proxy accounts check`: a table of what each account says of itself."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from harness import deepseek, environments
from harness.accounts import account
from harness.fake_upstream import FakeUpstream
from harness.wire import Request, Wire

from deepseek_proxy.cli import main

MODELS = {"object": "list", "data": [{"id": "deepseek-flash"}, {"id": "deepseek-v4-pro"}]}
BALANCE = {"is_available": True, "balance_infos": [{"currency": "CNY", "total_balance": "110.00"}]}


@pytest.fixture(autouse=True)
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    environments.bare(monkeypatch)
    monkeypatch.setenv("DEEPSEEK_PROXY_STATE_DIR", str(tmp_path))


@pytest.fixture
def upstream() -> Iterator[FakeUpstream]:
    """Accounts by their keys: `good` is, `poor` has no balance, `bad` is refused."""
    server = FakeUpstream()
    server.serve(answer)
    yield server
    server.close()
    assert server.failures == []


def answer(request: Request, wire: Wire) -> None:
    assert request.method == "GET"
    assert request.body == b""
    name = request.headers["authorization"].removeprefix("Bearer sk-")
    if name == "bad":
        wire.respond(401, deepseek.BAD_KEY)
    elif request.path.endswith("/models"):
        wire.respond(200, json.dumps(MODELS).encode())
    else:
        wire.respond(200, json.dumps({**BALANCE, "is_available": name != "poor"}).encode())


def check(folder: Path, url: str, *accounts: object) -> Result:
    path = folder / "config.json"
    path.write_text(json.dumps({"upstream_url": url, "accounts": accounts}))
    return CliRunner().invoke(main, ["accounts", "check", "--config", str(path)])


def test_good_accounts_are_listed(tmp_path: Path, upstream: FakeUpstream) -> None:
    other = account("other", base_url=f"{upstream.url}/host/v1")
    result = check(tmp_path, upstream.url, account("good"), other)
    assert result.output.splitlines() == [
        "account  result  models                           balance",
        "good     ok      deepseek-flash, deepseek-v4-pro  110.00 CNY",
        "other    ok      deepseek-flash, deepseek-v4-pro  -",
    ]
    assert result.exit_code == 0
    paths = sorted(request.path for request in upstream.requests)
    assert paths == ["/host/v1/models", "/models", "/user/balance"]
    assert not (tmp_path / "ledger.db").exists(), "nothing is written"


def test_what_is_wrong_is_said_without_the_key(tmp_path: Path, upstream: FakeUpstream) -> None:
    result = check(tmp_path, upstream.url, account("poor"), account("bad"), account("good"))
    lines = result.output.splitlines()
    assert "not enough balance" in lines[1]
    assert "refused the API key" in lines[2]
    assert "DEEPSEEK_API_KEY" not in lines[2], "the account has a key of its own"
    assert lines[3].startswith("good     ok ")
    assert result.exit_code == 1
    assert "sk-" not in result.output


def test_an_upstream_that_is_not_there(tmp_path: Path) -> None:
    result = check(tmp_path, "http://127.0.0.1:9", account("good"))
    assert "could not be reached" in result.output
    assert result.exit_code == 1


def test_without_accounts_there_is_nothing_to_check(tmp_path: Path) -> None:
    result = check(tmp_path, "http://127.0.0.1:9")
    assert result.exit_code == 1
    assert "accounts is empty" in result.output


def test_a_web_login_is_refused_with_the_way_to_a_key(tmp_path: Path) -> None:
    result = check(tmp_path, "http://127.0.0.1:9", {"email": "me@example.com", "password": "canary"})
    assert result.exit_code == 2
    assert "accounts[0]: logins to DeepSeek's web application" in result.output
    assert "https://platform.deepseek.com/api_keys" in result.output
    assert "canary" not in result.output
