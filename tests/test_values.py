"""Types of single settings; that mistakes in them are told with their place: tests/test_settings.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from deepseek_proxy.values import Host, Origins, Seconds, TextFile, listed


def test_lists_as_the_environment_holds_them() -> None:
    assert listed("one, two,,three ") == ("one", "two", "three")
    assert listed(' ["one", {"two": 2}]') == ["one", {"two": 2}]
    assert listed("") == ()
    given = ["one"]
    assert listed(given) is given
    with pytest.raises(ValueError, match="not JSON"):
        listed("[one")


@pytest.mark.parametrize(
    ("kind", "good", "meant"),
    [
        (Host, "[::1]", "::1"),
        (Host, "127.0.0.1", "127.0.0.1"),
        (Seconds, "1.5", 1.5),
        (Origins, "https://app.example,*", ("https://app.example", "*")),
    ],
)
def test_what_is_taken(kind: Any, good: Any, meant: Any) -> None:
    assert TypeAdapter(kind).validate_python(good) == meant


@pytest.mark.parametrize(("kind", "wrong"), [(Seconds, 0), (Seconds, float("inf")), (Origins, "app.example")])
def test_what_is_not(kind: Any, wrong: Any) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(kind).validate_python(wrong)


def test_a_text_file_can_be_read(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with pytest.raises(ValidationError, match="cannot be read: No such file"):
        TypeAdapter(TextFile).validate_python(path)
    path.write_bytes(b"\xff")
    with pytest.raises(ValidationError, match="is not a text file"):
        TypeAdapter(TextFile).validate_python(path)
    path.write_text("text")
    assert TypeAdapter(TextFile).validate_python(str(path)) == path
