"""`deepseek-proxy check` finds each thing that can be wrong, and says what to do."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from click.testing import CliRunner
from harness import environments, redis_server
from harness.certificates import self_signed
from harness.fake_upstream import FakeUpstream
from harness.wire import Request, Wire

from deepseek_proxy.cli import main
from deepseek_proxy.cli.check import Finding, examine
from deepseek_proxy.simulator import running
from deepseek_proxy.store.base import Limits, NewResponse
from deepseek_proxy.store.sqlite import SqliteBackend
from deepseek_proxy.store.store import Store
from deepseek_proxy.version import __version__

KEY = "sk-canary-0123456789"


@pytest.fixture(autouse=True)
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A complete set-up whose upstream is missing."""
    environments.bare(monkeypatch)
    monkeypatch.setenv("DEEPSEEK_API_KEY", KEY)
    monkeypatch.setenv("DEEPSEEK_PROXY_UPSTREAM_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("DEEPSEEK_PROXY_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("DEEPSEEK_PROXY_PORT", "0")
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # no call may use it


@pytest.fixture
def upstream(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeUpstream]:
    server = FakeUpstream()
    monkeypatch.setenv("DEEPSEEK_PROXY_UPSTREAM_URL", server.url)
    yield server
    server.close()
    assert server.failures == []


def findings(subject: str) -> list[Finding]:
    return [finding for finding in examine(None) if finding.subject == subject]


def answering(status: int, body: object, headers: dict[str, str] | None = None) -> object:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()

    def handler(_: Request, wire: Wire) -> None:
        wire.respond(status, data, headers)

    return handler


def test_all_is_well(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DEEPSEEK_PROXY_LOG_DIR", str(tmp_path / "logs" / "deep"))
    with running() as url:
        monkeypatch.setenv("DEEPSEEK_PROXY_UPSTREAM_URL", url)
        result = CliRunner().invoke(main, ["check"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert all(line.startswith("ok ") for line in lines)
    assert [line.split()[1] for line in lines] == [
        *("version", "version", "settings", "key", "upstream", "balance", "port", "state", "store", "logs")
    ]
    assert f"deepseek-proxy {__version__}, Python 3." in lines[0]
    assert "deepseek-flash, deepseek-v4-pro" in lines[4]
    assert "110.00 CNY" in lines[5]
    assert KEY not in result.output
    assert not (tmp_path / "state").exists()  # it only looks
    assert not (tmp_path / "logs").exists()


def test_a_failure_is_exit_code_1_and_says_what_to_do() -> None:
    result = CliRunner().invoke(main, ["check"], catch_exceptions=False)
    assert result.exit_code == 1
    assert "fail  upstream  http://127.0.0.1:9 cannot be reached: " in result.output
    assert "                check the network, upstream_url, and upstream_proxy" in result.output


def test_wrong_settings_are_all_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEEPSEEK_PROXY_WORKERS", "0")
    monkeypatch.setenv("DEEPSEEK_PROXY_LOG_LEVEL", "loud")
    found = findings("settings")
    assert [finding.level for finding in found] == ["fail", "fail"]
    assert [bool(finding.advice) for finding in found] == [False, True]


def test_a_variable_that_is_no_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEEPSEEK_PROXY_WORKER", "4")
    note, _ = findings("settings")
    assert (note.level, note.detail) == ("note", "DEEPSEEK_PROXY_WORKER is no setting")


def test_who_has_a_key(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert findings("clients") == []
    monkeypatch.setenv("DEEPSEEK_PROXY_KEYS_FILE", str(tmp_path / "keys.json"))
    (nobody,) = findings("clients")
    assert (nobody.level, nobody.detail) == ("note", "nobody has a key")
    (key,) = findings("key")
    assert (key.level, key.detail) == ("ok", "configured; used for all clients")
    monkeypatch.setenv("DEEPSEEK_PROXY_KEYS", "the-key-of-alice-01,the-key-of-bob-0001")
    (two,) = findings("clients")
    assert (two.level, two.detail) == ("ok", "2 with a key; everybody else is refused")


def test_no_key_is_no_failure(monkeypatch: pytest.MonkeyPatch, upstream: FakeUpstream) -> None:
    monkeypatch.delenv("DEEPSEEK_API_KEY")
    upstream.serve(answering(401, {"error": {"message": "no key"}}))
    (key,) = findings("key")
    (answer,) = findings("upstream")
    assert (key.level, answer.level) == ("note", "ok")
    assert "Authorization" not in upstream.requests[0].headers


def test_a_key_that_is_refused(upstream: FakeUpstream) -> None:
    upstream.serve(answering(401, {"error": {"message": "Authentication Fails"}}))
    (found,) = findings("upstream")
    assert found.level == "fail"
    assert "refuses the configured key" in found.detail
    assert "https://platform.deepseek.com/api_keys" in found.advice


def test_an_account_without_balance(upstream: FakeUpstream) -> None:
    models = answering(200, {"data": [{"id": "deepseek-flash"}]})
    amounts = [{"currency": "USD", "total_balance": "0.00"}]
    upstream.serve(models, answering(200, {"is_available": False, "balance_infos": amounts}))
    (found,) = findings("balance")
    assert (found.level, found.detail) == ("fail", "0.00 USD: not enough for a call")


def test_a_host_that_knows_no_balance(upstream: FakeUpstream) -> None:
    upstream.serve(answering(200, {"data": []}), answering(404, b"not here"))
    assert findings("balance") == []


@pytest.mark.parametrize(
    ("status", "body"),
    [(200, b"<html>hello</html>"), (404, b"{}"), (500, b""), (200, b"[]"), (200, b'{"data": 1}')],
)
def test_something_else_answers(upstream: FakeUpstream, status: int, body: bytes) -> None:
    upstream.serve(answering(status, body))
    (found,) = findings("upstream")
    assert found.level == "fail"
    assert f"/models answers {status}" in found.detail


def test_a_redirect_is_not_followed(upstream: FakeUpstream) -> None:
    """It would take the key to another host."""
    upstream.serve(answering(302, b"", {"Location": f"{upstream.url}/elsewhere"}))
    (found,) = findings("upstream")
    assert found.level == "fail"
    assert [request.path for request in upstream.requests] == ["/models"]


def test_something_that_is_not_http(upstream: FakeUpstream) -> None:
    def handler(_: Request, wire: Wire) -> None:
        wire.send(b"SSH-2.0-OpenSSH\r\n")
        wire.close()

    upstream.serve(handler)
    (found,) = findings("upstream")
    assert found.level == "fail"


def test_a_certificate_that_nobody_trusts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trusted, context = self_signed(tmp_path, "inside")
    server = FakeUpstream(context)
    server.serve(answering(200, {"data": []}))
    try:
        monkeypatch.setenv("DEEPSEEK_PROXY_UPSTREAM_URL", server.url)
        (found,) = findings("upstream")
        assert found.level == "fail"
        assert "upstream_ca_file" in found.advice
        monkeypatch.setenv("DEEPSEEK_PROXY_UPSTREAM_CA_FILE", str(trusted))
        (found,) = findings("upstream")
        assert found.level == "ok"
    finally:
        server.close()


def test_the_proxy_of_the_gateway_is_used(monkeypatch: pytest.MonkeyPatch, upstream: FakeUpstream) -> None:
    upstream.serve(answering(200, {"data": []}))
    monkeypatch.setenv("DEEPSEEK_PROXY_UPSTREAM_URL", "http://deepseek.invalid/base")
    monkeypatch.setenv("DEEPSEEK_PROXY_UPSTREAM_PROXY", f"http://user:word@127.0.0.1:{upstream.port}")
    (found,) = findings("upstream")
    assert found.level == "ok", found
    assert upstream.requests[0].path == "http://deepseek.invalid/base/models"


def test_a_port_that_another_program_has(monkeypatch: pytest.MonkeyPatch, upstream: FakeUpstream) -> None:
    upstream.serve(answering(404, b"not here"))
    monkeypatch.setenv("DEEPSEEK_PROXY_PORT", str(upstream.port))
    (found,) = findings("port")
    assert found.level == "fail"
    assert f"port {upstream.port} on 127.0.0.1 is taken" in found.detail


def test_a_port_that_the_gateway_itself_has(monkeypatch: pytest.MonkeyPatch, upstream: FakeUpstream) -> None:
    upstream.serve(answering(200, {"name": "deepseek-proxy", "version": "9.9"}))
    monkeypatch.setenv("DEEPSEEK_PROXY_PORT", str(upstream.port))
    (found,) = findings("port")
    assert (found.level, found.detail) == ("ok", f"deepseek-proxy 9.9 is serving at {upstream.url}")


def test_a_folder_that_cannot_be_made(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("DEEPSEEK_PROXY_LOG_DIR", str(tmp_path / "file" / "logs"))
    (found,) = findings("logs")
    assert found.level == "fail"
    assert "DEEPSEEK_PROXY_LOG_DIR" in found.advice


def test_the_sealing_key_that_is_there_is_opened(tmp_path: Path) -> None:
    path = tmp_path / "state" / "seal.key"
    path.parent.mkdir()
    path.write_bytes(base64.b64encode(bytes(32)))
    path.chmod(0o600)
    assert findings("sealing") == [Finding("ok", "sealing", f"1 key from {path.parent}")]
    path.write_bytes(b"short")
    (found,) = findings("sealing")
    assert found.level == "fail"


def test_a_library_that_is_too_old(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.metadata.version", lambda name: "0.1" if name == "flask" else "9999")
    old = [finding for finding in findings("version") if finding.level == "fail"]
    assert [finding.detail.split()[:2] for finding in old] == [["flask", "0.1"]]
    assert old[0].advice.startswith("pip install 'flask>=")


def test_a_store_that_will_be_made_is_not_made_by_looking(tmp_path: Path) -> None:
    (finding,) = findings("store")
    assert finding.level == "ok"
    assert not (tmp_path / "state").exists()


def test_a_store_says_what_it_holds(tmp_path: Path) -> None:
    store = Store(SqliteBackend(tmp_path / "state" / "store.db", Limits(1 << 30, 1 << 30)))
    store.begin(NewResponse("resp_1", "ann", 1, "in_progress", b"{}"))
    store.close()
    (finding,) = findings("store")
    assert finding.level == "ok"
    assert "1 responses" in finding.detail


def test_a_store_that_is_no_store_is_found(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "store.db").write_bytes(b"somebody's letter " * 100)
    (finding,) = findings("store")
    assert (finding.level, "not a database" in finding.detail) == ("fail", True)


def test_a_redis_that_is_down_or_set_up_wrong_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEEPSEEK_PROXY_STORE_URL", "redis://:canary@127.0.0.1:9/0")
    (finding,) = findings("store")
    assert finding.level == "fail"
    assert "canary" not in finding.detail
    with redis_server.running() as url, redis.Redis.from_url(url) as operator:
        monkeypatch.setenv("DEEPSEEK_PROXY_STORE_URL", url)
        assert [finding.level for finding in findings("store")] == ["ok"]
        operator.config_set("maxmemory-policy", "allkeys-lru")
        assert [finding.level for finding in findings("store")] == ["ok", "note"]


def test_no_store_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DEEPSEEK_PROXY_STORE_URL", "off")
    assert [(finding.level, finding.detail) for finding in findings("store")] == [("ok", "nothing is stored")]
    (tmp_path / "file").touch()
    monkeypatch.setenv("DEEPSEEK_PROXY_STORE_URL", f"sqlite:{tmp_path}/file/store.db")
    (finding,) = findings("store")
    assert finding.level == "fail"
    assert "cannot be written to" in finding.detail


def test_accounts_have_a_check_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEEPSEEK_PROXY_ACCOUNTS", f'["{KEY}", "sk-other"]')
    (found,) = findings("key")
    assert (found.level, found.detail) == ("note", "2 accounts; deepseek_api_key is not used beside them")
    assert found.advice == "deepseek-proxy accounts check asks each"
    monkeypatch.delenv("DEEPSEEK_API_KEY")
    (found,) = findings("key")
    assert (found.level, found.detail) == ("ok", "2 accounts")
