from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from deepseek_proxy.errors import InvalidRequest
from deepseek_proxy.translate import fields


def refusal(read: Callable[[], object]) -> tuple[str, str | None, str | None]:
    """(message, param, code) of the error that `read` raises."""
    with pytest.raises(InvalidRequest) as caught:
        read()
    return caught.value.message, caught.value.param, caught.value.code


# -- values that are right ------------------------------------------------------------------------


@pytest.mark.parametrize("body", [{}, {"x": None}])
def test_absent_and_null_are_the_same(body: dict[str, Any]) -> None:
    assert fields.string(body, "x") is None
    assert fields.boolean(body, "x", default=True) is True
    assert fields.integer(body, "x", low=1) is None
    assert fields.number(body, "x", low=1) is None
    assert fields.choice(body, "x", ("a",)) is None
    assert fields.mapping(body, "x") == {}
    assert fields.array(body, "x") == ()


def test_values_come_back_as_they_are() -> None:
    body = {"s": "", "b": False, "i": 3, "n": 0.5, "m": {"a": 1}, "a": [None]}
    assert fields.required_string(body, "s") == ""
    assert fields.boolean(body, "b", default=True) is False
    assert fields.integer(body, "i", low=3, high=3) == 3
    assert fields.number(body, "n", low=0.5, high=0.5) == 0.5
    assert fields.number(body, "i") == 3
    assert fields.mapping(body, "m") is body["m"]
    assert fields.array(body, "a") is body["a"]


def test_a_float_without_a_fraction_is_an_integer() -> None:
    value = fields.integer({"x": 16.0}, "x")
    assert value == 16
    assert isinstance(value, int)


def test_a_float_too_large_to_be_exact_is_no_integer() -> None:
    """It could not be written back as one either."""
    message = "Invalid type for 'x': expected an integer, but got a number instead."
    assert refusal(lambda: fields.integer({"x": 1e300}, "x"))[0] == message


# -- values that are wrong ------------------------------------------------------------------------


READERS: dict[str, Callable[..., object]] = {
    "a string": fields.string,
    "a boolean": lambda body, key, path="": fields.boolean(body, key, default=False, path=path),
    "an integer": fields.integer,
    "a number": fields.number,
    "an object": fields.mapping,
    "an array": fields.array,
}
VALUES = {
    "a string": "text",
    "a boolean": True,
    "an integer": 5,
    "a number": 0.5,
    "an array": [],
    "an object": {},
}
WRONG = [(expected, kind) for expected in READERS for kind in VALUES if expected != kind]
WRONG.remove(("a number", "an integer"))


@pytest.mark.parametrize(("expected", "kind"), WRONG)
def test_a_value_of_another_type_is_refused_with_its_path(expected: str, kind: str) -> None:
    read, body = READERS[expected], {"x": VALUES[kind]}
    message = f"Invalid type for '{{}}': expected {expected}, but got {kind} instead."
    assert refusal(lambda: read(body, "x")) == (message.format("x"), "x", "invalid_type")
    assert refusal(lambda: read(body, "x", path="p[0]")) == (
        message.format("p[0].x"),
        "p[0].x",
        "invalid_type",
    )


@pytest.mark.parametrize(
    ("read", "message", "code"),
    [
        (
            lambda: fields.integer({"x": 0}, "x", low=1, path="p"),
            "Invalid 'p.x': integer below minimum value. Expected a value >= 1, but got 0 instead.",
            "integer_below_min_value",
        ),
        (
            lambda: fields.integer({"x": 21}, "x", high=20, path="p"),
            "Invalid 'p.x': integer above maximum value. Expected a value <= 20, but got 21 instead.",
            "integer_above_max_value",
        ),
        (
            lambda: fields.number({"x": -0.1}, "x", low=0, path="p"),
            "Invalid 'p.x': decimal below minimum value. Expected a value >= 0, but got -0.1 instead.",
            "decimal_below_min_value",
        ),
        (
            lambda: fields.number({"x": 3}, "x", high=2, path="p"),
            "Invalid 'p.x': decimal above maximum value. Expected a value <= 2, but got 3 instead.",
            "decimal_above_max_value",
        ),
    ],
)
def test_a_value_out_of_range_is_refused(read: Callable[[], object], message: str, code: str) -> None:
    assert refusal(read) == (message, "p.x", code)


def test_the_other_refusals() -> None:
    assert refusal(lambda: fields.choice({"x": "c"}, "x", ("a", "b"), "p")) == (
        "Invalid value: 'c'. Supported values are: 'a', 'b'.",
        "p.x",
        "invalid_value",
    )
    assert refusal(lambda: fields.required_string({}, "x", "p")) == (
        "Missing required parameter: 'p.x'.",
        "p.x",
        "missing_required_parameter",
    )
    invalid = fields.invalid_value("p.x", "too long.")
    assert (invalid.message, invalid.param, invalid.code) == (
        "Invalid 'p.x': too long.",
        "p.x",
        "invalid_value",
    )


def test_null_is_named_where_it_is_not_welcome() -> None:
    assert fields.invalid_type("input[0]", "an object", None).message == (
        "Invalid type for 'input[0]': expected an object, but got null instead."
    )
