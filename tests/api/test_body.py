"""Bodies of requests: every encoding, every bound, and nothing that is silently left out."""

from __future__ import annotations

import gzip
import io
import json
import tracemalloc
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from flask import Request
from werkzeug.test import EnvironBuilder

from deepseek_proxy.api.body import read_object, zstd
from deepseek_proxy.errors import BodyTooLarge, InvalidRequest, UnsupportedEncoding
from deepseek_proxy.settings import isolated

LIMIT = 1000
JSON = "application/json"
BODY = b'{"input": "h\xc3\xa4llo"}'
VALUE = {"input": "hällo"}


def raw_deflate(data: bytes) -> bytes:
    compressor = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return compressor.compress(data) + compressor.flush()


CODECS: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "gzip": ("gzip", gzip.compress),
    "x-gzip": ("x-gzip", gzip.compress),
    "deflate": ("deflate", zlib.compress),
    "raw deflate": ("deflate", raw_deflate),
    "zstd": ("zstd", zstd.compress),
}
every_codec = pytest.mark.parametrize(("name", "compress"), CODECS.values(), ids=CODECS)


def read(
    data: bytes, encoding: str | None = None, content_type: str | None = JSON, **headers: str
) -> Mapping[str, Any]:
    sent = {**headers, **({"Content-Encoding": encoding} if encoding is not None else {})}
    builder = EnvironBuilder(method="POST", data=data, content_type=content_type, headers=sent)
    return read_object(Request(builder.get_environ()), isolated(max_body_bytes=LIMIT, max_nesting=8))


def padded(size: int) -> bytes:
    """A body of exactly `size` bytes."""
    return b'{"input": "%b"}' % (b"x" * (size - 13))


@pytest.mark.parametrize("encoding", [None, "", "identity", "Identity"])
def test_a_plain_body(encoding: str | None) -> None:
    assert read(BODY, encoding) == VALUE


@every_codec
def test_a_compressed_body(name: str, compress: Callable[[bytes], bytes]) -> None:
    assert read(compress(BODY), name) == VALUE
    assert read(compress(BODY), name.upper()) == VALUE


def test_of_two_encodings_the_last_was_applied_last() -> None:
    assert read(zstd.compress(gzip.compress(BODY)), "gzip, zstd") == VALUE
    with pytest.raises(InvalidRequest, match="not valid gzip"):
        read(zstd.compress(gzip.compress(BODY)), "zstd, gzip")


@pytest.mark.parametrize("encoding", ["br", "compress", "gzip;q=1", "gzip, gzip, gzip", "x" * 500])
def test_other_encodings_are_refused(encoding: str) -> None:
    with pytest.raises(UnsupportedEncoding) as raised:
        read(gzip.compress(BODY), encoding)
    assert len(raised.value.message) < 200


# -- bounds ---------------------------------------------------------------------------------------


def test_the_limit_is_allowed_and_one_byte_more_is_not() -> None:
    assert len(padded(LIMIT)) == LIMIT
    assert read(padded(LIMIT))
    with pytest.raises(BodyTooLarge, match="1000 bytes"):
        read(padded(LIMIT + 1))


@every_codec
def test_it_holds_for_what_comes_out_of_the_compression(
    name: str, compress: Callable[[bytes], bytes]
) -> None:
    assert read(compress(padded(LIMIT)), name)
    with pytest.raises(BodyTooLarge):
        read(compress(padded(LIMIT + 1)), name)


@every_codec
def test_a_bomb_is_not_unpacked(name: str, compress: Callable[[bytes], bytes]) -> None:
    bomb = compress(b" " * (16 << 20))
    builder = EnvironBuilder(method="POST", data=bomb, content_type=JSON, headers={"Content-Encoding": name})
    request = Request(builder.get_environ())
    settings = isolated(max_body_bytes=1 << 18)
    tracemalloc.start()
    try:
        with pytest.raises(BodyTooLarge):
            read_object(request, settings)
        assert tracemalloc.get_traced_memory()[1] < 2 << 20
    finally:
        tracemalloc.stop()


