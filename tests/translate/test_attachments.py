from __future__ import annotations

import base64
from typing import Any

import pytest

from deepseek_proxy.errors import InvalidRequest
from deepseek_proxy.translate import attachments
from deepseek_proxy.translate.history import ImagePart, TextPart

PATH = "input[0].content[1]"
ENCODED = base64.b64encode("Grüße\n".encode()).decode()


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        ({"image_url": "https://example.com/a.png"}, ImagePart("https://example.com/a.png")),
        (
            {"image_url": "data:image/png;base64,AA", "detail": "high"},
            ImagePart("data:image/png;base64,AA", "high"),
        ),
        ({"image_url": "https://example.com", "detail": "auto"}, ImagePart("https://example.com")),
        (
            {"image_url": {"url": "http://example.com", "detail": "low"}},
            ImagePart("http://example.com", "low"),
        ),
    ],
)
def test_an_image_by_its_address(part: dict[str, Any], expected: ImagePart) -> None:
    assert attachments.image(part, PATH) == expected


@pytest.mark.parametrize(
    ("part", "param"),
    [
        ({"file_id": "file_1"}, f"{PATH}.file_id"),
        ({}, f"{PATH}.image_url"),
        ({"image_url": "file:///etc/passwd"}, f"{PATH}.image_url"),
        ({"image_url": "https://example.com", "detail": 5}, f"{PATH}.detail"),
        ({"image_url": {"url": {}}}, f"{PATH}.image_url.url"),
        ({"image_url": {"url": "https://example.com", "detail": 5}}, f"{PATH}.image_url.detail"),
    ],
)
def test_an_image_that_nobody_can_see_is_refused(part: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        attachments.image(part, PATH)
    assert refused.value.param == param


@pytest.mark.parametrize(
    "data",
    [ENCODED, f"data:text/plain;base64,{ENCODED}", "data:text/plain,Gr%C3%BC%C3%9Fe%0A"],
)
def test_a_text_file_is_its_text_under_its_name(data: str) -> None:
    given = {"filename": "a.txt", "file_data": data}
    assert attachments.file(given, PATH) == TextPart("a.txt:\nGrüße\n\n")
    assert attachments.file({"type": "file", "file": given}, PATH) == TextPart("a.txt:\nGrüße\n\n")


@pytest.mark.parametrize(
    ("part", "param"),
    [
        ({"file_id": "file_1"}, f"{PATH}.file_id"),
        ({"file_url": "https://example.com/a.txt"}, f"{PATH}.file_url"),
        ({"file_data": "not base64!"}, f"{PATH}.file_data"),
        ({"file": {"file_id": "file_1"}}, f"{PATH}.file.file_id"),
        ({"file_data": "data:text/plain"}, f"{PATH}.file_data"),
        ({"file_data": base64.b64encode(b"%PDF\xff").decode()}, f"{PATH}.file_data"),
        ({"file_data": base64.b64encode(b"a\0b").decode()}, f"{PATH}.file_data"),
    ],
)
def test_a_file_that_is_no_text_is_refused(part: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        attachments.file(part, PATH)
    assert refused.value.param == param
