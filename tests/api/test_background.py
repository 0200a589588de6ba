"""Background responses: queued, made without a client, watched, cancelled."""

from __future__ import annotations

import gc
import json
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from harness import deepseek
from harness.fake_upstream import FakeUpstream
from harness.halves import Halves
from harness.responses_grammar import assert_responses_grammar
from harness.waiting import wait_for

from deepseek_proxy.api.replaying import Listener
from tests.api.test_store_recorder import OWNER, everything, go_down
from tests.api.test_stored_responses import call, frames

Make = Callable[..., Any]

SECONDS = 10.0


def ended(face: Any, id: str) -> dict[str, Any]:
    """The response once it has ended."""
    until = time.monotonic() + SECONDS
    while time.monotonic() < until:
        found: dict[str, Any] = call(face, "GET", id).json
        if found["status"] not in ("queued", "in_progress"):
            return found
        time.sleep(0.02)
    raise AssertionError(f"still {found['status']}")


@pytest.fixture
def halves(upstream: FakeUpstream) -> Halves:
    """What the upstream does for as long as the test says nothing else."""
    upstream.serve(handler := Halves())
    return handler


# -- from queued to completed ---------------------------------------------------------------------


def test_it_is_queued_at_once_and_made_without_the_client(face: Any, halves: Halves) -> None:
    response = face.ask(background=True)
    begun = response.json
    response.close()
    assert (response.status_code, begun["status"]) == (200, "queued")
    assert (begun["background"], begun["store"], begun["output"], begun["usage"]) == (True, True, [], None)
    wait_for(lambda: call(face, "GET", begun["id"]).json["status"] == "in_progress")
    halves.curtain.set()
    made = ended(face, begun["id"])
    assert made["status"] == "completed"
    assert made["output"][-1]["content"][0]["text"] == "Hello"
    assert made["usage"]["input_tokens"] > 0
    assert not halves.left


def test_its_events_are_those_of_a_queued_response(face: Any) -> None:
    id = face.ask(background=True).json["id"]
    made = ended(face, id)
    events = face.events(call(face, "GET", f"{id}?stream=true"))
    assert [event["type"] for event in events[:3]] == [
        "response.created",
        "response.queued",
        "response.in_progress",
    ]
    assert [event["response"]["status"] for event in events[:3]] == ["queued", "queued", "in_progress"]
    assert assert_responses_grammar(events) == made


def listeners() -> int:
    gc.collect()
    return sum(type(each) is Listener for each in gc.get_objects())


def test_a_reader_that_has_left_is_not_spoken_to(face: Any, halves: Halves) -> None:
    id = face.ask(background=True).json["id"]
    wait_for(lambda: call(face, "GET", id).json["status"] == "in_progress")
    assert listeners() == 0
    reading, idle = (call(face, "GET", f"{id}?stream=true") for _ in range(2))
    assert next(iter(reading.response))
    assert listeners() == 2
    reading.close()
    idle.close()
    del reading, idle
    assert listeners() == 0
    halves.curtain.set()
    assert ended(face, id)["status"] == "completed"


def test_one_line_tells_of_it_when_it_has_ended(face: Any, halves: Halves) -> None:
    response = face.ask({"X-Request-ID": "req_mine"}, background=True)
    response.close()
    mine = [line for line in face.lines() if line["request_id"] == "req_mine"]
    assert mine == []
    halves.curtain.set()
    ended(face, response.json["id"])
    (line,) = wait_for(lambda: [line for line in face.lines() if line["request_id"] == "req_mine"])
    assert (line["status"], line["finish"], line["method"]) == (200, "stop", "POST")
    assert line["output_tokens"] > 0
    assert "client_gone" not in line or line["client_gone"] is False


def test_one_can_go_on_from_it_but_not_before_its_end(
    face: Any, upstream: FakeUpstream, halves: Halves
) -> None:
    id = face.ask(background=True, input="One?").json["id"]
    early = face.ask(previous_response_id=id).json["error"]
    assert (early["param"], early["code"]) == ("previous_response_id", None)
    halves.curtain.set()
    ended(face, id)
    upstream.serve(deepseek.answers())
    face.ask(previous_response_id=id, input="Two?")
    said = [message["content"] for message in upstream.requests[-1].json()["messages"]]
    assert said == ["One?", "Hello", "Two?"]


# -- watching it ----------------------------------------------------------------------------------


def test_it_can_be_streamed_from_the_start(face: Any, halves: Halves) -> None:
    response = face.ask(background=True, stream=True)
    assert response.mimetype == "text/event-stream"
    seen = b""
    for piece in response.iter_encoded():
        seen += piece
        if b'"delta":"Hel"' in piece:
            halves.curtain.set()
    assert seen.endswith(b"data: [DONE]\n\n")
    id = json.loads(seen.split(b"data: ")[1].split(b"\n")[0])["response"]["id"]
    assert call(face, "GET", f"{id}?stream=true").data == seen
    assert_responses_grammar([json.loads(f.split(b"\ndata: ")[1]) for f in frames(seen)[:-1]])


