from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from harness.histories import PNG

from deepseek_proxy.errors import InvalidRequest
from deepseek_proxy.translate.history import ImagePart, TextPart
from deepseek_proxy.translate.responses import attachments

PATH = "input[0].content[1]"


def refusal(
    read: Callable[[Mapping[str, Any], str], object], **part: Any
) -> tuple[str, str | None, str | None]:
    """(message, param, code) of the error."""
    with pytest.raises(InvalidRequest) as caught:
        read(part, PATH)
    return caught.value.message, caught.value.param, caught.value.code


# -- images ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("part", "image"),
    [
        ({"image_url": PNG}, ImagePart(PNG)),
        ({"image_url": PNG, "detail": "high"}, ImagePart(PNG, "high")),
        ({"image_url": "https://example.com/a.png"}, ImagePart("https://example.com/a.png")),
        (
            {"image_url": "http://example.com/a.png", "file_id": "file_1"},
            ImagePart("http://example.com/a.png"),
        ),
        ({"image_url": {"url": PNG}}, ImagePart(PNG)),  # as in Chat Completions
    ],
)
def test_an_image_by_its_address(part: dict[str, Any], image: ImagePart) -> None:
    assert attachments.image(part, PATH) == image


def test_an_uploaded_image_is_refused() -> None:
    assert refusal(attachments.image, file_id="file_1") == (
        "Images by 'file_id' are not supported: send a data URL in 'image_url'.",
        f"{PATH}.file_id",
        "unsupported_value",
    )


@pytest.mark.parametrize("url", [None, 5, "", "/tmp/a.png", "ftp://example.com/a.png", {"url": None}, []])
def test_an_image_without_an_address_is_refused(url: Any) -> None:
    assert refusal(attachments.image, image_url=url) == (
        f"Invalid '{PATH}.image_url': expected a data URL or an http(s) URL.",
        f"{PATH}.image_url",
        "invalid_value",
    )


# -- files ----------------------------------------------------------------------------------------


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


@pytest.mark.parametrize(
    ("data", "content"),
    [
        ("data:text/plain;base64," + encoded("ü\n".encode()), "ü\n"),
        ("data:text/plain;charset=utf-8;base64," + encoded(b"a"), "a"),
        ("data:text/plain,a%20b", "a b"),
        (encoded(b'{"a": 1}'), '{"a": 1}'),
        ("data:,", ""),
        ("", ""),
    ],
)
def test_a_text_file_is_put_in_under_its_name(data: str, content: str) -> None:
    part = {"filename": "notes.txt", "file_data": data}
    assert attachments.file(part, PATH) == TextPart(f"notes.txt:\n{content}\n")
    assert attachments.file({"file_data": data}, PATH) == TextPart(f"file:\n{content}\n")


@pytest.mark.parametrize(
    "data",
    [
        "data:application/pdf;base64," + encoded(b"%PDF-1.7\xff\xfe"),
        "data:text/plain;base64,!!!",
        "not base64 at all",
        encoded(b"a\0b"),
        "data:text/plain;base64",
    ],
)
def test_a_file_that_is_no_text_is_refused(data: str) -> None:
    assert refusal(attachments.file, filename="a.pdf", file_data=data) == (
        "The file 'a.pdf' is not UTF-8 text. Only text files are supported.",
        f"{PATH}.file_data",
        "unsupported_file",
    )


@pytest.mark.parametrize(
    ("key", "part"), [("file_id", {"file_id": "file_1"}), ("file_url", {"file_url": "x"})]
)
def test_a_file_that_is_not_in_the_request_is_refused(key: str, part: dict[str, Any]) -> None:
    assert refusal(attachments.file, **part) == (
        f"Files by '{key}' are not supported: send the text in 'file_data', as a data URL or base64.",
        f"{PATH}.{key}",
        "unsupported_value",
    )


def test_a_name_that_is_no_string_is_refused() -> None:
    assert refusal(attachments.file, filename=5, file_data="")[1:] == (f"{PATH}.filename", "invalid_type")
