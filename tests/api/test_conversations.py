from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from api.conftest import KEY, Face
from harness import deepseek
from harness.fake_upstream import FakeUpstream
from harness.wire import Request, Wire
from openai.types.conversations import Conversation, ConversationItem, ConversationItemList
from pydantic import TypeAdapter
from werkzeug.test import TestResponse

Make = Callable[..., Face]

HELLO = {"role": "user", "content": "hello"}
CALL = {"type": "function_call", "call_id": "call_1", "name": "f", "arguments": "{}"}


def cut_off(_: Request, wire: Wire) -> None:
    """An answer that breaks off."""
    wire.start_stream()
    wire.chunk(deepseek.opening() + deepseek.text("Hel"))
    wire.close()


class Client:
    """Asks for conversations, as whoever holds the key."""

    def __init__(self, face: Face, key: str = KEY) -> None:
        self._face = face
        self._key = key

    def __call__(self, method: str, path: str = "", body: object = None, **query: str) -> TestResponse:
        answer = self._face.request(
            method,
            f"/v1/conversations{path}",
            json=body,
            query_string=query,
            headers={"Authorization": f"Bearer {self._key}"},
        )
        answer.close()
        return answer

    def create(self, **fields: Any) -> dict[str, Any]:
        made: dict[str, Any] = self("POST", body=fields).json
        return made

    def texts(self, id: str, **query: str) -> list[str]:
        items = self("GET", f"/{id}/items", **query).json["data"]
        return [item["content"][0]["text"] for item in items]


@pytest.fixture
def face(make: Make) -> Face:
    return make(store_url="memory:")


@pytest.fixture
def client(face: Face) -> Client:
    return Client(face)


def error_of(answer: TestResponse) -> tuple[int, str | None, str | None]:
    assert set(answer.json["error"]) == {"message", "type", "param", "code"}
    return answer.status_code, answer.json["error"]["param"], answer.json["error"]["code"]


# -- conversations ---------------------------------------------------------------------------------


def test_one_is_created_and_found_again(client: Client) -> None:
    made = client.create(metadata={"topic": "birds"})
    Conversation.model_validate(made, strict=True)
    assert made["id"].startswith("conv_")
    assert made["metadata"] == {"topic": "birds"}
    assert client("GET", f"/{made['id']}").json == made


def test_other_metadata_take_the_place_of_all_there_were(client: Client) -> None:
    made = client.create(metadata={"topic": "birds", "lang": "en"})
    changed = client("POST", f"/{made['id']}", {"metadata": {"topic": "trees"}}).json
    assert changed == {**made, "metadata": {"topic": "trees"}}
    assert client("GET", f"/{made['id']}").json == changed
    assert client("POST", f"/{made['id']}", {"metadata": None}).json == {**made, "metadata": {}}


def test_one_is_deleted(client: Client) -> None:
    id = client.create(items=[HELLO])["id"]
    gone = client("DELETE", f"/{id}").json
    assert gone == {"id": id, "object": "conversation.deleted", "deleted": True}
    for method, path in [("GET", ""), ("DELETE", ""), ("GET", "/items")]:
        assert error_of(client(method, f"/{id}{path}")) == (404, None, "not_found")


# -- items -----------------------------------------------------------------------------------------


def test_items_get_all_that_readers_expect(client: Client) -> None:
    id = client.create()["id"]
    result = {"type": "function_call_output", "call_id": "call_1", "output": "done"}
    thought = {"type": "reasoning", "summary": []}
    answer = {"role": "assistant", "content": "hello"}
    added = client("POST", f"/{id}/items", {"items": [HELLO, thought, CALL, result, answer]}).json
    ConversationItemList.model_validate(added)
    assert [item["id"].partition("_")[0] for item in added["data"]] == ["msg", "rs", "fc", "fco", "msg"]
    assert (added["first_id"], added["last_id"]) == (added["data"][0]["id"], added["data"][-1]["id"])
    assert not added["has_more"]
    assert client("GET", f"/{id}/items", order="asc").json == added
    for item in added["data"]:
        TypeAdapter(ConversationItem).validate_python(item)
        assert client("GET", f"/{id}/items/{item['id']}").json == item


def test_items_are_listed_in_both_orders_page_by_page(client: Client) -> None:
    id = client.create(items=[{**HELLO, "content": str(n)} for n in range(5)])["id"]
    assert client.texts(id) == ["4", "3", "2", "1", "0"]
    assert client.texts(id, order="asc") == ["0", "1", "2", "3", "4"]
    page = client("GET", f"/{id}/items", order="asc", limit="2").json
    assert page["has_more"]
    page = client("GET", f"/{id}/items", order="asc", limit="3", after=page["last_id"]).json
    assert [item["content"][0]["text"] for item in page["data"]] == ["2", "3", "4"]
    assert not page["has_more"]


def test_twenty_items_are_a_page(client: Client) -> None:
    id = client.create(items=[HELLO] * 20)["id"]
    client("POST", f"/{id}/items", {"items": [HELLO]})
    page = client("GET", f"/{id}/items").json
    assert len(page["data"]) == 20
    assert page["has_more"]


