"""FIM completions: what is refused, and that an answer is the chat's, in the shape of a text completion."""

from __future__ import annotations

import json
from typing import Any

import pytest
from flask.testing import FlaskClient
from openai.types import Completion
from werkzeug.test import TestResponse

KEY = {"Authorization": "Bearer sk-simulator-test-0001"}


def fill(client: FlaskClient, headers: dict[str, str] | None = None, **body: Any) -> TestResponse:
    body = {"model": "deepseek-flash", "prompt": "say one two", **body}
    return client.post("/beta/completions", json=body, headers={**KEY, **(headers or {})}, buffered=True)


def test_a_whole_answer(client: FlaskClient) -> None:
    answer = Completion.model_validate(fill(client, suffix="three").get_json(), strict=True)
    assert (answer.object, answer.choices[0].text) == ("text_completion", "one two")
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage
    assert answer.usage.completion_tokens


def test_a_stream_says_the_same(client: FlaskClient) -> None:
    text = fill(client, stream=True).text
    *frames, done, rest = text.split("\n\n")
    assert (done, rest) == ("data: [DONE]", "")
    chunks = [json.loads(frame.removeprefix("data: ")) for frame in frames]
    assert {chunk["object"] for chunk in chunks} == {"text_completion"}
    assert "".join(chunk["choices"][0]["text"] for chunk in chunks) == "one two"
    assert Completion.model_validate(chunks[-1], strict=True).usage


def test_limits_and_stops(client: FlaskClient) -> None:
    words = " ".join("abcdefghijkl")
    cut = fill(client, prompt=f"say {words}", max_tokens=9).get_json()["choices"][0]
    assert (cut["text"], cut["finish_reason"]) == (" ".join("abcdefghi"), "length")
    assert fill(client, stop=" two").get_json()["choices"][0]["text"] == "one"


@pytest.mark.parametrize(
    ("fields", "status", "words"),
    [
        ({"model": "gpt-5"}, 400, "The supported API model names are"),
        ({"prompt": None}, 422, "prompt: invalid type: null, expected a string"),
        ({"prompt": ["a"]}, 422, "prompt: invalid type: sequence, expected a string"),
        ({"suffix": 1}, 422, "suffix: invalid type: integer `1`, expected a string"),
        ({"max_tokens": 0}, 400, "the valid range of max_tokens is [1, 4096]"),
        ({"max_tokens": 4097}, 400, "the valid range of max_tokens is [1, 4096]"),
        ({"temperature": 3}, 400, "the valid range of temperature is [0, 2]"),
        ({"logprobs": 21}, 400, "the valid range of logprobs is [0, 20]"),
        ({"stop": ""}, 400, "Invalid 'stop': empty string"),
        ({"stream_options": {}}, 400, "stream_options should be set along with stream = true"),
    ],
)
def test_what_is_refused(client: FlaskClient, fields: dict[str, Any], status: int, words: str) -> None:
    answer = fill(client, **fields)
    assert answer.status_code == status
    assert words in answer.get_json()["error"]["message"]


def test_keys_and_faults_are_those_of_the_chat(client: FlaskClient) -> None:
    assert fill(client, {"Authorization": ""}).status_code == 401
    assert fill(client, {"Authorization": "Bearer sk-simulator-broke"}).status_code == 402
    assert fill(client, {"X-Simulate": "503"}).status_code == 503
    assert "[DONE]" not in fill(client, {"X-Simulate": "truncate after=1"}, stream=True).text


def test_the_beta_serves_chats_too(client: FlaskClient) -> None:
    messages = [
        {"role": "user", "content": "Count."},
        {"role": "assistant", "content": "One", "prefix": True},
    ]
    body = {"model": "deepseek-flash", "messages": messages}
    assert client.post("/beta/chat/completions", json=body, headers=KEY).status_code == 200
