"""What clients may send: compressed, chunked, odd; and the clear 4xx for what nobody could act on."""

from __future__ import annotations

import gzip
import sys
import zlib
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from harness.fake_upstream import FakeUpstream
from harness.gateway import PROMPT, Gateway
from harness.responses import read_error, read_stream

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

MIB = 1 << 20  # max_body_bytes here
JSON = {"Content-Type": "application/json"}
GOOD = orjson.dumps({"model": "deepseek-flash", "input": PROMPT, "stream": True})

COMPRESSORS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "zstd": zstd.compress,
}


def raw_deflate(data: bytes) -> bytes:
    """What some clients mean by `deflate`, against the RFC."""
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


def post_error(
    gateway: Gateway, body: bytes, status: int, code: str | None, param: str | None = None, **headers: str
) -> dict[str, Any]:
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    with gateway.call("POST", "/v1/responses", body, {**JSON, **fields}) as call:
        return read_error(call.reply(), status, code, param)


# -- encodings


@pytest.mark.parametrize("encoding", COMPRESSORS)
def test_compressed_bodies_are_read(any_gateway: Gateway, upstream: FakeUpstream, encoding: str) -> None:
    body = COMPRESSORS[encoding](GOOD)
    headers = {**JSON, "Content-Encoding": encoding}
    with any_gateway.call("POST", "/v1/responses", body, headers) as call:
        assert read_stream(call.reply()).text == "Hello"
    assert PROMPT in upstream.requests[0].body.decode()


def test_raw_deflate_is_read(gateway: Gateway) -> None:
    headers = {**JSON, "Content-Encoding": "deflate"}
    with gateway.call("POST", "/v1/responses", raw_deflate(GOOD), headers) as call:
        assert read_stream(call.reply()).text == "Hello"


@pytest.mark.parametrize("encoding", ["identity", "GZIP", "x-gzip"])
def test_other_spellings_of_an_encoding(gateway: Gateway, encoding: str) -> None:
    body = GOOD if encoding == "identity" else gzip.compress(GOOD)
    with gateway.call("POST", "/v1/responses", body, {**JSON, "Content-Encoding": encoding}) as call:
        assert read_stream(call.reply()).text == "Hello"


@pytest.mark.parametrize("encoding", COMPRESSORS)
def test_a_bomb_is_refused(gateway: Gateway, upstream: FakeUpstream, encoding: str) -> None:
    bomb = COMPRESSORS[encoding](b" " * (64 * MIB) + GOOD)
    assert len(bomb) < MIB
    post_error(gateway, bomb, 413, "request_too_large", Content_Encoding=encoding)
    assert upstream.requests == []


@pytest.mark.parametrize("encoding", COMPRESSORS)
@pytest.mark.parametrize("damage", ["cut", "garbage", "plain"])
def test_a_damaged_compressed_body_is_a_400(gateway: Gateway, encoding: str, damage: str) -> None:
    packed = COMPRESSORS[encoding](GOOD)
    body = {"cut": packed[:-8], "garbage": packed[:12] + b"\xff" * 20, "plain": GOOD}[damage]
    post_error(gateway, body, 400, None, Content_Encoding=encoding)


@pytest.mark.parametrize("encoding", ["br", "gzip, gzip, gzip", "nonsense"])
def test_an_encoding_that_is_not_offered_is_a_415(gateway: Gateway, encoding: str) -> None:
    post_error(gateway, GOOD, 415, "unsupported_content_encoding", Content_Encoding=encoding)


# -- size and form


def test_a_body_over_the_limit_is_refused(any_gateway: Gateway, upstream: FakeUpstream) -> None:
    post_error(any_gateway, GOOD + b" " * MIB, 413, "request_too_large")
    assert upstream.requests == []


def test_a_body_just_under_the_limit_passes(gateway: Gateway) -> None:
    with gateway.call("POST", "/v1/responses", GOOD + b" " * (MIB - len(GOOD)), JSON) as call:
        assert read_stream(call.reply()).text == "Hello"


def chunked(body: bytes, size: int = 4096) -> bytes:
    pieces = (body[start : start + size] for start in range(0, len(body), size))
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


CHUNKED = {**JSON, "Transfer-Encoding": "chunked"}


