"""The events of a stored stream, sent again: which part is asked for, and the end of one that has none.

A stored log is the bytes that were sent: whole frames, numbered one after another, without comments, and
`[DONE]` at its end. Refuses to know where it is kept, and what the events say.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import orjson

from deepseek_proxy.errors import InvalidRequest
from deepseek_proxy.translate import fields, jsontext, sse
from deepseek_proxy.translate.responses.emitter import Emitter

_FRAME_END: Final = b"\n\n"
_ITEM_DONE: Final = b"event: response.output_item.done\ndata: "
_FLAGS: Final = {"true": True, "1": True, "false": False, "0": False}

ABANDONED: Final = "The process of the gateway that made this response has ended. Send the request again."


def flag(query: Mapping[str, str], name: str) -> bool:
    """A boolean of a query string, as SDKs write it. Raises `InvalidRequest`."""
    text = query.get(name, "false")
    if text.lower() not in _FLAGS:
        raise fields.invalid_type(name, "a boolean", text)
    return _FLAGS[text.lower()]


def starting_after(query: Mapping[str, str]) -> int:
    """The sequence number behind which events are wanted, -1 for all. Raises `InvalidRequest`."""
    text = query.get("starting_after")
    if text is None:
        return -1
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise fields.invalid_type("starting_after", "a sequence number", text)
    return int(text)


def last_number(first: int, frames: bytes) -> int:
    """The sequence number of the last event in `frames`, whose first has the number `first`."""
    count = frames.count(_FRAME_END)
    return first + count - 1 - frames.endswith(sse.DONE_FRAME)


def behind(after: int, first: int, frames: bytes) -> bytes:
    """The part of `frames` behind the event with the number `after`; the first has the number `first`."""
    start = 0
    for _ in range(after - first + 1):
        end = frames.find(_FRAME_END, start)
        if end < 0:
            return b""
        start = end + len(_FRAME_END)
    return frames[start:]


def abandoned(response: Mapping[str, Any], log: bytes) -> dict[str, Any]:
    """A Response object that nobody will finish any more, as failed. Its items are those that its log has
    whole."""
    output = [
        orjson.loads(frame[len(_ITEM_DONE) :])["item"]
        for frame in log.split(_FRAME_END)
        if frame.startswith(_ITEM_DONE)
    ]
    error = {"code": "server_error", "message": ABANDONED}
    return {**response, "status": "failed", "error": error, "output": output}


def last_words(number: int, failed: Mapping[str, Any]) -> bytes:
    """The end of a stream that was `abandoned`: the frames from this sequence number on."""
    emitter = Emitter()
    emitter.next = number
    told = emitter.error({"type": "server_error", "param": None, **failed["error"]})
    return told + emitter.lifecycle("response.failed", jsontext.dumps(failed)) + sse.DONE_FRAME


def gone(id: str) -> InvalidRequest:
    """Events of a stored response are missing."""
    return InvalidRequest(f"The events of response '{id}' are not all stored: get the response itself.")