def test_who_leaves_the_stream_finds_it_going_on(face: Any, halves: Halves) -> None:
    response = face.ask(background=True, stream=True)
    seen = b""
    for piece in response.iter_encoded():
        seen += piece
        if b'"delta":"Hel"' in piece:
            break
    response.close()
    id = json.loads(seen.split(b"data: ")[1].split(b"\n")[0])["response"]["id"]
    last = json.loads(frames(seen)[-1].split(b"\ndata: ")[1])["sequence_number"]
    threading.Timer(0.2, halves.curtain.set).start()  # the client of the tests waits for the first bytes
    rest = call(face, "GET", f"{id}?stream=true&starting_after={last}").data
    whole = call(face, "GET", f"{id}?stream=true").data
    assert seen + rest == whole
    assert not halves.left


def test_a_second_reader_sees_it_all_and_live(face: Any, halves: Halves) -> None:
    id = face.ask(background=True).json["id"]
    reader = call(face, "GET", f"{id}?stream=true").iter_encoded()
    seen = b""
    while b'"delta":"Hel"' not in seen:
        seen += next(reader)
    halves.curtain.set()
    seen += b"".join(reader)
    assert seen == call(face, "GET", f"{id}?stream=true").data


# -- cancelling -----------------------------------------------------------------------------------


def test_cancelling_reaches_the_upstream(face: Any, halves: Halves) -> None:
    response = face.ask(background=True)
    id = response.json["id"]
    wait_for(lambda: b'"Hel"' in b"".join(p.data for p in face.gateway.store.events(OWNER, id).pieces))
    cancelled = call(face, "POST", f"{id}/cancel").json
    assert (cancelled["id"], cancelled["status"]) == (id, "cancelled")
    assert (cancelled["error"], cancelled["incomplete_details"], cancelled["completed_at"]) == (None,) * 3
    assert cancelled["output"][-1]["content"][0]["text"] == "Hel"
    wait_for(lambda: halves.left)
    assert call(face, "GET", id).json == cancelled
    assert call(face, "POST", f"{id}/cancel").json == cancelled
    events = face.events(call(face, "GET", f"{id}?stream=true"))
    assert events[-1]["type"] == "response.output_text.delta"
    response.close()


def test_cancelling_what_has_ended_changes_nothing(face: Any) -> None:
    made = ended(face, face.ask(background=True).json["id"])
    assert call(face, "POST", f"{made['id']}/cancel").json == made


def test_deleting_it_ends_it(face: Any, upstream: FakeUpstream, halves: Halves) -> None:
    id = face.ask(background=True).json["id"]
    wait_for(lambda: upstream.requests)
    assert call(face, "DELETE", id).json["deleted"] is True
    wait_for(lambda: halves.left)
    assert call(face, "GET", id).status_code == 404


# -- what goes wrong ------------------------------------------------------------------------------


def test_what_the_upstream_refuses_has_failed(face: Any, upstream: FakeUpstream) -> None:
    upstream.serve(deepseek.refuses(402, deepseek.error("Insufficient Balance", "unknown_error")))
    id = face.ask(background=True).json["id"]
    made = ended(face, id)
    assert (made["status"], made["error"]["code"]) == ("failed", "insufficient_quota")
    events = face.events(call(face, "GET", f"{id}?stream=true"))
    assert [event["type"] for event in events] == [
        *("response.created", "response.queued", "error", "response.failed")
    ]


def test_a_wrong_request_is_refused_at_once(face: Any) -> None:
    response = face.ask(background=True, temperature=9)
    assert (response.status_code, response.json["error"]["param"]) == (400, "temperature")
    assert everything(face) == 0


def test_so_is_one_that_the_key_does_not_allow(make: Make) -> None:
    key = "a-key-of-the-gateway-1"
    face = make(keys=[{"key": key, "name": "ann", "models": ["deepseek-v4-pro"]}], deepseek_api_key="sk-own")
    response = face.ask({"Authorization": f"Bearer {key}"}, background=True)
    assert response.status_code == 403
    assert everything(face) == 0


def test_the_place_of_its_key_is_taken_until_it_ends(
    make: Make, upstream: FakeUpstream, halves: Halves
) -> None:
    key = "a-key-of-the-gateway-1"
    face = make(keys=[{"key": key, "name": "ann", "max_concurrency": 1}], deepseek_api_key="sk-own")
    headers = {"Authorization": f"Bearer {key}"}
    face.ask(headers, background=True).close()
    assert face.ask(headers).status_code == 429
    upstream.serve(deepseek.answers())
    halves.curtain.set()
    wait_for(lambda: face.ask(headers).status_code == 200)


def test_it_is_never_made_where_it_cannot_be_kept(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    face = make(store_when_down="continue")
    go_down(face, monkeypatch)
    assert face.ask(background=True).status_code == 503


def test_at_the_end_of_the_process_it_says_so(face: Any, upstream: FakeUpstream, halves: Halves) -> None:
    id = face.ask(background=True).json["id"]
    wait_for(lambda: upstream.requests)
    face.gateway.drain.ends_at = time.monotonic()
    face.gateway.drain.finish()
    found = json.loads(face.gateway.store.get(OWNER, id).body)
    assert (found["status"], found["error"]["code"]) == ("failed", "server_error")
    assert not face.gateway.drain.working
    wait_for(lambda: halves.left)
