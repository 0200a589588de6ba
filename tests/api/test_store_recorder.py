"""What is stored of a response, in either form, and what is stored of one that did not come to its end."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from harness import deepseek
from harness.fake_upstream import FakeUpstream
from harness.halves import Halves, pausing
from harness.wire import Wire

from deepseek_proxy.api.gateway import tenant_of
from deepseek_proxy.errors import StoreUnavailable
from deepseek_proxy.store.base import StoredResponse
from tests.api.conftest import KEY

Make = Callable[..., Any]

OWNER = tenant_of(KEY)

both_forms = pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])


def stored(face: Any, id: str) -> StoredResponse:
    found = face.gateway.store.get(OWNER, id)
    assert found is not None
    return found


def log_of(face: Any, id: str) -> bytes:
    events = face.gateway.store.events(OWNER, id)
    assert events.ended
    return b"".join(piece.data for piece in events.pieces)


def everything(face: Any) -> int:
    return face.gateway.store.usage().responses


# -- what is kept ---------------------------------------------------------------------------------


@both_forms
def test_a_response_is_stored_unless_the_client_says_no(face: Any, stream: bool) -> None:
    answer = face.final(face.ask(stream=stream))
    assert answer["store"] is True
    kept = stored(face, answer["id"])
    assert json.loads(kept.body) == answer
    assert (kept.status, kept.background, kept.conversation) == ("completed", False, None)


@both_forms
def test_what_shall_not_be_stored_is_not(face: Any, stream: bool) -> None:
    answer = face.final(face.ask(stream=stream, store=False))
    assert answer["store"] is False
    assert everything(face) == 0


@both_forms
def test_without_a_store_nothing_is_stored_and_that_is_said(make: Make, stream: bool) -> None:
    face = make(store_url="off")
    assert face.final(face.ask(stream=stream, store=True))["store"] is False


@both_forms
def test_a_key_that_may_not_store_does_not(make: Make, stream: bool) -> None:
    face = make(
        keys=[{"key": "a-key-of-the-gateway-1", "name": "ann", "store": False}], deepseek_api_key="sk-own"
    )
    headers = {"Authorization": "Bearer a-key-of-the-gateway-1"}
    assert face.final(face.ask(headers, stream=stream, store=True))["store"] is False
    assert everything(face) == 0


def test_the_log_is_the_stream_byte_for_byte(face: Any) -> None:
    response = face.ask(stream=True)
    sent = response.get_data()
    response.close()
    id = json.loads(sent.split(b"data: ")[1].split(b"\n")[0])["response"]["id"]
    assert log_of(face, id) == sent


def test_comments_are_in_no_log(make: Make, upstream: FakeUpstream) -> None:
    upstream.serve(pausing(0.6))
    face = make(heartbeat_seconds=0.1)
    response = face.ask(stream=True)
    sent = response.get_data()
    response.close()
    assert b": keep-alive\n\n" in sent
    id = json.loads(sent.split(b"data: ")[1].split(b"\n")[0])["response"]["id"]
    assert log_of(face, id) == sent.replace(b": keep-alive\n\n", b"")


def test_an_answer_that_was_not_streamed_has_the_log_of_its_stream(face: Any) -> None:
    answer = face.final(face.ask())
    frames = log_of(face, answer["id"]).split(b"\n\n")
    events = [json.loads(frame.split(b"\ndata: ")[1]) for frame in frames if frame.startswith(b"event: ")]
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert events[-1]["response"] == answer
    assert (events[0]["type"], events[-1]["type"]) == ("response.created", "response.completed")


def test_the_response_is_there_before_the_client_sees_its_end(face: Any) -> None:
    response = face.ask(stream=True)
    for frames in response.iter_encoded():
        if b"response.completed" in frames:
            id = json.loads(frames.split(b"data: ")[-2].split(b"\n")[0])["response"]["id"]
            assert stored(face, id).status == "completed"
    response.close()


# -- what did not come to its end -----------------------------------------------------------------


def opening_then_silence(_: Any, wire: Wire) -> None:
    wire.start_stream()
    wire.chunk(deepseek.opening() + deepseek.text("Half an ans"))
    wire.wait_closed(10)


def test_a_stream_whose_client_leaves_is_stored_as_cancelled(face: Any, upstream: FakeUpstream) -> None:
    upstream.serve(opening_then_silence)
    response = face.ask(stream=True)
    seen = b""
    for frames in response.iter_encoded():
        seen += frames
        if b"Half an ans" in frames:
            break
    response.close()
    id = json.loads(seen.split(b"data: ")[1].split(b"\n")[0])["response"]["id"]
    kept = stored(face, id)
    body = json.loads(kept.body)
    assert (kept.status, body["status"], body["incomplete_details"]) == ("cancelled", "cancelled", None)
    message = body["output"][-1]
    assert (message["status"], message["content"][0]["text"]) == ("incomplete", "Half an ans")
    assert log_of(face, id) == seen + b"data: [DONE]\n\n"


def test_a_stream_that_fails_is_stored_as_failed(face: Any, upstream: FakeUpstream) -> None:
    def cut(_: Any, wire: Wire) -> None:
        wire.start_stream()
        wire.chunk(deepseek.opening() + deepseek.text("Half"))
        wire.end()

    upstream.serve(cut)
    answer = face.final(face.ask(stream=True))
    assert (answer["status"], stored(face, answer["id"]).status) == ("failed", "failed")


@both_forms
def test_a_request_that_is_refused_leaves_nothing(face: Any, upstream: FakeUpstream, stream: bool) -> None:
    upstream.serve(deepseek.refuses(402, deepseek.error("Insufficient Balance", "unknown_error")))
    response = face.ask(stream=stream)
    assert response.status_code == 429
    assert everything(face) == 0


# -- when the store fails -------------------------------------------------------------------------


class Down:
    """What a backend does that cannot be reached: every method raises."""

    name = "down"

    def __getattr__(self, _name: str) -> Callable[..., Any]:
        def fail(*_args: Any) -> Any:
            raise StoreUnavailable("The disk is full.")

        return fail


def go_down(face: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(face.gateway.store, "backend", Down())
    monkeypatch.setattr(face.gateway.store._keeper, "_backend", Down())


@both_forms
def test_a_store_that_is_down_refuses(face: Any, monkeypatch: pytest.MonkeyPatch, stream: bool) -> None:
    go_down(face, monkeypatch)
    response = face.ask(stream=stream)
    assert (response.status_code, response.json["error"]["code"]) == (503, "store_unavailable")
    assert "Retry-After" in response.headers


@both_forms
def test_or_the_answer_comes_and_says_that_it_is_not_stored(
    make: Make, monkeypatch: pytest.MonkeyPatch, stream: bool
) -> None:
    face = make(store_when_down="continue")
    go_down(face, monkeypatch)
    response = face.ask(stream=stream)
    assert face.final(response)["store"] is False
    assert response.headers["X-DeepSeek-Proxy-Warning"] == "This response is not stored: The disk is full."


@both_forms
def test_what_is_not_to_be_stored_needs_no_store(
    face: Any, monkeypatch: pytest.MonkeyPatch, stream: bool
) -> None:
    go_down(face, monkeypatch)
    response = face.ask(stream=stream, store=False)
    assert face.final(response)["status"] == "completed"
    assert "X-DeepSeek-Proxy-Warning" not in response.headers


def test_a_store_that_fails_in_the_middle_gets_the_answer_later(
    face: Any, upstream: FakeUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    halves = Halves()
    upstream.serve(halves)
    response = face.ask(stream=True)
    first = next(response.iter_encoded())
    id = json.loads(first.split(b"data: ")[1].split(b"\n")[0])["response"]["id"]
    with monkeypatch.context() as failing:
        go_down(face, failing)
        halves.curtain.set()
        assert face.events(response)[-1]["type"] == "response.completed"
    response.close()
    face.gateway.store.close()
    assert stored(face, id).status == "completed"
