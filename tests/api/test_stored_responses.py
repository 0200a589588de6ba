"""The routes of stored responses: what is there, what it brought, its events again, and its end."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from harness import deepseek
from harness.fake_upstream import FakeUpstream
from harness.responses_grammar import assert_responses_grammar
from werkzeug.test import TestResponse

from deepseek_proxy.store.base import NewResponse
from deepseek_proxy.store.store import Store
from deepseek_proxy.translate.responses import replay
from tests.api.conftest import KEY
from tests.api.test_store_recorder import OWNER

Make = Callable[..., Any]

OTHER = "sk-somebody-else-12345"
ROUTES = [
    ("GET", ""),
    ("DELETE", ""),
    ("POST", "/cancel"),
    ("GET", "/input_items"),
    ("GET", "?stream=true"),
]


def call(face: Any, method: str, path: str, key: str = KEY) -> TestResponse:
    response: TestResponse = face.request(
        method, f"/v1/responses/{path}", headers={"Authorization": f"Bearer {key}"}
    )
    return response


def frames(data: bytes) -> list[bytes]:
    return [frame + b"\n\n" for frame in data.split(b"\n\n")[:-1]]


def streamed(face: Any, **fields: Any) -> tuple[str, bytes]:
    """The id of a streamed response, and its bytes."""
    response = face.ask(stream=True, **fields)
    sent: bytes = response.get_data()
    response.close()
    return json.loads(sent.split(b"data: ")[1].split(b"\n")[0])["response"]["id"], sent


# -- what is there --------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["/v1", ""])
@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
def test_a_response_can_be_had_again(face: Any, prefix: str, stream: bool) -> None:
    answer = face.final(face.ask(stream=stream))
    path = f"{prefix}/responses/{answer['id']}?include[]=reasoning.encrypted_content&beta=true"
    response = face.request("GET", path, headers={"Authorization": f"Bearer {KEY}"})
    assert (response.status_code, response.mimetype) == (200, "application/json")
    assert response.json == answer


@pytest.mark.parametrize(("method", "rest"), ROUTES)
def test_what_is_unknown_is_not_found(face: Any, method: str, rest: str) -> None:
    response = call(face, method, f"resp_404{rest}")
    assert response.status_code == 404
    assert response.json["error"] == {
        "message": "Response with id 'resp_404' not found.",
        "type": "invalid_request_error",
        "param": None,
        "code": "not_found",
    }


@pytest.mark.parametrize(("method", "rest"), ROUTES)
def test_another_keys_response_does_not_exist(face: Any, method: str, rest: str) -> None:
    answer = face.final(face.ask())
    assert call(face, method, f"{answer['id']}{rest}", OTHER).status_code == 404
    assert call(face, "GET", answer["id"]).json == answer


@pytest.mark.parametrize(("method", "rest"), ROUTES)
def test_without_a_store_the_refusal_says_so(make: Make, method: str, rest: str) -> None:
    response = call(make(store_url="off"), method, f"resp_1{rest}")
    assert response.status_code == 404
    assert "store_url" in response.json["error"]["message"]


@pytest.mark.parametrize(("method", "rest"), ROUTES)
def test_without_a_key_nothing_is_told(face: Any, method: str, rest: str) -> None:
    assert face.request(method, f"/v1/responses/resp_1{rest}").status_code == 401


@pytest.mark.parametrize("rest", ["?include[]=everything", "/input_items?include=everything"])
def test_an_unknown_include_is_refused(face: Any, rest: str) -> None:
    answer = face.final(face.ask())
    response = call(face, "GET", answer["id"] + rest)
    assert (response.status_code, response.json["error"]["param"]) == (400, "include[0]")


def test_a_deleted_response_is_gone(face: Any) -> None:
    answer = face.final(face.ask())
    response = call(face, "DELETE", answer["id"])
    assert response.json == {"id": answer["id"], "object": "response", "deleted": True}
    assert call(face, "GET", answer["id"]).status_code == 404
    assert call(face, "DELETE", answer["id"]).status_code == 404


def test_each_request_has_its_line(face: Any) -> None:
    answer = face.final(face.ask())
    call(face, "GET", answer["id"]).close()
    call(face, "GET", "resp_404").close()
    line, missed = face.lines()[-2:]
    assert (line["dialect"], line["method"], line["status"]) == ("responses", "GET", 200)
    assert (missed["status"], missed["error_code"]) == (404, "not_found")


# -- its input ------------------------------------------------------------------------------------


def test_a_string_is_listed_as_a_message(face: Any) -> None:
    answer = face.final(face.ask(input="Hello there."))
    listed = call(face, "GET", f"{answer['id']}/input_items").json
    (message,) = listed.pop("data")
    assert message.pop("id").startswith("msg_")
    assert message == {
        "type": "message",
        "role": "user",
        "status": "completed",
        "content": [{"type": "input_text", "text": "Hello there."}],
    }
    assert listed["object"] == "list"
    assert listed["has_more"] is False
    assert listed["first_id"] == listed["last_id"]


def test_only_what_the_request_brought_is_listed(face: Any) -> None:
    first = face.final(face.ask(input="One?"))
    second = face.final(face.ask(input="Two?", previous_response_id=first["id"]))
    (message,) = call(face, "GET", f"{second['id']}/input_items").json["data"]
    assert message["content"][0]["text"] == "Two?"


def test_pages_follow_one_another(face: Any) -> None:
    items = [{"role": "user", "id": f"msg_{number}", "content": str(number)} for number in range(5)]
    answer = face.final(face.ask(input=items))

    def page(query: str) -> tuple[list[str], bool]:
        listed = call(face, "GET", f"{answer['id']}/input_items?{query}").json
        ids = [item["id"] for item in listed["data"]]
        assert (listed["first_id"], listed["last_id"]) == ((ids[0], ids[-1]) if ids else (None, None))
        return ids, listed["has_more"]

    assert page("") == (["msg_4", "msg_3", "msg_2", "msg_1", "msg_0"], False)
    assert page("limit=2") == (["msg_4", "msg_3"], True)
    assert page("limit=2&after=msg_3") == (["msg_2", "msg_1"], True)
    assert page("limit=2&after=msg_1") == (["msg_0"], False)
    assert page("order=asc&limit=3") == (["msg_0", "msg_1", "msg_2"], True)
    assert page("order=asc&after=msg_4") == ([], False)


@pytest.mark.parametrize(
    ("query", "param"),
    [("limit=0", "limit"), ("limit=101", "limit"), ("order=up", "order"), ("after=msg_9", "after")],
)
def test_a_wrong_page_says_what_is_wrong(face: Any, query: str, param: str) -> None:
    answer = face.final(face.ask())
    response = call(face, "GET", f"{answer['id']}/input_items?{query}")
    assert (response.status_code, response.json["error"]["param"]) == (400, param)


# -- its events, again ----------------------------------------------------------------------------


def test_the_stream_is_replayed_byte_for_byte(face: Any, upstream: FakeUpstream) -> None:
    upstream.serve(deepseek.answers(content=["Grüße, ", "世界 ", "🎈"], thoughts=["Hm."]))
    id, sent = streamed(face)
    response = call(face, "GET", f"{id}?stream=true")
    assert response.mimetype == "text/event-stream"
    assert response.headers["X-Accel-Buffering"] == "no"
    assert response.data == sent


def test_it_goes_on_behind_any_event(face: Any) -> None:
    id, sent = streamed(face)
    every = frames(sent)
    for number in range(len(every) + 1):
        response = call(face, "GET", f"{id}?stream=true&starting_after={number}")
        assert response.data == b"".join(every[number + 1 :]) or number >= len(every) - 1
    assert call(face, "GET", f"{id}?stream=true&starting_after={len(every)}").data in (b"", every[-1])


def test_an_answer_that_was_not_streamed_can_be_replayed(face: Any) -> None:
    answer = face.final(face.ask())
    events = face.events(call(face, "GET", f"{answer['id']}?stream=true"))
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert events[-1]["response"] == answer


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("stream=maybe", "stream"),
        ("stream=true&starting_after=x", "starting_after"),
        ("stream=true&starting_after=-1", "starting_after"),
        ("stream=true&starting_after=9999999999", "starting_after"),
    ],
)
def test_a_wrong_question_says_what_is_wrong(face: Any, query: str, param: str) -> None:
    answer = face.final(face.ask())
    response = call(face, "GET", f"{answer['id']}?{query}")
    assert (response.status_code, response.json["error"]["param"]) == (400, param)


def test_stream_false_is_the_response_itself(face: Any) -> None:
    answer = face.final(face.ask())
    assert call(face, "GET", f"{answer['id']}?stream=false").json == answer


# -- an end ---------------------------------------------------------------------------------------


def test_only_background_responses_can_be_cancelled(face: Any) -> None:
    answer = face.final(face.ask())
    response = call(face, "POST", f"{answer['id']}/cancel")
    assert response.status_code == 400
    assert response.json["error"]["message"].startswith("Cannot cancel a synchronous response")


def test_a_response_that_nobody_makes_any_more_has_failed(face: Any) -> None:
    """The worker that made it was killed: its beat has stopped."""
    id, sent = streamed(face)
    begun = json.loads(frames(sent)[0].split(b"\ndata: ")[1])["response"]
    backend = face.gateway.store.backend
    dead = Store(backend)
    new = NewResponse("resp_dead", OWNER, 1, "in_progress", json.dumps({**begun, "id": "resp_dead"}).encode())
    dead.begin(new).append(0, b"".join(frames(sent)[:2]).replace(id.encode(), b"resp_dead"))
    dead.close()
    backend.beat(dead.worker, 0)
    found = call(face, "GET", "resp_dead").json
    assert (found["status"], found["error"]["code"]) == ("failed", "server_error")
    assert found["error"]["message"] == replay.ABANDONED
    response = call(face, "GET", "resp_dead?stream=true")
    assert assert_responses_grammar(face.events(response)) == found
    assert response.data.endswith(b"data: [DONE]\n\n")
    last = call(face, "GET", "resp_dead?stream=true&starting_after=2").data
    assert [json.loads(frames(last)[0].split(b"\ndata: ")[1])["sequence_number"]] == [3]