def test_a_chunked_body_is_read(gateway: Gateway) -> None:
    with gateway.call("POST", "/v1/responses", chunked(GOOD), CHUNKED) as call:
        assert read_stream(call.reply()).text == "Hello"


def test_a_chunked_body_over_the_limit_is_refused(gateway: Gateway) -> None:
    body = chunked(GOOD + b" " * MIB)
    with gateway.call("POST", "/v1/responses", body, CHUNKED) as call:
        read_error(call.reply(), 413, "request_too_large")


def nested(depth: int) -> bytes:
    inside = b"[" * depth + b"]" * depth
    return GOOD[:-1] + b',"metadata":' + inside + b"}"


@pytest.mark.parametrize("depth", [101, 1000, 200_000])
def test_deep_nesting_is_a_400(gateway: Gateway, depth: int) -> None:
    with gateway.call("POST", "/v1/responses", nested(depth), JSON) as call:
        reply = call.reply()
        error = reply.json()["error"]
    assert reply.status == 400
    assert "nest" in error["message"]
    assert len(reply.body) < 2000, "the path of the place is as deep as the place"


@pytest.mark.parametrize("number", [b"NaN", b"Infinity", b"-Infinity", b"1e999"])
def test_a_number_that_is_none_is_a_400(gateway: Gateway, number: bytes) -> None:
    with gateway.call("POST", "/v1/responses", GOOD[:-1] + b',"temperature":' + number + b"}", JSON) as call:
        reply = call.reply()
        assert reply.status == 400
        assert reply.json()["error"].keys() == {"message", "type", "param", "code"}


@pytest.mark.parametrize("escape", [rb"\ud800", rb"\udc00x", rb"\ud800\ud800", rb"\udc00\ud800"])
def test_lone_surrogates_are_accepted(gateway: Gateway, upstream: FakeUpstream, escape: bytes) -> None:
    body = GOOD.replace(PROMPT.encode(), b"broken " + escape + b" text")
    with gateway.call("POST", "/v1/responses", body, JSON) as call:
        assert read_stream(call.reply()).text == "Hello"
    # DeepSeek answers a lone surrogate with "unexpected end of hex escape".
    sent = upstream.requests[0].body
    assert sent.decode("utf-8")
    assert b"broken" in sent
    assert orjson.loads(sent)["messages"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"   ",
        b"{",
        GOOD[:-1],
        GOOD + b"}",
        b"null",
        b"[]",
        b'"text"',
        b"5",
        b"\xff\xfe{}",
        GOOD.replace(b"canary", b"can\xffry"),
        GOOD.replace(b"canary", b"can\x00ry"),
        b"{'input': 'single quotes'}",
    ],
)
def test_a_body_that_is_no_json_object_is_a_400(
    gateway: Gateway, upstream: FakeUpstream, body: bytes
) -> None:
    post_error(gateway, body, 400, None)
    assert upstream.requests == []


@pytest.mark.parametrize(
    "content_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"]
)
def test_another_content_type_is_a_400(gateway: Gateway, content_type: str) -> None:
    error = post_error(gateway, GOOD, 400, None, Content_Type=content_type)
    assert "application/json" in error["message"]


@pytest.mark.parametrize("content_type", ["application/json; charset=utf-8", "application/vnd.api+json", ""])
def test_json_under_its_other_names(gateway: Gateway, content_type: str) -> None:
    with gateway.call("POST", "/v1/responses", GOOD, {"Content-Type": content_type}) as call:
        assert read_stream(call.reply()).text == "Hello"


def test_a_byte_order_mark_is_survived(gateway: Gateway) -> None:
    with gateway.call("POST", "/v1/responses", b"\xef\xbb\xbf" + GOOD, JSON) as call:
        assert call.reply().status in (200, 400)


# -- fields


