"""`deepseek-proxy serve`: what is checked before the server starts, and the server itself."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import click
import pytest

from deepseek_proxy.api.auth import PLACEHOLDER_KEY
from deepseek_proxy.cli.options import url_of
from deepseek_proxy.cli.serve import free_port, greeting
from deepseek_proxy.settings import isolated
from deepseek_proxy.simulator import running
from deepseek_proxy.version import __version__

COMMAND = [sys.executable, "-m", "deepseek_proxy"]


def environment(folder: Path, **variables: str) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "HOME": str(folder), **variables}


def test_a_taken_port_is_one_clear_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        ended = subprocess.run(
            [*COMMAND, "serve", "--port", str(port)],
            env=environment(tmp_path),
            capture_output=True,
            text=True,
            check=False,
        )
    assert ended.returncode == 1
    assert ended.stdout == ""
    assert ended.stderr.splitlines() == [
        f"Error: port {port} on 127.0.0.1 is taken; "
        "stop the program that has it, or choose another with --port"
    ]


def test_all_wrong_settings_are_named_with_exit_code_2(tmp_path: Path) -> None:
    ended = subprocess.run(
        [*COMMAND, "serve", "--workers", "0", "--upstream", "nonsense"],
        env=environment(
            tmp_path,
            DEEPSEEK_PROXY_LOG_LEVEL="loud",
            DEEPSEEK_API_KEY="sk-canary here",
            DEEPSEEK_PROXY_STORE_URL="mysql://canary",
        ),
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 2
    for name in ("workers", "upstream_url", "log_level (DEEPSEEK_PROXY", "deepseek_api_key", "store_url"):
        assert f"\n  {name}" in ended.stderr
    assert "canary" not in ended.stderr
    assert "Traceback" not in ended.stderr


def test_the_own_key_is_not_served_to_the_network(tmp_path: Path) -> None:
    ended = subprocess.run(
        [*COMMAND, "serve", "--host", "0.0.0.0"],
        env=environment(tmp_path, DEEPSEEK_API_KEY="sk-canary"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 2
    assert "DEEPSEEK_PROXY_ALLOW_REMOTE=true" in ended.stderr


def test_port_0_takes_a_free_one() -> None:
    port = free_port("127.0.0.1", 0)
    assert free_port("127.0.0.1", port) == port


def test_an_address_of_another_machine() -> None:
    with pytest.raises(click.ClickException, match=r"cannot listen on 192\.0\.2\.1, port 0: "):
        free_port("192.0.2.1", 0)


def test_addresses_as_people_write_them() -> None:
    assert url_of("127.0.0.1", 1) == "http://127.0.0.1:1"
    assert url_of("0.0.0.0", 1) == "http://127.0.0.1:1"
    assert url_of("::", 1) == "http://[::1]:1"


def test_the_greeting_for_clients_with_keys() -> None:
    settings = isolated(deepseek_api_key="sk-canary", keys=["a-key-of-a-client-canary"])
    text = click.unstyle(greeting(settings, "http://127.0.0.1:8787"))
    assert "for clients with keys" in text
    assert 'env_key = "GATEWAY_KEY"' in text
    assert "canary" not in text
    assert PLACEHOLDER_KEY + '"' not in text


@pytest.mark.parametrize("key", [None, "sk-canary"])
def test_the_greeting_says_who_pays_and_what_to_paste(key: str | None) -> None:
    text = click.unstyle(greeting(isolated(deepseek_api_key=key), "http://127.0.0.1:8787"))
    head, advice, *lines = text.splitlines()
    assert "deepseek-proxy setup codex" in advice
    assert "https://api.deepseek.com " in head
    assert ("its own DeepSeek key" if key else "each client sends") in head
    assert "canary" not in text
    assert len(lines) == (1 if key else 2)
    # What Codex reads behind -c is TOML.
    (assigned,) = re.findall(r"-c '([^']+)'", lines[-1])
    provider = tomllib.loads(assigned)["model_providers"]["deepseek"]
    assert provider.pop("env_key", None) == (None if key else "DEEPSEEK_API_KEY")
    placeholder = {"experimental_bearer_token": PLACEHOLDER_KEY} if key else {}
    assert provider == {
        "name": "DeepSeek",
        "base_url": "http://127.0.0.1:8787/v1",
        "wire_api": "responses",
        "model_catalog_url": "http://127.0.0.1:8787/v1/models",
        **placeholder,
    }


def test_ctrl_c_before_it_serves_ends_it_without_a_word(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [*COMMAND, "serve", "--port", "0"],
        cwd=tmp_path,
        env=environment(tmp_path, DEEPSEEK_PROXY_STATE_DIR=str(tmp_path / "state")),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        process.stdout.readline()
        os.killpg(process.pid, signal.SIGINT)
        _, log = process.communicate(timeout=20)
        assert (process.returncode, "Traceback" in log) == (0, False), log
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()


def test_it_serves_with_options_from_everywhere(tmp_path: Path) -> None:
    """Options win over variables, those over the file; Ctrl-C ends it with exit code 0."""
    config = tmp_path / "gateway.toml"
    config.write_text('upstream_url = "http://127.0.0.1:9"\nworkers = 1\nunknown_models = "reject"\n')
    with running() as upstream:
        process = subprocess.Popen(
            [*COMMAND, "serve", "--config", "gateway.toml", "--port", "0", "--upstream", upstream],
            cwd=tmp_path,
            env=environment(
                tmp_path,
                DEEPSEEK_PROXY_PORT="9",
                DEEPSEEK_PROXY_STATE_DIR=str(tmp_path / "state"),
                DEEPSEEK_PROXY_LOG_DIR=str(tmp_path / "logs"),
            ),
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            assert process.stdout is not None
            head = process.stdout.readline()
            (address,) = re.findall(r"http://127\.0\.0\.1:(\d+) -> ", head)
            port = int(address)
            _wait_until_it_listens(port)
            assert _ask(port, "deepseek-flash") == (200, None)
            assert _ask(port, "gpt-5") == (404, "model_not_found")  # the file counts
            os.killpg(process.pid, signal.SIGINT)
            assert process.wait(20) == 0
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()


def _ask(port: int, model: str) -> tuple[int, str | None]:
    """Status and error code of one request."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request(
            "POST",
            "/v1/responses",
            json.dumps({"model": model, "input": "hello"}),
            {"Authorization": "Bearer sk-client"},
        )
        answer = connection.getresponse()
        error = json.loads(answer.read())["error"]
        return answer.status, error["code"] if error else None
    finally:
        connection.close()


def _wait_until_it_listens(port: int) -> None:
    deadline = time.monotonic() + 20
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except ConnectionRefusedError:
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_the_version_both_ways() -> None:
    ended = subprocess.run([*COMMAND, "--version"], capture_output=True, text=True, check=True)
    assert ended.stdout == f"deepseek-proxy, version {__version__}\n"
