"""What a request goes on from: an earlier response, or single items that it refers to."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from harness import deepseek
from harness.fake_upstream import FakeUpstream

from tests.api.test_responses import SHELL, calls_shell
from tests.api.test_store_recorder import OWNER

Make = Callable[..., Any]

both_forms = pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])


def messages(upstream: FakeUpstream) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = upstream.requests[-1].json()["messages"]
    return found


def prompt_bytes(upstream: FakeUpstream, number: int = -1) -> bytes:
    """The prompt as it was sent, without what follows it."""
    body = upstream.requests[number].body
    return body[body.index(b'"messages":[') : body.index(b',"thinking"')]


def test_what_it_goes_on_from_may_be_as_large_as_a_body(make: Make, upstream: FakeUpstream) -> None:
    face = make(store_url="memory:", max_body_bytes=2000)
    first = face.final(face.ask(input="x" * 1500))
    second = face.final(face.ask(input="y" * 1500, previous_response_id=first["id"]))
    asked = len(upstream.requests)
    refused = face.ask(input="more", previous_response_id=second["id"])
    assert (refused.status_code, refused.json["error"]["code"]) == (413, "request_too_large")
    assert len(upstream.requests) == asked


# -- going on from a response ---------------------------------------------------------------------


@both_forms
def test_the_model_sees_what_was_said_before(face: Any, upstream: FakeUpstream, stream: bool) -> None:
    first = face.final(face.ask(input="One?", instructions="Be brief.", stream=stream))
    answer = face.final(face.ask(input="Two?", previous_response_id=first["id"], stream=stream))
    assert answer["previous_response_id"] == first["id"]
    assert answer["instructions"] is None
    said = [(message["role"], message["content"]) for message in messages(upstream)]
    assert said == [("user", "One?"), ("assistant", "Hello"), ("user", "Two?")]


@both_forms
def test_the_prompt_is_that_of_the_same_conversation_sent_again(
    face: Any, upstream: FakeUpstream, stream: bool
) -> None:
    """Prompt bytes are money: chained turns and a history that is sent whole have the same prefix."""
    questions = [
        "Zero? ☃",
        [{"role": "user", "content": [{"type": "input_text", "text": "One?"}]}],
        [{"role": "developer", "content": "From now on in French."}, {"role": "user", "content": "Two?"}],
    ]
    upstream.serve(deepseek.answers(thoughts=["Hm", "m."]))
    history: list[dict[str, Any]] = []
    previous: str | None = None
    earlier = b""
    for question in questions:
        chained = face.final(face.ask(input=question, previous_response_id=previous, stream=stream))
        of_the_chain = prompt_bytes(upstream)
        history += [{"role": "user", "content": question}] if isinstance(question, str) else question
        face.final(face.ask(input=history, stream=stream, store=False))
        assert prompt_bytes(upstream) == of_the_chain
        assert of_the_chain.startswith(earlier)
        earlier = of_the_chain[:-2]  # without the end of the list
        previous = chained["id"]
        history += chained["output"]


def test_calls_and_their_thinking_go_along(face: Any, upstream: FakeUpstream) -> None:
    upstream.serve(calls_shell("I should look."), deepseek.answers())
    first = face.final(face.ask(tools=[SHELL]))
    call = first["output"][-1]
    result = {"type": "function_call_output", "call_id": call["call_id"], "output": "a.txt"}
    face.final(face.ask(tools=[SHELL], input=[result], previous_response_id=first["id"]))
    _, assistant, tool = messages(upstream)
    assert (assistant["reasoning_content"], assistant["tool_calls"][0]["id"]) == ("I should look.", "call_1")
    assert tool == {"role": "tool", "tool_call_id": "call_1", "content": "a.txt"}


def test_a_chain_may_fork(face: Any, upstream: FakeUpstream) -> None:
    root = face.final(face.ask(input="Root"))
    for branch in ("Left", "Right"):
        face.final(face.ask(input=branch, previous_response_id=root["id"]))
        assert [message["content"] for message in messages(upstream)] == ["Root", "Hello", branch]


def test_one_may_go_on_without_being_stored(face: Any, upstream: FakeUpstream) -> None:
    first = face.final(face.ask(input="One?"))
    answer = face.final(face.ask(input="Two?", previous_response_id=first["id"], store=False))
    assert len(messages(upstream)) == 3
    unknown = face.ask(previous_response_id=answer["id"])
    assert unknown.json["error"]["code"] == "previous_response_not_found"


def test_an_answer_goes_on_after_what_it_goes_on_from_is_deleted(face: Any, upstream: FakeUpstream) -> None:
    first = face.final(face.ask(input="One?"))
    second = face.final(face.ask(input="Two?", previous_response_id=first["id"]))
    assert face.gateway.store.delete(OWNER, first["id"])
    face.final(face.ask(input="Three?", previous_response_id=second["id"]))
    assert [message["content"] for message in messages(upstream)][::2] == ["One?", "Two?", "Three?"]


@pytest.mark.parametrize("store", [True, False])
def test_an_unknown_response_is_refused(face: Any, upstream: FakeUpstream, store: bool) -> None:
    response = face.ask(previous_response_id="resp_404", store=store)
    assert response.status_code == 400
    error = response.json["error"]
    assert (error["param"], error["code"]) == ("previous_response_id", "previous_response_not_found")
    assert error["message"] == "Previous response with id 'resp_404' not found."
    assert not upstream.requests


def test_so_is_that_of_another_key(face: Any) -> None:
    first = face.final(face.ask())
    other = face.ask({"Authorization": "Bearer sk-somebody-else-12345"}, previous_response_id=first["id"])
    assert other.json["error"]["message"] == f"Previous response with id '{first['id']}' not found."


def test_without_a_store_the_refusal_says_what_to_do(make: Make) -> None:
    face = make(store_url="off")
    error = face.ask(previous_response_id="resp_1").json["error"]
    assert error["code"] == "previous_response_not_found"
    assert error["message"].endswith("This gateway stores nothing: send the whole conversation in 'input'.")


def test_not_together_with_a_conversation(face: Any) -> None:
    error = face.ask(previous_response_id="resp_1", conversation="conv_1").json["error"]
    assert (error["param"], error["code"]) == ("previous_response_id", "mutually_exclusive_parameters")


# -- items that are referred to -------------------------------------------------------------------


@pytest.mark.parametrize("kind", [{"type": "item_reference"}, {}], ids=["typed", "bare"])
def test_a_reference_stands_for_its_item(face: Any, upstream: FakeUpstream, kind: dict[str, str]) -> None:
    first = face.final(face.ask(input=[{"role": "user", "id": "msg_mine", "content": "One?"}]))
    references = [{**kind, "id": "msg_mine"}, {**kind, "id": first["output"][0]["id"]}]
    second = face.final(face.ask(input=[*references, {"role": "user", "content": "Two?"}]))
    assert [message["content"] for message in messages(upstream)] == ["One?", "Hello", "Two?"]
    # It has been put in place for good: deleting the first response takes nothing from the second.
    face.gateway.store.delete(OWNER, first["id"])
    face.final(face.ask(input="Three?", previous_response_id=second["id"]))
    assert len(messages(upstream)) == 5


@pytest.mark.parametrize("settings", [{}, {"store_url": "off"}], ids=["unknown", "no store"])
def test_a_reference_to_nothing_is_refused(make: Make, settings: dict[str, str]) -> None:
    response = make(**settings).ask(input=[{"type": "item_reference", "id": "rs_404"}])
    assert response.status_code == 400
    assert response.json["error"]["message"].startswith("Item with id 'rs_404' not found.")
    assert response.json["error"]["param"] == "input"


def test_another_keys_item_does_not_exist(face: Any) -> None:
    first = face.final(face.ask())
    reference = {"type": "item_reference", "id": first["output"][0]["id"]}
    response = face.ask({"Authorization": "Bearer sk-somebody-else-12345"}, input=[reference])
    assert "not found" in response.json["error"]["message"]


# -- what cannot be -------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [{}, {"store_url": "off"}], ids=["store", "no store"])
def test_a_background_response_has_to_be_stored(make: Make, settings: dict[str, str]) -> None:
    error = make(**settings).ask(background=True, store=False).json["error"]
    assert (error["param"], error["code"]) == ("background", "unsupported_parameter")


@pytest.mark.parametrize("field", ["store", "background", "previous_response_id"])
def test_fields_of_another_type_are_named(face: Any, field: str) -> None:
    error = face.ask(**{field: 5}).json["error"]
    assert (error["param"], error["code"]) == (field, "invalid_type")


# -- compaction -----------------------------------------------------------------------------------


def test_a_compaction_takes_what_was_said_before(face: Any, upstream: FakeUpstream) -> None:
    first = face.final(face.ask(input="One?"))
    response = face.request(
        "POST",
        "/v1/responses/compact",
        json={"model": "deepseek-flash", "input": "Two?", "previous_response_id": first["id"]},
        headers={"Authorization": "Bearer sk-client-0123456789"},
    )
    *kept, compaction = json.loads(response.data)["output"]
    assert [message["content"][0]["text"] for message in kept] == ["One?", "Two?"]
    assert compaction["type"] == "compaction"
    assert [message["content"] for message in messages(upstream)][:3] == ["One?", "Hello", "Two?"]