MISSING = "missing_required_parameter"
WRONG_FIELDS: list[tuple[dict[str, Any], str, str | None]] = [
    ({"input": None}, "input", MISSING),
    ({"input": 5}, "input", "invalid_type"),
    ({"input": {}}, "input", "invalid_type"),
    ({"input": [5]}, "input[0]", "invalid_type"),
    ({"input": ["text"]}, "input[0]", "invalid_type"),
    ({"input": [{"role": "user", "content": 5}]}, "input[0].content", "invalid_type"),
    ({"input": [{"role": "user", "content": [5]}]}, "input[0].content[0]", "invalid_type"),
    ({"input": [{"role": "user", "content": [{"type": "input_text"}]}]}, "input[0].content[0].text", MISSING),
    ({"model": 5}, "model", "invalid_type"),
    ({"stream": "yes"}, "stream", "invalid_type"),
    ({"instructions": 5}, "instructions", "invalid_type"),
    ({"temperature": "hot"}, "temperature", "invalid_type"),
    ({"temperature": 3}, "temperature", "decimal_above_max_value"),
    ({"temperature": True}, "temperature", "invalid_type"),
    ({"top_p": -1}, "top_p", "decimal_below_min_value"),
    ({"max_output_tokens": 0}, "max_output_tokens", "integer_below_min_value"),
    ({"max_output_tokens": 1.5}, "max_output_tokens", "invalid_type"),
    ({"max_output_tokens": "8"}, "max_output_tokens", "invalid_type"),
    ({"tools": {}}, "tools", "invalid_type"),
    ({"tools": [5]}, "tools[0]", "invalid_type"),
    ({"tools": [{"type": "function"}]}, "tools[0].name", MISSING),
    (
        {"tools": [{"type": "function", "name": "f", "parameters": "x"}]},
        "tools[0].parameters",
        "invalid_type",
    ),
    ({"tool_choice": 5}, "tool_choice", "invalid_value"),
    ({"tool_choice": {"type": "function", "name": "absent"}}, "tool_choice", None),
    ({"parallel_tool_calls": "no"}, "parallel_tool_calls", "invalid_type"),
    ({"reasoning": "high"}, "reasoning", "invalid_type"),
    ({"text": "json"}, "text", "invalid_type"),
    ({"text": {"format": {"type": "xml"}}}, "text.format.type", "invalid_value"),
    ({"text": {"format": {"type": "json_schema", "name": "x"}}}, "text.format.schema", "invalid_json_schema"),
    ({"top_logprobs": 21}, "top_logprobs", "integer_above_max_value"),
    ({"include": "all"}, "include", "invalid_type"),
    ({"metadata": "x"}, "metadata", "invalid_type"),
    ({"metadata": {str(n): "x" for n in range(17)}}, "metadata", "invalid_value"),
]


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize(("fields", "param", "code"), WRONG_FIELDS, ids=lambda value: str(value)[:60])
def test_a_wrong_field_is_named(
    gateway: Gateway,
    upstream: FakeUpstream,
    fields: dict[str, Any],
    param: str,
    code: str | None,
    stream: bool,
) -> None:
    body = {"model": "deepseek-flash", "input": PROMPT, "stream": stream, **fields}
    error = post_error(gateway, orjson.dumps(body), 400, code, param)
    assert error["type"] == "invalid_request_error"
    assert upstream.requests == []


def test_a_missing_input_is_named(gateway: Gateway, upstream: FakeUpstream) -> None:
    post_error(gateway, b'{"model": "deepseek-flash"}', 400, MISSING, "input")
    assert upstream.requests == []


def test_unknown_fields_are_ignored(gateway: Gateway, upstream: FakeUpstream) -> None:
    with gateway.ask(client_metadata={"x": 1}, no_such_field=[1, 2]) as call:
        assert read_stream(call.reply()).text == "Hello"
    assert b"no_such_field" not in upstream.requests[0].body


# -- routes


@pytest.mark.parametrize("path", ["/", "/v1", "/v1/nothing", "/v2/responses", "/%ff%00", "/a//b/../c"])
def test_an_unknown_route_is_a_404(gateway: Gateway, path: str) -> None:
    with gateway.call("POST", path, GOOD, JSON) as call:
        read_error(call.reply(), 404, "not_found")


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH", "BREW"])
def test_a_wrong_method_is_a_405(gateway: Gateway, method: str) -> None:
    with gateway.call(method, "/v1/responses", b"", JSON) as call:
        reply = call.reply()
        read_error(reply, 405, "method_not_allowed")
    assert "POST" in reply.headers["allow"]


@pytest.mark.parametrize("path", ["/responses", "/v1/responses?beta=true"])
def test_the_other_addresses_of_the_route(gateway: Gateway, path: str) -> None:
    with gateway.call("POST", path, GOOD, JSON) as call:
        assert read_stream(call.reply()).text == "Hello"
