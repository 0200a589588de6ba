from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from deepseek_proxy.errors import InvalidRequest
from deepseek_proxy.translate.content import UNREADABLE_PART, ContentReader
from deepseek_proxy.translate.history import ImagePart, TextPart

PATH = "messages[0].content"
URL = "https://example.com/a.png"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (None, ()),
        ("Hi", (TextPart("Hi"),)),
        ([], ()),
        (["Hi", {"type": "text", "text": "there"}], (TextPart("Hi"), TextPart("there"))),
        ([{"type": "input_text", "text": ""}], (TextPart(""),)),
        ([{"type": "refusal", "refusal": "No."}], (TextPart("No."),)),
        ([{"type": "input_image", "image_url": URL}], (ImagePart(URL),)),
        ([{"type": "image_url", "image_url": {"url": URL}}], (ImagePart(URL),)),
        ([{"type": "file", "file": {"file_data": "data:,a"}}], (TextPart("file:\na\n"),)),
        ([{"type": "input_file", "file_data": "data:,a"}], (TextPart("file:\na\n"),)),
    ],
)
def test_parts_in_the_words_of_both_apis(content: Any, expected: Any) -> None:
    assert ContentReader(Counter()).parts(content, PATH) == expected


@pytest.mark.parametrize(
    ("content", "param"),
    [
        (5, PATH),
        ([5], f"{PATH}[0]"),
        ([{"type": "text"}], f"{PATH}[0].text"),
        ([{"type": "input_audio"}], f"{PATH}[0]"),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_path(content: Any, param: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        ContentReader(Counter()).parts(content, PATH)
    assert refused.value.param == param


def test_in_a_history_it_is_left_out() -> None:
    notes: Counter[str] = Counter()
    reader = ContentReader(notes)
    reader.is_fresh = False
    assert reader.parts([{"type": "input_audio"}], PATH) == (TextPart(UNREADABLE_PART),)
    assert notes == {"part_left_out": 1}


def test_unknown_parts_are_left_out_and_counted() -> None:
    notes: Counter[str] = Counter()
    assert ContentReader(notes).parts([{"type": "new"}, {"type": 5}, {}], PATH) == ()
    assert notes == {"part_left_out": 3}


def test_who_can_only_write_text_has_no_images() -> None:
    notes: Counter[str] = Counter()
    content = ["a", {"type": "image_url", "image_url": {"url": URL}}, "b"]
    assert ContentReader(notes).text(content, PATH, "\n\n") == "a\n\nb"
    assert notes == {"part_left_out": 1}
