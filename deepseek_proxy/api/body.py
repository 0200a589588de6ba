"""The JSON body of a request: read, decompressed and parsed, with a bound at every step."""

from __future__ import annotations

import sys
import zlib
from collections.abc import Callable, Mapping
from typing import Any, Final

from flask import Request
from werkzeug.exceptions import RequestEntityTooLarge

from deepseek_proxy.errors import (
    BodyCutOff,
    BodyTooLarge,
    InvalidRequest,
    RequestTimeout,
    UnsupportedEncoding,
)
from deepseek_proxy.settings import Settings
from deepseek_proxy.translate import fields, jsontext

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_MAX_ENCODINGS: Final = 2
_AUTO_WBITS: Final = 47  # gzip or zlib header, whichever is there


def read_object(request: Request, settings: Settings) -> Mapping[str, Any]:
    """The body as a JSON object. Raises `InvalidRequest`, `BodyTooLarge` or `UnsupportedEncoding`."""
    _check_content_type(request)
    limit = settings.max_body_bytes
    request.max_content_length = limit + 1  # werkzeug cuts a chunked body at its bound without a word
    try:
        data = request.get_data(cache=False)
    except RequestEntityTooLarge:
        raise _too_large(limit) from None
    except Exception as error:  # each server has exceptions of its own for this
        if isinstance(error, TimeoutError) or isinstance(error.__context__, TimeoutError):
            raise RequestTimeout("The rest of the request body did not come in time.") from None
        raise BodyCutOff("The request body is cut off, or its chunks are broken.") from None
    if len(data) > limit:
        raise _too_large(limit)
    encodings = [name.strip().lower() for name in request.headers.get("Content-Encoding", "").split(",")]
    if len(encodings) > _MAX_ENCODINGS:
        raise UnsupportedEncoding("Too many content encodings on one body.")
    for encoding in reversed(encodings):  # the last one named was applied last
        data = _decompress(encoding, data, limit)
    body = jsontext.loads(data, max_nesting=settings.max_nesting)
    if not isinstance(body, dict):
        raise InvalidRequest(f"The body is {fields.describe(body)}; expected a JSON object.")
    return body


def _check_content_type(request: Request) -> None:
    """Refuses what a page of another site could send from a browser on this machine without being asked.

    Browsers send plain text, forms and bodies of no type across sites without a preflight; any other
    client may leave the type out.
    """
    if request.is_json or (not request.content_type and not request.headers.get("Origin")):
        return
    raise InvalidRequest("The body must be JSON, sent with 'Content-Type: application/json'.")


def _decompress(encoding: str, data: bytes, limit: int) -> bytes:
    if encoding in ("", "identity"):
        return data
    codec = _CODECS.get(encoding)
    if codec is None:
        raise UnsupportedEncoding(
            f"Content-Encoding '{encoding[:40]}' is not supported. Accepted are: {', '.join(_CODECS)}."
        )
    try:
        # One byte more than allowed tells "exactly the limit" from "beyond it".
        plain, whole = codec(data, limit + 1)
    except (zlib.error, zstd.ZstdError, EOFError):
        raise InvalidRequest(f"The body is not valid {encoding} data.") from None
    if len(plain) > limit:
        raise _too_large(limit)
    if not whole:
        raise InvalidRequest(f"The body's {encoding} data is cut off.")
    return plain


def _inflate(data: bytes, limit: int) -> tuple[bytes, bool]:
    inflater = zlib.decompressobj(_AUTO_WBITS)
    try:
        plain = inflater.decompress(data, limit)
    except zlib.error:
        # "deflate" without the zlib header: wrong, and old enough to be accepted everywhere.
        inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        plain = inflater.decompress(data, limit)
    if inflater.unused_data:
        raise zlib.error("bytes after the end")  # which would be lost without a word
    return plain, inflater.eof


def _unzstd(data: bytes, limit: int) -> tuple[bytes, bool]:
    decompressor = zstd.ZstdDecompressor()
    plain = decompressor.decompress(data, limit)
    if decompressor.unused_data:
        raise zstd.ZstdError("bytes after the end")
    return plain, decompressor.eof


_CODECS: Final[Mapping[str, Callable[[bytes, int], tuple[bytes, bool]]]] = {
    "zstd": _unzstd,
    "gzip": _inflate,
    "x-gzip": _inflate,
    "deflate": _inflate,
}


def _too_large(limit: int) -> BodyTooLarge:
    return BodyTooLarge(f"The request body is larger than {limit} bytes.")
