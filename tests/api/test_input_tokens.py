"""`POST /v1/responses/input_tokens`: the length of a prompt in OpenAI's shape, without a call to DeepSeek."""

from __future__ import annotations

from typing import Any, Final

import pytest
from harness import oracle
from harness.fake_upstream import FakeUpstream

KEY: Final = "sk-client-0123456789"  # with which a face asks
PATHS = ["/v1/responses/input_tokens", "/responses/input_tokens"]
TOOL = {
    "type": "function",
    "name": "shell",
    "description": "Runs a command.",
    "parameters": {"type": "object", "properties": {"command": {"type": "string"}}},
}


@pytest.mark.parametrize("path", PATHS)
def test_the_answer_is_openais_and_the_number_deepseeks(face: Any, upstream: FakeUpstream, path: str) -> None:
    response = face.ask(path=path, input="How many tokens are these?", tools=[TOOL], instructions="Be kind.")
    assert (response.status_code, response.mimetype) == (200, "application/json")
    assert set(response.json) == {"object", "input_tokens"}
    assert response.json["object"] == "response.input_tokens"
    assert upstream.requests == []

    face.ask(input="How many tokens are these?", tools=[TOOL], instructions="Be kind.")
    (sent,) = upstream.requests
    assert response.json["input_tokens"] == pytest.approx(oracle.prompt_tokens(sent.json()), abs=2)


def test_thinking_costs_tokens_of_its_own(face: Any) -> None:
    def counted(effort: str, model: str) -> int:
        response = face.ask(path=PATHS[0], model=model, reasoning={"effort": effort})
        return int(response.json["input_tokens"])

    assert counted("none", "deepseek-flash") == 5
    assert counted("high", "deepseek-flash") == 31
    assert counted("high", "deepseek-v4-pro") == 84


def test_a_model_need_not_be_named(face: Any) -> None:
    """OpenAI's SDKs leave out what is not given."""
    for model in (None, "gpt-5"):
        assert face.ask(path=PATHS[0], model=model).json["input_tokens"] == 31


def test_what_a_request_goes_on_from_is_counted_too(face: Any) -> None:
    first = face.ask(input="Remember this: " + "nine lives " * 100).json
    bare = face.ask(path=PATHS[0], input="What was it?").json["input_tokens"]
    whole = face.ask(path=PATHS[0], input="What was it?", previous_response_id=first["id"]).json[
        "input_tokens"
    ]
    assert whole > bare + 200
    unknown = face.ask(path=PATHS[0], input="What was it?", previous_response_id="resp_0")
    assert unknown.json["error"]["code"] == "previous_response_not_found"


def test_a_count_keeps_nothing(face: Any) -> None:
    conversation = face.ask(path="/v1/conversations", model=None, input=None).json["id"]
    face.ask(path=PATHS[0], conversation=conversation)
    items = face.request(
        "GET", f"/v1/conversations/{conversation}/items", headers={"Authorization": f"Bearer {KEY}"}
    )
    assert items.json["data"] == []


def test_a_bad_request_is_refused_as_it_would_be(face: Any) -> None:
    response = face.ask(path=PATHS[0], input=[{"role": "user", "content": [{"type": "input_audio"}]}])
    assert response.status_code == 400
    assert response.json["error"]["param"] == "input[0].content[0]"
    assert face.ask({"Authorization": ""}, path=PATHS[0]).status_code == 401


def test_the_request_has_its_line_in_the_log(face: Any) -> None:
    face.finish(face.ask(path=PATHS[0]))
    (line,) = face.lines()
    assert (line["path"], line["status"], line["upstream_model"]) == (PATHS[0], 200, "deepseek-flash")
