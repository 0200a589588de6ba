"""The readers name the place and the reason; what a whole request may look like is tested with the rules."""

from __future__ import annotations

from typing import Any

import pytest

from deepseek_proxy.simulator import shapes
from deepseek_proxy.simulator.shapes import Mistyped, Reader

POINT = shapes.struct("Point", x=shapes.unsigned(8), name=shapes.optional(shapes.string))
ANIMAL = shapes.tagged("Animal", "kind", {"cat": shapes.struct("Cat", lives=shapes.number), "dog": POINT})


@pytest.mark.parametrize(
    ("reader", "value"),
    [
        (shapes.string, ""),
        (shapes.boolean, False),
        (shapes.number, 1),
        (shapes.number, 1.5),
        (shapes.unsigned(8), 255),
        (shapes.optional(shapes.string), None),
        (shapes.sequence(shapes.string), ["a", "b"]),
        (shapes.one_of("a", "b"), "b"),
        (POINT, {"x": 1}),
        (POINT, {"x": 1, "name": None, "unknown": object()}),
        (ANIMAL, {"kind": "cat", "lives": 9}),
        (shapes.ignored, object()),
    ],
)
def test_what_fits(reader: Reader, value: Any) -> None:
    reader(value, "here")


@pytest.mark.parametrize(
    ("reader", "value", "message"),
    [
        (shapes.string, None, "here: invalid type: null, expected a string"),
        (shapes.string, True, "here: invalid type: boolean `true`, expected a string"),
        (shapes.boolean, 'a"b', 'here: invalid type: string "a\\"b", expected a boolean'),
        (shapes.number, True, "here: invalid type: boolean `true`, expected f32"),
        (shapes.unsigned(8), 256, "here: invalid value: integer `256`, expected u8"),
        (shapes.unsigned(8), -1, "here: invalid value: integer `-1`, expected u8"),
        (shapes.unsigned(32), 1.5, "here: invalid type: floating point `1.5`, expected u32"),
        (shapes.sequence(shapes.string), {}, "here: invalid type: map, expected a sequence"),
        (shapes.sequence(shapes.string), ["a", []], "here[1]: invalid type: sequence, expected a string"),
        (shapes.one_of("a"), "c", "here: unknown variant `c`, expected `a`"),
        (shapes.one_of("a", "b"), "c", "here: unknown variant `c`, expected one of `a`, `b`"),
        (shapes.one_of("a"), None, "here: invalid type: null, expected string or map"),
        (POINT, "x", 'here: invalid type: string "x", expected struct Point'),
        (POINT, {}, "here: missing field `x`"),
        (POINT, {"x": None}, "here.x: invalid type: null, expected u8"),
        (ANIMAL, [], "here: invalid type: sequence, expected internally tagged enum Animal"),
        (ANIMAL, {"lives": 9}, "here: missing field `kind`"),
        (ANIMAL, {"kind": 3}, "here: invalid type: integer `3`, expected variant identifier"),
        (ANIMAL, {"kind": "cow"}, "here: unknown variant `cow`, expected one of `cat`, `dog`"),
        (ANIMAL, {"kind": "cat", "lives": "9"}, 'here.lives: invalid type: string "9", expected f32'),
    ],
)
def test_what_does_not_fit(reader: Reader, value: Any, message: str) -> None:
    with pytest.raises(Mistyped) as caught:
        reader(value, "here")
    assert str(caught.value) == message


def test_the_root_has_no_path() -> None:
    with pytest.raises(Mistyped) as caught:
        POINT({"x": []}, "")
    assert str(caught.value) == "x: invalid type: sequence, expected u8"
    with pytest.raises(Mistyped) as caught:
        POINT({}, "")
    assert str(caught.value) == "missing field `x`"


def test_inside_a_message_the_path_is_that_of_the_message() -> None:
    bad = {"role": "user", "content": [{"type": "text", "text": "x"}, {"type": "text"}]}
    with pytest.raises(Mistyped, match=r"^messages\[1\]: missing field `text`$"):
        shapes.REQUEST({"model": "m", "messages": [{"role": "user", "content": ""}, bad]}, "")
