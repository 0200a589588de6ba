"""Content parts of a message that hold more than text: images and files.

What DeepSeek could never see is refused with the path of the part. Refuses to know what a model sees
(`translate.history` does).
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote_to_bytes

from deepseek_proxy.errors import InvalidRequest
from deepseek_proxy.translate import fields
from deepseek_proxy.translate.history import ImagePart, TextPart


def image(part: Mapping[str, Any], path: str) -> ImagePart:
    """An image by its address; what it shows is looked at by nobody here."""
    given, key = part, "image_url"
    if isinstance(nested := part.get("image_url"), dict):  # Chat Completions' form
        given, key, path = nested, "url", f"{path}.image_url"
    source = given.get(key)
    if isinstance(source, str) and source.startswith(("data:", "http://", "https://")):
        detail = fields.string(given, "detail", path)
        # "auto" is what is meant where nothing is said: said or not, the prompt has the same bytes.
        return ImagePart(source, None if detail == "auto" else detail)
    if part.get("file_id") is not None:
        raise InvalidRequest(
            "Images by 'file_id' are not supported: send a data URL in 'image_url'.",
            param=f"{path}.file_id",
            code="unsupported_value",
        )
    raise fields.invalid_value(f"{path}.{key}", "expected a data URL or an http(s) URL.")


def file(part: Mapping[str, Any], path: str) -> TextPart:
    """A text file's content under its name. Anything but text is refused: DeepSeek would not see it."""
    if isinstance(nested := part.get("file"), dict):  # Chat Completions' form
        part, path = nested, f"{path}.file"
    name = fields.string(part, "filename", path) or "file"
    data = fields.string(part, "file_data", path)
    if data is None:
        key = "file_id" if part.get("file_id") is not None else "file_url"
        raise InvalidRequest(
            f"Files by '{key}' are not supported: send the text in 'file_data', as a data URL or base64.",
            param=f"{path}.{key}",
            code="unsupported_value",
        )
    try:
        text = _file_bytes(data).decode("utf-8")
        if "\0" in text:
            raise ValueError
    except ValueError:
        raise InvalidRequest(
            f"The file '{name}' is not UTF-8 text. Only text files are supported.",
            param=f"{path}.file_data",
            code="unsupported_file",
        ) from None
    return TextPart(f"{name}:\n{text}\n")


def _file_bytes(data: str) -> bytes:
    """The bytes of a data URL, or of bare base64. Raises ValueError."""
    if data.startswith("data:"):
        header, comma, payload = data.partition(",")
        if not comma:
            raise ValueError
        if not header.endswith(";base64"):
            return unquote_to_bytes(payload)
        data = payload
    try:
        return base64.b64decode(data, validate=True)
    except binascii.Error:
        raise ValueError from None
