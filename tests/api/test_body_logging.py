"""Bodies reach the log when an operator asks for them, bounded and without keys; and never otherwise."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from harness.deepseek import answers
from harness.fake_upstream import FakeUpstream

from deepseek_proxy.app import create_app
from deepseek_proxy.ops import logs
from deepseek_proxy.settings import isolated

PROMPT = "the canary word is heliotrope"
ANSWER = "the answering canary is marigold"
THOUGHT = "the thinking canary is celandine"
KEY = "sk-canary-0123456789abcdef"


@pytest.fixture
def upstream() -> Iterator[FakeUpstream]:
    server = FakeUpstream()
    server.serve(answers([ANSWER], [THOUGHT]))
    yield server
    server.close()


def ask(
    folder: Path, upstream: FakeUpstream, fields: dict[str, Any], **settings: Any
) -> list[dict[str, Any]]:
    """What one request leaves in the log."""
    app = create_app(
        isolated(state_dir=folder, upstream_url=upstream.url, log_dir=folder, log_stderr="never", **settings)
    )
    response = app.test_client().post(
        "/v1/responses",
        json={"model": "deepseek-flash", "input": PROMPT, **fields},
        headers={"Authorization": f"Bearer {KEY}", "X-Request-ID": "req_bodies"},
    )
    assert ANSWER in response.text
    response.close()
    logs.close()
    return [json.loads(line) for line in (folder / logs.GATEWAY_FILE).read_text().splitlines()]


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("level", ["debug", "warning"])
def test_whoever_asks_gets_both_bodies_once(tmp_path, upstream, stream, level):
    lines = ask(tmp_path, upstream, {"stream": stream}, log_bodies=True, log_level=level)
    sent, answered = (line for line in lines if line["logger"] == logs.BODY_LOGGER)
    assert (sent["message"], answered["message"]) == ("upstream_request body", "response body")
    assert {sent["request_id"], answered["request_id"]} == {"req_bodies"}
    assert json.loads(sent["body"])["messages"][-1] == {"role": "user", "content": PROMPT}
    assert sent["body_bytes"] == len(sent["body"].encode())
    response = json.loads(answered["body"])
    assert response["status"] == "completed"
    assert response["output"][-1]["content"][0]["text"] == ANSWER


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("level", ["debug", "info"])
def test_nobody_else_gets_any_of_them(tmp_path, upstream, stream, level):
    assert ask(tmp_path, upstream, {"stream": stream}, log_level=level)
    written = "".join(file.read_text() for file in tmp_path.glob("*.log"))
    assert not [word for word in (PROMPT, ANSWER, THOUGHT, KEY, "canary") if word in written]


def test_a_body_is_cut_and_says_how_long_it_was(tmp_path, upstream):
    fields = {"input": PROMPT + "é" * logs.MAX_BODY_BYTES}
    sent = next(
        line
        for line in ask(tmp_path, upstream, fields, log_bodies=True)
        if line["message"] == "upstream_request body"
    )
    assert sent["body_bytes"] > 2 * logs.MAX_BODY_BYTES
    assert len(sent["body"].encode()) <= logs.MAX_BODY_BYTES + len("�".encode())


def test_keys_in_bodies_are_masked(tmp_path, upstream):
    fields = {"input": f"my key is {KEY}, and {{'Authorization': 'Bearer abcdefghijklmnop'}}"}
    written = json.dumps(ask(tmp_path, upstream, fields, log_bodies=True))
    assert KEY not in written
    assert "abcdefghijklmnop" not in written
    assert "my key is" in written


def test_switching_it_off_takes_effect(tmp_path, upstream):
    ask(tmp_path, upstream, {}, log_bodies=True)
    (tmp_path / logs.GATEWAY_FILE).unlink()
    lines = ask(tmp_path, upstream, {}, log_level="debug")
    assert not [line for line in lines if line["logger"] == logs.BODY_LOGGER]
