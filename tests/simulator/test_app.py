"""DeepSeek's routes, and what the answers look like from outside."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

Ask = Callable[..., TestResponse]
KEY = {"Authorization": "Bearer sk-simulator-test-0001"}
BODY = {"model": "deepseek-flash", "messages": [{"role": "user", "content": "say hello"}]}


def test_both_paths(client: FlaskClient) -> None:
    for path in ("/chat/completions", "/v1/chat/completions"):
        assert client.post(path, json=BODY, headers=KEY).status_code == 200


def test_a_stream(ask: Ask) -> None:
    answer = ask("say hello", stream=True, stream_options={"include_usage": True})
    assert answer.headers["Content-Type"] == "text/event-stream; charset=utf-8"
    assert len(answer.headers["x-ds-trace-id"]) == 32
    *frames, done, rest = answer.text.split("\n\n")
    assert (done, rest) == ("data: [DONE]", "")
    chunks = [json.loads(frame.removeprefix("data: ")) for frame in frames]
    assert {chunk["id"] for chunk in chunks} == {chunks[0]["id"]}
    assert [chunk["usage"] for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"
    assert chunks[-1]["usage"]["completion_tokens"] == len(chunks) - 2


def test_the_alias_is_answered_by_its_model(ask: Ask) -> None:
    assert ask("hi", model="deepseek-v4-flash").get_json()["model"] == "deepseek-flash"


def test_stop_sequences(ask: Ask) -> None:
    choice = ask("say one two three", stop=["three", " two"]).get_json()["choices"][0]
    assert (choice["message"]["content"], choice["finish_reason"]) == ("one", "stop")


def test_max_tokens_cuts_anywhere(ask: Ask) -> None:
    prompt = '[[simulate: reason one two]] [[simulate: say three four]] [[simulate: call f {"a": "x"}]]'
    tools = [{"type": "function", "function": {"name": "f"}}]
    cuts = []
    for limit in (1, 3, 6):
        choice = ask(prompt, max_tokens=limit, tools=tools).get_json()["choices"][0]
        message = choice["message"]
        (call,) = message.get("tool_calls") or [None]
        arguments = call and call["function"]["arguments"]
        cuts.append((message["reasoning_content"], message["content"], arguments, choice["finish_reason"]))
    assert cuts == [
        ("one", "", None, "length"),
        ("one two", "three", None, "length"),
        ("one two", "three four", "{", "length"),
    ]


def test_logprobs(ask: Ask) -> None:
    choice = ask("say hello", logprobs=True, top_logprobs=1).get_json()["choices"][0]
    assert [entry["token"] for entry in choice["logprobs"]["content"]] == ["hello"]
    assert choice["logprobs"]["reasoning_content"]


def test_the_context_window(make_client: Callable[..., FlaskClient]) -> None:
    client = make_client(context_window=100)
    messages = [{"role": "user", "content": "x" * 1000}]
    answer = client.post("/chat/completions", json={**BODY, "messages": messages}, headers=KEY)
    assert answer.status_code == 400
    message = answer.get_json()["error"]["message"]
    assert message.startswith("This model's maximum context length is 100 tokens. However, you requested 2")
    assert "0 in the completion" in message
    answer = client.post("/chat/completions", json={**BODY, "max_tokens": 99}, headers=KEY)
    assert "99 in the completion" in answer.get_json()["error"]["message"]


def test_models(client: FlaskClient) -> None:
    for path in ("/models", "/v1/models"):
        body = client.get(path, headers=KEY).get_json()
        assert body["object"] == "list"
        flash, pro = body["data"]
        assert (flash["id"], pro["id"]) == ("deepseek-flash", "deepseek-v4-pro")
        assert (flash["input_modalities"], pro["input_modalities"]) == (["text", "image"], ["text"])
        assert "created" not in flash
        assert flash["effort"] == {"supported_levels": ["low", "high", "max"], "default_level": "high"}


def test_balance(client: FlaskClient) -> None:
    body = client.get("/user/balance", headers=KEY).get_json()
    assert body["is_available"] is True
    assert body["balance_infos"][0]["total_balance"] == "110.00"
    broke = client.get("/user/balance", headers={"Authorization": "Bearer sk-simulator-broke"}).get_json()
    assert broke["is_available"] is False


@pytest.mark.parametrize(
    ("key", "status"),
    [(None, 401), ("sk-simulator-invalid", 401), ("sk-simulator-broke", 402), ("sk-anything", 200)],
)
def test_keys(key: str | None, status: int, client: FlaskClient) -> None:
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    assert client.post("/chat/completions", json=BODY, headers=headers).status_code == status
    assert client.get("/models", headers=headers).status_code == (200 if status == 402 else status)


def test_the_key_is_looked_at_before_the_body(client: FlaskClient) -> None:
    assert client.post("/chat/completions", data="{").status_code == 401


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/", 404), ("POST", "/v2/chat/completions", 404), ("GET", "/chat/completions", 405)],
)
def test_other_routes(method: str, path: str, status: int, client: FlaskClient) -> None:
    answer = client.open(path, method=method, headers=KEY)
    assert answer.status_code == status
    assert answer.get_json()["error"].keys() == {"message", "type", "param", "code"}


def test_a_body_that_is_too_large(make_client: Callable[..., FlaskClient]) -> None:
    client = make_client(max_body_bytes=100)
    answer = client.post("/chat/completions", data=b"x" * 200, headers=KEY)
    assert answer.status_code == 413
    assert "error" in answer.get_json()


def test_concurrency(make_client: Callable[..., FlaskClient]) -> None:
    client = make_client(max_concurrency=1)

    def ask(key: str) -> TestResponse:
        headers = {"Authorization": f"Bearer {key}"}
        return client.post(
            "/chat/completions", json={**BODY, "stream": True}, headers=headers, buffered=False
        )

    first = ask("sk-a")
    second = ask("sk-a")
    assert second.status_code == 429
    assert "concurrency is 2, which exceeds your concurrency limit of 1" in second.text
    assert ask("sk-b").status_code == 200, "another account"
    assert "[DONE]" in first.text
    assert ask("sk-a").status_code == 200


def test_a_refused_request_does_not_count(make_client: Callable[..., FlaskClient]) -> None:
    client = make_client(max_concurrency=1)
    for fault, status in (("503", 503), ("", 200)):
        answer = client.post("/chat/completions", json=BODY, headers={**KEY, "X-Simulate": fault})
        assert answer.status_code == status


def test_call_ids_are_numbered_and_new(said: Callable[..., dict[str, Any]]) -> None:
    prompt = "[[simulate: call f]] [[simulate: call f]]"
    tools = [{"type": "function", "function": {"name": "f"}}]
    ids = [call["id"] for _ in range(2) for call in said(prompt, tools=tools)["tool_calls"]]
    assert [identity[:8] for identity in ids] == ["call_00_", "call_01_"] * 2
    assert len(set(ids)) == 4
