from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from deepseek_proxy.simulator import tokens


@given(st.text())
def test_nothing_is_lost(text: str) -> None:
    assert "".join(tokens.split(text)) == text


def test_pieces_are_about_a_token() -> None:
    assert tokens.split("Hello, the extraordinary 世界你好 \n\n x") == [
        "Hello",
        ",",
        " the",
        " extraord",
        "inary",
        " ",
        "世界",
        "你好",
        " \n\n ",
        "x",
    ]


def test_count_goes_by_size() -> None:
    assert [tokens.count(b"x" * size) for size in (0, 1, 4, 5)] == [0, 1, 1, 2]