def test_an_empty_conversation_has_an_empty_list(client: Client) -> None:
    listed = client("GET", f"/{client.create(items=[])['id']}/items").json
    assert listed == {"object": "list", "data": [], "first_id": None, "last_id": None, "has_more": False}


def test_an_item_is_taken_out(client: Client) -> None:
    made = client.create(items=[HELLO, {**HELLO, "content": "bye"}])
    first = client("GET", f"/{made['id']}/items", order="asc").json["first_id"]
    assert client("DELETE", f"/{made['id']}/items/{first}").json == made
    assert client.texts(made["id"]) == ["bye"]
    assert error_of(client("DELETE", f"/{made['id']}/items/{first}")) == (404, None, "not_found")
    assert error_of(client("GET", f"/{made['id']}/items/{first}")) == (404, None, "not_found")


def test_an_item_may_be_named_in_place_of_being_sent(client: Client) -> None:
    one, other = client.create(items=[HELLO])["id"], client.create()["id"]
    item = client("GET", f"/{one}/items").json["data"][0]
    client("POST", f"/{other}/items", {"items": [{"type": "item_reference", "id": item["id"]}]})
    assert client("GET", f"/{other}/items").json["data"] == [item]


def test_an_item_that_is_there_already_stays_where_it_is(client: Client) -> None:
    id = client.create(items=[{**HELLO, "id": "msg_1"}, {**HELLO, "content": "bye"}])["id"]
    client("POST", f"/{id}/items", {"items": [{**HELLO, "id": "msg_1"}]})
    assert client.texts(id, order="asc") == ["hello", "bye"]


# -- whose they are --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "", None),
        ("POST", "", {"metadata": {}}),
        ("DELETE", "", None),
        ("GET", "/items", None),
        ("POST", "/items", {"items": [HELLO]}),
        ("GET", "/items/msg_1", None),
        ("DELETE", "/items/msg_1", None),
    ],
)
def test_what_another_client_keeps_does_not_exist(
    face: Face, client: Client, method: str, path: str, body: object
) -> None:
    id = client.create(items=[{**HELLO, "id": "msg_1"}])["id"]
    stranger = Client(face, "sk-somebody-else")
    answer = stranger(method, f"/{id}{path}", body)
    assert error_of(answer) == (404, None, "not_found")
    unknown = stranger(method, f"/conv_unknown{path}", body)
    assert answer.json["error"]["message"].replace(id, "conv_unknown") == unknown.json["error"]["message"]
    assert client.texts(id) == ["hello"]


def test_an_item_of_another_client_cannot_be_named(face: Face, client: Client) -> None:
    client.create(items=[{**HELLO, "id": "msg_1"}])
    answer = Client(face, "sk-somebody-else")("POST", body={"items": [{"id": "msg_1"}]})
    assert error_of(answer) == (400, "items", None)


# -- answers in a conversation ---------------------------------------------------------------------


