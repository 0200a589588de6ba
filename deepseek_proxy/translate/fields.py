"""Getters for the JSON that clients send: the value, or an error that names the field's path.

Wire shapes are read as `Mapping[str, Any]`. Absent and null mean the same, as in OpenAI's own API.
The sentences follow OpenAI's, which clients and people already know.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from deepseek_proxy.errors import InvalidRequest

_EXACT = 2.0**53  # the largest float between which and its neighbours no integer is missing
_NAMES = {
    str: "a string",
    bool: "a boolean",
    int: "an integer",
    float: "a number",
    list: "an array",
    dict: "an object",
}


def describe(value: object) -> str:
    """What a JSON value is, in OpenAI's words: `an array`, `null`, …"""
    return "null" if value is None else _NAMES.get(type(value), type(value).__name__)


def invalid_type(path: str, expected: str, value: object) -> InvalidRequest:
    return InvalidRequest(
        f"Invalid type for '{path}': expected {expected}, but got {describe(value)} instead.",
        param=path,
        code="invalid_type",
    )


def invalid_value(path: str, message: str) -> InvalidRequest:
    return InvalidRequest(f"Invalid '{path}': {message}", param=path, code="invalid_value")


def missing(path: str) -> InvalidRequest:
    return InvalidRequest(
        f"Missing required parameter: '{path}'.", param=path, code="missing_required_parameter"
    )


def join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def string(body: Mapping[str, Any], key: str, path: str = "") -> str | None:
    value = body.get(key)
    if value is not None and not isinstance(value, str):
        raise invalid_type(join(path, key), "a string", value)
    return value


def required_string(body: Mapping[str, Any], key: str, path: str = "") -> str:
    value = string(body, key, path)
    if value is None:
        raise missing(join(path, key))
    return value


def boolean(body: Mapping[str, Any], key: str, default: bool, path: str = "") -> bool:
    value = body.get(key)
    if value is None:
        return default
    if not isinstance(value, bool):
        raise invalid_type(join(path, key), "a boolean", value)
    return value


def integer(
    body: Mapping[str, Any], key: str, *, low: int | None = None, high: int | None = None, path: str = ""
) -> int | None:
    """An integer in [low, high]; a float with no fraction counts, as JSON has no integers."""
    value = body.get(key)
    if value is None:
        return None
    if isinstance(value, float) and value.is_integer() and abs(value) < _EXACT:
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise invalid_type(join(path, key), "an integer", value)
    _check_range(join(path, key), value, low, high, "integer")
    return value


def number(
    body: Mapping[str, Any], key: str, *, low: float | None = None, high: float | None = None, path: str = ""
) -> float | None:
    value = body.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise invalid_type(join(path, key), "a number", value)
    _check_range(join(path, key), value, low, high, "decimal")
    return value


def choice(body: Mapping[str, Any], key: str, allowed: Sequence[str], path: str = "") -> str | None:
    value = string(body, key, path)
    if value is not None and value not in allowed:
        raise InvalidRequest(
            f"Invalid value: '{value}'. Supported values are: {', '.join(repr(a) for a in allowed)}.",
            param=join(path, key),
            code="invalid_value",
        )
    return value


def mapping(body: Mapping[str, Any], key: str, path: str = "") -> Mapping[str, Any]:
    """An object; empty where it is absent."""
    value = body.get(key)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise invalid_type(join(path, key), "an object", value)
    return value


def array(body: Mapping[str, Any], key: str, path: str = "") -> Sequence[Any]:
    """An array; empty where it is absent."""
    value = body.get(key)
    if value is None:
        return ()
    if not isinstance(value, list):
        raise invalid_type(join(path, key), "an array", value)
    return value


def _check_range(path: str, value: float, low: float | None, high: float | None, word: str) -> None:
    if low is not None and value < low:
        raise InvalidRequest(
            f"Invalid '{path}': {word} below minimum value. "
            f"Expected a value >= {low}, but got {value} instead.",
            param=path,
            code=f"{word}_below_min_value",
        )
    if high is not None and value > high:
        raise InvalidRequest(
            f"Invalid '{path}': {word} above maximum value. "
            f"Expected a value <= {high}, but got {value} instead.",
            param=path,
            code=f"{word}_above_max_value",
        )
