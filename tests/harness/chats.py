"""The Chat Completions machine with nothing random in it, fed without a network; and what comes out, read.

Refuses to know HTTP.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, Final

from harness.machines import CREATED, TOOL_NAME_LIMIT, numbered_ids, table_of

from deepseek_proxy import models
from deepseek_proxy.translate.chat.emitter import Envelope
from deepseek_proxy.translate.chat.options import StreamOptions
from deepseek_proxy.translate.chat.request import ChatRequest, RequestContext
from deepseek_proxy.translate.chat.stream import ChatStream
from deepseek_proxy.translate.tools import ToolTable

ENVELOPE: Final = Envelope("chatcmpl-1", CREATED, "deepseek-flash")

Chunk = dict[str, Any]


def context(recall: Callable[[str], str | None] = lambda _: None, **changes: Any) -> RequestContext:
    """What `request.parse` needs. Names of no model are unknown; `changes` are fields of `RequestContext`."""
    fields: dict[str, Any] = {
        "resolve": lambda name: models.resolve(name, {}, None),
        "tool_name_limit": TOOL_NAME_LIMIT,
        "recall": recall,
        **changes,
    }
    return RequestContext(**fields)


def machine(tools: ToolTable | None = None, **changes: Any) -> ChatStream:
    """A machine for a request that says nothing special. `changes` are fields of `StreamOptions`."""
    fields: dict[str, Any] = {
        "tools": tools or table_of(),
        "new_id": numbered_ids(),
        "remember": lambda _key, _text: None,
        **changes,
    }
    return ChatStream(ENVELOPE, StreamOptions(**fields))


def machine_for(request: ChatRequest, **changes: Any) -> ChatStream:
    """The machine that answers `request`."""
    bound = {
        "tells_usage": request.tells_usage,
        "parallel_tool_calls": request.parallel_tool_calls,
        "legacy_functions": request.legacy_functions,
        "permitted": request.permitted,
        "search": request.search,
        "cites": not request.is_json,
    }
    return machine(request.tools, **{**bound, **changes})


def chunks_of(data: bytes) -> list[Chunk]:
    """The payloads in whole frames; comments and `[DONE]` are left out."""
    assert b"\r" not in data
    assert not data or data.endswith(b"\n\n")
    frames = [frame for frame in data.decode().split("\n\n")[:-1] if not frame.startswith(":")]
    assert all(frame.startswith("data: ") and "\n" not in frame for frame in frames)
    return [json.loads(frame[6:]) for frame in frames if frame != "data: [DONE]"]


def folded(data: bytes) -> Mapping[str, Any]:
    """The whole answer that a stream says, or its error; its form is checked on the way.

    A `usage` is there where the stream tells it.
    """
    chunks = chunks_of(data)
    if "error" in chunks[-1]:
        assert b"[DONE]" not in data
        return chunks[-1]
    assert data.endswith(b"\n\ndata: [DONE]\n\n")
    assert data.count(b"data: [DONE]\n\n") == 1
    usage = None
    if not chunks[-1]["choices"]:
        usage = chunks.pop()["usage"]
        assert all(chunk["usage"] is None for chunk in chunks)
    else:
        assert not any("usage" in chunk for chunk in chunks)
    assert all(_head(chunk) == _head(chunks[0]) for chunk in chunks)
    choices = [choice for chunk in chunks for choice in chunk["choices"]]
    assert len(choices) == len(chunks)
    assert [choice["finish_reason"] for choice in choices[:-1]] == [None] * (len(choices) - 1)
    assert choices[0]["delta"]["role"] == "assistant"
    assert all("role" not in choice["delta"] for choice in choices[1:])
    message: Chunk = {"role": "assistant", "content": None, "refusal": None}
    logprobs: list[Any] = []
    for choice in choices:
        _add(message, choice["delta"])
        logprobs += (choice["logprobs"] or {"content": []})["content"]
    whole = {
        "index": 0,
        "message": message,
        "logprobs": {"content": logprobs, "refusal": None} if logprobs else None,
        "finish_reason": choices[-1]["finish_reason"],
    }
    assert whole["finish_reason"]
    return {
        **_head(chunks[0]),
        "object": "chat.completion",
        "choices": [whole],
        **({"usage": usage} if usage else {}),
    }


def _head(chunk: Chunk) -> Chunk:
    assert chunk["object"] == "chat.completion.chunk"
    return {key: chunk[key] for key in ("id", "object", "created", "model", "system_fingerprint")}


def _add(message: Chunk, delta: Mapping[str, Any]) -> None:
    for key, value in delta.items():
        if key == "tool_calls":
            calls = message.setdefault("tool_calls", [])
            for piece in value:
                if piece["index"] == len(calls):
                    assert piece["id"]
                    calls.append({})
                _add(calls[piece["index"]], {k: v for k, v in piece.items() if k != "index"})
        elif isinstance(value, dict):
            _add(message.setdefault(key, {}), value)
        elif isinstance(value, list):
            message.setdefault(key, []).extend(value)
        elif isinstance(value, str) and key not in ("role", "type", "id", "name"):
            message[key] = (message.get(key) or "") + value
        elif value is not None:
            message[key] = value
