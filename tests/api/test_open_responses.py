"""The seventeen cases by which Open Responses calls a server compliant, in words of our own.

A real gateway with the simulator behind it. Every object is validated by itself, as the public suite does,
and the grammar of whole streams is judged besides, which it does not.
"""

from __future__ import annotations

import base64
import contextlib
import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import orjson
import pytest
from harness import open_responses
from harness.client import Reply
from harness.gateway import CLIENT_KEY, Gateway
from harness.responses import read_error, read_stream
from harness.responses_grammar import assert_responses_grammar
from harness.websocket import WebSocket

from deepseek_proxy.simulator import SimulatorConfig, running

Items = Sequence[Mapping[str, Any]]

WEATHER: Final = {
    "type": "function",
    "name": "get_weather",
    "description": "Says what the weather is like at a place.",
    "parameters": {
        "type": "object",
        "properties": {"place": {"type": "string", "description": "City and country."}},
        "required": ["place"],
    },
}


def message(role: str, content: Any, **fields: Any) -> dict[str, Any]:
    return {"type": "message", "role": role, "content": content, **fields}


def red_square() -> str:
    """A picture of 32 by 32 pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = (b"\0" + b"\xff\x20\x20" * 32) * 32
    header = struct.pack(">IIBBBBB", 32, 32, 8, 2, 0, 0, 0)
    data = (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )
    return f"data:image/png;base64,{base64.b64encode(data).decode()}"


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with contextlib.ExitStack() as stack:
        url = stack.enter_context(running(SimulatorConfig()))
        served = Gateway(tmp_path_factory.mktemp("open_responses"), url)
        stack.callback(served.stop)
        yield served


def post(gateway: Gateway, path: str, **body: Any) -> Reply:
    with gateway.call("POST", path, orjson.dumps(body), {"Content-Type": "application/json"}) as call:
        reply = call.reply()
        reply.body  # noqa: B018  # read to its end while the connection is there
        return reply


def respond(gateway: Gateway, items: Items, **fields: Any) -> dict[str, Any]:
    """A completed response, validated."""
    reply = post(gateway, "/v1/responses", model="deepseek-flash", input=items, **fields)
    assert reply.status == 200, reply.body
    body: dict[str, Any] = reply.json()
    open_responses.assert_response(body)
    return body


def text_of(response: Mapping[str, Any]) -> str:
    parts = (part for item in response["output"] if item["type"] == "message" for part in item["content"])
    return "".join(part["text"] for part in parts)


# -- one request, one answer ----------------------------------------------------------------------


def test_basic_response(gateway: Gateway) -> None:
    assert text_of(respond(gateway, [message("user", "Greet me in three words.")]))


def test_assistant_phase(gateway: Gateway) -> None:
    """Labels of earlier answers are taken."""
    history = [
        message("assistant", "I look for the number.", phase="commentary"),
        message("assistant", "It is seven.", phase="final_answer"),
        message("user", "Say the number alone."),
    ]
    respond(gateway, history)


def test_response_output_phase_schema(gateway: Gateway) -> None:
    """A label on an answer is valid, where there is one; null is not. We give none."""
    body = respond(gateway, [message("user", "Hello.")])
    assert all("phase" not in item for item in body["output"])
    (said,) = (item for item in body["output"] if item["type"] == "message")
    labelled = {**body, "output": [{**said, "phase": "commentary"}, {**said, "phase": "final_answer"}]}
    open_responses.assert_response(labelled)
    with pytest.raises(AssertionError):
        open_responses.assert_response({**body, "output": [{**said, "phase": None}]})


def test_system_prompt(gateway: Gateway) -> None:
    respond(gateway, [message("system", "Speak like a sailor."), message("user", "Hello.")])


def test_tool_calling(gateway: Gateway) -> None:
    asked = [message("user", "What is the weather like in Lisbon?")]
    body = respond(gateway, asked, tools=[WEATHER])
    (call,) = (item for item in body["output"] if item["type"] == "function_call")
    assert call["name"] == "get_weather"
    assert orjson.loads(call["arguments"]).keys() == {"place"}
    assert body["tools"][0].keys() >= {"description", "parameters", "strict"}


def test_image_input(gateway: Gateway) -> None:
    parts = [
        {"type": "input_text", "text": "Which colour is this?"},
        {"type": "input_image", "image_url": red_square()},
    ]
    respond(gateway, [message("user", parts)])


def test_multi_turn(gateway: Gateway) -> None:
    history = [
        message("user", "My name is Ada."),
        message("assistant", "Pleased to meet you, Ada."),
        message("user", "What is my name?"),
    ]
    assert "Ada" in text_of(respond(gateway, history))


def test_streaming_response(gateway: Gateway) -> None:
    with gateway.ask(input=[message("user", "Count to five.")]) as call:
        told = read_stream(call.reply())
    for event in told.events:
        open_responses.assert_event(event)
    open_responses.assert_response(told.final)


# -- compaction -----------------------------------------------------------------------------------

AGREED: Final = [
    message("user", "We open on Thursday, and tell the press the day before."),
    message("assistant", "Agreed: the press on Wednesday, the opening on Thursday."),
]


def compacted(gateway: Gateway, items: Items) -> dict[str, Any]:
    reply = post(
        gateway, "/v1/responses/compact", model="deepseek-flash", input=items, prompt_cache_key="opening"
    )
    assert reply.status == 200, reply.body
    body: dict[str, Any] = reply.json()
    open_responses.assert_compacted(body)
    return body


def test_compact_response(gateway: Gateway) -> None:
    kept, compaction = compacted(gateway, AGREED)["output"]
    assert kept["content"] == [{"type": "input_text", "text": AGREED[0]["content"]}]
    assert compaction.keys() == {"type", "id", "encrypted_content"}


def test_compact_missing_model(gateway: Gateway) -> None:
    reply = post(gateway, "/v1/responses/compact", input=[message("user", "Compact this.")])
    read_error(reply, 400, "missing_required_parameter", "model")


# -- WebSocket ------------------------------------------------------------------------------------


def connect(gateway: Gateway) -> WebSocket:
    return WebSocket(gateway.port, headers={"Authorization": f"Bearer {CLIENT_KEY}"})


def answered(socket: WebSocket, **fields: Any) -> dict[str, Any]:
    """The completed response to one message, each of its events validated."""
    events = socket.ask(**fields)
    for event in events:
        open_responses.assert_event(event)
    final = assert_responses_grammar(events)
    open_responses.assert_response(final)
    return dict(final)


def refused(socket: WebSocket, **fields: Any) -> dict[str, Any]:
    """The error in its envelope, and nothing besides."""
    (event,) = socket.ask(**fields)
    assert event["type"] == "error"
    assert isinstance(event["status"], int)
    assert event["error"].keys() >= {"code", "message"}
    error: dict[str, Any] = event["error"]
    assert error["code"]
    assert error["message"]
    return error


def test_websocket_response(gateway: Gateway) -> None:
    with connect(gateway) as socket:
        assert text_of(answered(socket, input=[message("user", "Count to three.")]))


def test_websocket_sequential_responses(gateway: Gateway) -> None:
    with connect(gateway) as socket:
        first = answered(socket, input="Say: first")
        second = answered(socket, input="Say: second")
    assert first["id"] != second["id"]


def test_websocket_continuation(gateway: Gateway) -> None:
    with connect(gateway) as socket:
        first = answered(socket, input="Remember the code word: heron. Say OK.")
        second = answered(
            socket, previous_response_id=first["id"], input="What is the code word? Say it alone."
        )
    assert second["previous_response_id"] == first["id"]
    assert "heron" in text_of(second)


def test_websocket_reconnect_store_false_recovery(gateway: Gateway) -> None:
    with connect(gateway) as socket:
        first = answered(socket, input="Remember the code word: osprey. Say OK.")
    with connect(gateway) as socket:
        error = refused(socket, previous_response_id=first["id"], input="What is the code word?")
        assert error["code"] == "previous_response_not_found"
        answered(socket, input="The code word is osprey. Say it.")


def test_websocket_previous_response_not_found(gateway: Gateway) -> None:
    with connect(gateway) as socket:
        error = refused(socket, previous_response_id="resp_of_nobody", input="Go on.")
    assert (error["code"], error["param"]) == ("previous_response_not_found", "previous_response_id")


def test_websocket_failed_continuation_evicts_cache(gateway: Gateway) -> None:
    """A result of a call that nobody made fails without asking DeepSeek, and the chain is gone."""
    unknown = {"type": "function_call_output", "call_id": "call_of_nobody", "output": "done"}
    with connect(gateway) as socket:
        first = answered(socket, input="Remember the code word: kestrel. Say OK.")
        refused(socket, previous_response_id=first["id"], input=[unknown])
        error = refused(socket, previous_response_id=first["id"], input="What is the code word?")
    assert error["code"] == "previous_response_not_found"


def test_websocket_compact_new_chain(gateway: Gateway) -> None:
    parts = [
        message("user", [{"type": "input_text", "text": AGREED[0]["content"]}]),
        message("assistant", [{"type": "output_text", "text": AGREED[1]["content"]}]),
    ]
    output = compacted(gateway, parts)["output"]
    with connect(gateway) as socket:
        answered(socket, input=[*output, message("user", "When do we tell the press?")])
