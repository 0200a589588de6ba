"""The Responses machine with nothing random in it, fed without a network; and what comes out, read back.

Ids are numbered, the clock stands still, and a seal is readable. Refuses to know HTTP.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from itertools import pairwise
from typing import Any, Final

from harness.client import Frame
from harness.responses_grammar import assert_responses_grammar

from deepseek_proxy import models
from deepseek_proxy.pipeline import Turn
from deepseek_proxy.tokenizer.encoding import Counter as TokenCounter
from deepseek_proxy.translate import ids
from deepseek_proxy.translate.chat.request import ChatRequest
from deepseek_proxy.translate.fences import Filter, Unfenced
from deepseek_proxy.translate.markup import Healer, Mode
from deepseek_proxy.translate.responses import parameters
from deepseek_proxy.translate.responses.request import RequestContext, ResponsesRequest
from deepseek_proxy.translate.responses.response import Envelope
from deepseek_proxy.translate.responses.stream import ResponseStream, StreamOptions
from deepseek_proxy.translate.sealed import Purpose
from deepseek_proxy.translate.tools import Tool, ToolTable

CREATED: Final = 1_795_000_000
COMPLETED: Final = CREATED + 2
MAX_EVENT_BYTES: Final = 1 << 20
TOOL_NAME_LIMIT: Final = 64

Event = dict[str, Any]


def numbered_ids() -> ids.NewId:
    """`msg_1`, `msg_2`, `rs_1`, …"""
    made: Counter[str] = Counter()

    def new_id(prefix: str) -> str:
        made[prefix] += 1
        return f"{prefix}_{made[prefix]}"

    return new_id


def seal(purpose: Purpose, text: str) -> str:
    return f"sealed {purpose}: {text}"


def unseal(purpose: Purpose, token: str) -> str | None:
    opened = token.removeprefix(f"sealed {purpose}: ")
    return opened if opened != token else None


def context(recall: Callable[[str], str | None] = lambda _: None, **changes: Any) -> RequestContext:
    """What `request.parse` needs. Names of no model are unknown; `changes` are fields of `RequestContext`."""
    fields: dict[str, Any] = {
        "resolve": lambda name: models.resolve(name, {}, None),
        "tool_name_limit": TOOL_NAME_LIMIT,
        "unseal": unseal,
        "recall": recall,
        "count": TokenCounter(),
        **changes,
    }
    return RequestContext(**fields)


def table_of(*tools: Tool) -> ToolTable:
    table = ToolTable(TOOL_NAME_LIMIT)
    for tool in tools:
        table.declare(tool, None, {})
    return table


def envelope() -> Envelope:
    """Of a response to a request that says nothing special."""
    return Envelope("resp_1", CREATED, "deepseek-flash", parameters.echo({}, "high", parallel=True))


def machine(tools: ToolTable | None = None, **changes: Any) -> ResponseStream:
    """A machine for a request that says nothing special. `changes` are fields of `StreamOptions`."""
    return ResponseStream(envelope(), options(tools, **changes))


def machine_for(request: ResponsesRequest, **changes: Any) -> ResponseStream:
    """The machine that answers `request`."""
    own = Envelope("resp_1", CREATED, request.resolved.requested, request.echo)
    bound = {"parallel_tool_calls": request.parallel_tool_calls, "permitted": request.permitted}
    return ResponseStream(own, options(request.tools, **{**bound, **changes}))


def options(tools: ToolTable | None = None, **changes: Any) -> StreamOptions:
    fields: dict[str, Any] = {
        "tools": tools or table_of(),
        "new_id": numbered_ids(),
        "seal": seal,
        "remember": lambda _call_id, _thinking: None,
        "now": lambda: COMPLETED,
        **changes,
    }
    return StreamOptions(**fields)


def healer_for(tools: ToolTable, mode: Mode = "recover") -> Healer:
    new_id = numbered_ids()
    return Healer(mode, tools.declared_names, MAX_EVENT_BYTES, lambda: new_id("call_healed"))


def filter_for(request: ResponsesRequest | ChatRequest) -> Filter:
    """What stands before the machine that answers `request`."""
    healer = healer_for(request.tools)
    return Unfenced(healer) if "response_format" in request.upstream else healer


def turn(answering: ResponseStream, healer: Filter | None = None) -> Turn:
    return Turn(answering, healer or healer_for(table_of()), MAX_EVENT_BYTES)


def play(pieces: Iterable[bytes], playing: Turn) -> bytes:
    """All the bytes that a client gets for an upstream answer in these pieces, and which then ends."""
    frames = [playing.machine.start()]
    for piece in pieces:
        if playing.ended:
            break
        frames.append(playing.feed(piece))
    if not playing.ended:
        frames.append(playing.eof())
    return b"".join(frames)


def cut(data: bytes, cuts: Iterable[int]) -> list[bytes]:
    """`data` in the pieces that cutting it at `cuts`, any numbers, makes."""
    edges = sorted({0, len(data), *(place % (len(data) + 1) for place in cuts)})
    return [data[a:b] for a, b in pairwise(edges)]


def events_of(data: bytes) -> list[Event]:
    """The events in whole frames; `[DONE]` and comments are left out."""
    assert b"\r" not in data
    assert not data or data.endswith(b"\n\n")
    frames = [Frame(0, raw) for raw in data.decode().split("\n\n")[:-1]]
    return [frame.event for frame in frames if not (frame.is_comment or frame.is_done)]


def judged(data: bytes) -> Mapping[str, Any]:
    """The final Response of a whole stream, whose grammar is good and which ends in `[DONE]`."""
    assert data.endswith(b"\n\ndata: [DONE]\n\n")
    assert data.count(b"data: [DONE]\n\n") == 1
    return assert_responses_grammar(events_of(data))


def completion_of(chunks: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The `chat.completion`, or the error, that says what a stream of chunks says."""
    message: dict[str, Any] = {"role": "assistant", "content": ""}
    calls: dict[int, dict[str, Any]] = {}
    logprobs: list[Any] = []
    finish_reason, usage, fingerprint = None, None, None
    for chunk in chunks:
        if "error" in chunk:
            return dict(chunk)
        usage = chunk.get("usage") or usage
        fingerprint = chunk.get("system_fingerprint") or fingerprint
        for choice in chunk["choices"]:
            finish_reason = finish_reason or choice["finish_reason"]
            logprobs += (choice.get("logprobs") or {}).get("content") or ()
            for key in ("content", "reasoning_content", "refusal"):
                if isinstance(text := choice["delta"].get(key), str):
                    message[key] = message.get(key, "") + text
            for delta in choice["delta"].get("tool_calls") or ():
                call = calls.setdefault(delta["index"], {**delta, "function": {"arguments": ""}})
                arguments = call["function"]["arguments"] + delta["function"].get("arguments", "")
                call["function"] |= {**delta["function"], "arguments": arguments}
    if calls:
        message["tool_calls"] = [*calls.values()]
    choice = {
        "index": 0,
        "message": message,
        "logprobs": {"content": logprobs} if logprobs else None,
        "finish_reason": finish_reason,
    }
    return {
        "id": "9e2c1c9a-7f55-4b9a-9d51-0f6f2f8e5a11",
        "object": "chat.completion",
        "created": CREATED,
        "model": "deepseek-flash",
        "choices": [choice],
        "usage": usage,
        "system_fingerprint": fingerprint,
    }


def payloads_of(stream: bytes) -> list[Any]:
    """The chunks of an upstream stream, `[DONE]` left out."""
    lines = stream.decode().replace("\r\n", "\n").split("\n")
    return [json.loads(line[6:]) for line in lines if line.startswith("data: ") and line != "data: [DONE]"]