@pytest.fixture(params=[True, False], ids=["streamed", "whole"])
def stream(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def roles(upstream: FakeUpstream) -> list[str]:
    """Who speaks in the messages of the latest request."""
    return [message["role"] for message in upstream.requests[-1].json()["messages"]]


@pytest.mark.parametrize("store", [True, False])
def test_what_is_asked_and_answered_is_added(
    face: Face, client: Client, upstream: FakeUpstream, stream: bool, store: bool
) -> None:
    id = client.create(items=[{"role": "developer", "content": "Be brief."}])["id"]
    for asked in ("one", "two"):
        face.finish(face.ask(input=asked, conversation=id, stream=stream, store=store))
    assert roles(upstream) == ["system", "user", "assistant", "user"]
    items = client("GET", f"/{id}/items", order="asc").json["data"]
    said = [item["role"] for item in items if item["type"] == "message"]
    assert said == ["developer", "user", "assistant", "user", "assistant"]


def test_a_response_can_be_gone_on_from_with_all_of_its_conversation(
    face: Face, client: Client, upstream: FakeUpstream
) -> None:
    id = client.create(items=[{"role": "developer", "content": "Be brief.", "id": "msg_1"}])["id"]
    face.ask(input="one", conversation=id)
    second = face.ask(input="two", conversation=id).json["id"]
    face.ask(input="three", conversation=id)
    face.ask(input="other", previous_response_id=second)
    said = [message["content"] for message in upstream.requests[-1].json()["messages"]]
    assert said == ["Be brief.", "one", "Hello", "two", "Hello", "other"]
    brought = face.request(
        "GET", f"/v1/responses/{second}/input_items", headers={"Authorization": f"Bearer {KEY}"}
    ).json["data"]
    assert [item["content"][0]["text"] for item in brought] == ["two"]


def test_an_answer_says_in_which_conversation_it_stands(face: Face, client: Client) -> None:
    id = client.create()["id"]
    assert face.ask(conversation={"id": id}).json["conversation"] == {"id": id}
    assert "conversation" not in face.ask().json


def test_what_failed_is_not_added(face: Face, client: Client, upstream: FakeUpstream, stream: bool) -> None:
    id = client.create(items=[HELLO])["id"]
    upstream.serve(cut_off)
    face.finish(face.ask(conversation=id, stream=stream))
    assert client.texts(id) == ["hello"]


def test_a_conversation_that_is_deleted_meanwhile_stays_so(face: Face, client: Client) -> None:
    id = client.create()["id"]
    answer = face.ask(conversation=id, stream=True)
    client("DELETE", f"/{id}")
    assert face.events(answer)[-1]["type"] == "response.completed"
    assert client("GET", f"/{id}").status_code == 404


def test_an_item_that_was_taken_out_is_not_told(face: Face, client: Client, upstream: FakeUpstream) -> None:
    id = client.create(items=[{**HELLO, "id": "msg_1"}, {**HELLO, "content": "bye"}])["id"]
    client("DELETE", f"/{id}/items/msg_1")
    face.finish(face.ask(conversation=id))
    said = [message["content"] for message in upstream.requests[-1].json()["messages"]]
    assert said == ["bye", "hi"]


@pytest.mark.parametrize(
    ("fields", "status", "param"),
    [
        ({"conversation": "conv_unknown"}, 404, "conversation"),
        ({"conversation": {"id": "conv_unknown"}}, 404, "conversation"),
        ({"conversation": 7}, 400, "conversation"),
        ({"conversation": {}}, 400, "conversation.id"),
        ({"conversation": "conv_1", "previous_response_id": "resp_1"}, 400, "previous_response_id"),
    ],
)
def test_a_conversation_that_cannot_be_gone_on_with(
    face: Face, upstream: FakeUpstream, fields: dict[str, Any], status: int, param: str
) -> None:
    assert error_of(face.ask(**fields))[:2] == (status, param)
    assert upstream.requests == []


def test_nobody_speaks_in_the_conversation_of_another(face: Face, client: Client) -> None:
    id = client.create(items=[HELLO])["id"]
    answer = face.ask({"Authorization": "Bearer sk-somebody-else"}, conversation=id)
    assert error_of(answer)[:2] == (404, "conversation")
    assert client.texts(id) == ["hello"]


# -- mistakes --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("", {"items": [HELLO] * 21}, "items"),
        ("", {"items": HELLO}, "items"),
        ("", {"items": ["hello"]}, "items[0]"),
        ("", {"items": [HELLO, {"content": "hello"}]}, "items[1].type"),
        ("", {"items": [{"role": "user", "content": 7}]}, "items[0].content"),
        ("", {"items": [{**CALL, "name": None}]}, "items[0].name"),
        ("", {"items": [{**HELLO, "id": "msg_1"}] * 2}, "items"),
        ("", {"metadata": {str(n): "" for n in range(17)}}, "metadata"),
        ("", {"metadata": {"k" * 65: ""}}, f"metadata.{'k' * 64}"),
        ("/{id}", {}, "metadata"),
        ("/{id}/items", {}, "items"),
        ("/{id}/items?include[]=everything", {"items": []}, "include[0]"),
    ],
)
def test_a_wrong_request_says_what_is_wrong(client: Client, path: str, body: object, param: str) -> None:
    path, _, query = path.format(id=client.create()["id"]).partition("?")
    answer = client("POST", path, body, **dict([query.split("=")] if query else []))
    status, named, _ = error_of(answer)
    assert (status, named) == (400, param)


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ({"limit": "0"}, "limit"),
        ({"limit": "101"}, "limit"),
        ({"order": "random"}, "order"),
        ({"after": "msg_unknown"}, "after"),
        ({"include": "everything"}, "include[0]"),
    ],
)
def test_a_wrong_page_says_what_is_wrong(client: Client, query: dict[str, str], param: str) -> None:
    id = client.create(items=[HELLO])["id"]
    status, named, _ = error_of(client("GET", f"/{id}/items", **query))
    assert (status, named) == (400, param)


def test_nothing_is_changed_by_a_request_that_is_refused(client: Client) -> None:
    id = client.create(items=[HELLO])["id"]
    client("POST", f"/{id}/items", {"items": [{**HELLO, "content": "two"}, {"role": "user", "content": 7}]})
    assert client.texts(id) == ["hello"]


def test_where_nothing_is_kept_there_are_none(make: Make) -> None:
    answer = Client(make(store_url="off"))("POST", body={})
    assert error_of(answer) == (404, None, "not_found")
    assert "'input'" in answer.json["error"]["message"]


def test_there_are_none_for_a_key_that_may_not_store(make: Make) -> None:
    key = "a-key-of-the-gateway-1"
    face = make(
        store_url="memory:", keys=[{"key": key, "name": "ann", "store": False}], deepseek_api_key="sk-own"
    )
    assert error_of(Client(face, key)("POST", body={})) == (404, None, "not_found")


def test_each_request_has_its_line(face: Face, client: Client) -> None:
    id = client.create()["id"]
    client("GET", f"/{id}")
    client("GET", "/conv_unknown")
    assert [(line["path"], line["status"]) for line in face.lines()] == [
        ("/v1/conversations", 200),
        (f"/v1/conversations/{id}", 200),
        ("/v1/conversations/conv_unknown", 404),
    ]