def test_a_length_that_is_announced_is_refused_unread() -> None:
    class Untouched(io.BytesIO):
        def read(self, *_: object) -> bytes:
            raise AssertionError("the body was read")

    environ = EnvironBuilder(method="POST", content_type=JSON).get_environ()
    environ |= {"CONTENT_LENGTH": str(10 * LIMIT), "wsgi.input": Untouched()}
    with pytest.raises(BodyTooLarge):
        read_object(Request(environ), isolated(max_body_bytes=LIMIT))


@pytest.mark.parametrize(("size", "fits"), [(LIMIT, True), (LIMIT + 1, False), (50 * LIMIT, False)])
def test_a_body_of_unknown_length_has_the_same_limit(size: int, fits: bool) -> None:
    environ = EnvironBuilder(method="POST", content_type=JSON).get_environ()
    environ |= {"wsgi.input": io.BytesIO(padded(size)), "wsgi.input_terminated": True}
    if fits:
        assert read_object(Request(environ), isolated(max_body_bytes=LIMIT))
    else:
        with pytest.raises(BodyTooLarge):
            read_object(Request(environ), isolated(max_body_bytes=LIMIT))


def test_nesting_is_bounded() -> None:
    def nested(depth: int) -> bytes:
        return b'{"input": ' + b"[" * depth + b"]" * depth + b"}"

    assert read(nested(7))
    with pytest.raises(InvalidRequest, match="nest"):
        read(nested(8))


# -- damage ---------------------------------------------------------------------------------------


@every_codec
def test_a_compressed_body_that_is_cut_is_refused(name: str, compress: Callable[[bytes], bytes]) -> None:
    whole = compress(BODY)
    for length in range(len(whole)):
        with pytest.raises(InvalidRequest):
            read(whole[:length], name)


@pytest.mark.parametrize("name", ["gzip", "deflate", "zstd"])
def test_so_is_one_that_is_not_compressed_or_goes_on_after_its_end(name: str) -> None:
    compress = CODECS[name][1]
    for data in (BODY, b"\x00" * 40, compress(BODY) + b"more", compress(BODY) + compress(b" ")):
        with pytest.raises(InvalidRequest, match=f"not valid {name}"):
            read(data, name)


@pytest.mark.parametrize(
    ("body", "named"),
    [(b"[]", "array"), (b'"hi"', "string"), (b"1", "integer"), (b"null", "null"), (b"true", "boolean")],
)
def test_another_value_than_an_object_is_refused_by_its_name(body: bytes, named: str) -> None:
    with pytest.raises(InvalidRequest, match=rf"The body is .*{named}"):
        read(body)


@pytest.mark.parametrize("body", [b"", b"{", b"{'a': 1}", b"\xff{}", b'{"a": NaN}', b"{} {}"])
def test_what_is_no_json_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidRequest):
        read(body)


# -- other sites ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content_type", [JSON, "application/json; charset=utf-8", "application/vnd.x+json", None]
)
def test_json_under_its_names_and_none(content_type: str | None) -> None:
    assert read(BODY, content_type=content_type) == VALUE


@pytest.mark.parametrize(
    "content_type",
    ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "text/html"],
)
def test_what_a_foreign_page_could_send_is_refused(content_type: str) -> None:
    with pytest.raises(InvalidRequest, match="Content-Type: application/json"):
        read(BODY, content_type=content_type)


def test_so_is_a_body_of_no_type_from_a_page() -> None:
    with pytest.raises(InvalidRequest, match="Content-Type"):
        read(BODY, content_type=None, Origin="https://example.com")
    assert read(BODY, Origin="https://example.com") == VALUE  # which a browser asks leave for


def test_a_large_body_is_the_same_value() -> None:
    value = {"input": ["é" * 1000] * 100}
    environ = EnvironBuilder(method="POST", data=gzip.compress(json.dumps(value).encode()), content_type=JSON)
    environ.headers["Content-Encoding"] = "gzip"
    assert read_object(Request(environ.get_environ()), isolated()) == value
