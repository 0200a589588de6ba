"""Smallest values that fit a JSON schema: what the simulator calls tools with and answers in JSON mode.

Takes the first of everything: first enum value, first type, first alternative; only required properties.
Refuses to know what the value is for.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

_GUESSES: Final = (
    "a",
    "A",
    "1",
    "10",
    "a1",
    "A1",
    "abc",
    "ABC",
    "123",
    "1.0",
    "1.0.0",
    "2026-11-01",
    "#ffffff",
)

Schema = Mapping[str, Any] | bool

MAX_DEPTH: Final = 24  # recursive schemas end somewhere

_FORMATS: Final = {
    "date-time": "2026-11-01T12:00:00Z",
    "date": "2026-11-01",
    "time": "12:00:00Z",
    "duration": "PT1H",
    "email": "user@example.com",
    "hostname": "example.com",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "uri": "https://example.com/",
    "uuid": "00000000-0000-4000-8000-000000000000",
}


def minimal(schema: Schema, root: Mapping[str, Any] | None = None, depth: int = 0) -> Any:
    """The smallest value that fits `schema`; `$ref` is looked up in `root` (default: `schema`)."""
    if isinstance(schema, bool) or depth > MAX_DEPTH:
        return None
    root = schema if root is None else root
    if "$ref" in schema:
        return minimal({**_resolve(schema["$ref"], root), **_without_ref(schema)}, root, depth + 1)
    for key in ("const", "default"):
        if key in schema:
            return schema[key]
    for key in ("enum", "examples"):
        if schema.get(key):
            return schema[key][0]
    for key in ("anyOf", "oneOf"):
        if schema.get(key):
            rest = {k: v for k, v in schema.items() if k != key}
            return minimal(_merged([rest, schema[key][0]], root), root, depth + 1)
    if schema.get("allOf"):
        rest = {k: v for k, v in schema.items() if k != "allOf"}
        return minimal(_merged([rest, *schema["allOf"]], root), root, depth + 1)
    return _of_type(schema, root, depth)


def _of_type(schema: Mapping[str, Any], root: Mapping[str, Any], depth: int) -> Any:
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = kind[0] if kind else None
    if kind is None:
        kind = "object" if "properties" in schema else "array" if "items" in schema else "string"
    match kind:
        case "object":
            known = schema.get("properties") or {}
            return {
                name: minimal(known.get(name, {}), root, depth + 1) for name in schema.get("required") or ()
            }
        case "array":
            first = list(schema.get("prefixItems") or ())
            count = max(int(schema.get("minItems", 0)), len(first))
            items = first + [schema.get("items", {})] * (count - len(first))
            return [minimal(item, root, depth + 1) for item in items]
        case "integer" | "number":
            return _number(schema, kind)
        case "boolean":
            return True
        case "null":
            return None
    return _string(schema)


def _number(schema: Mapping[str, Any], kind: str) -> int | float:
    step = schema.get("multipleOf", 1)
    low = schema.get("minimum")
    if low is None and "exclusiveMinimum" in schema:
        low = schema["exclusiveMinimum"] + (step if kind == "integer" else step / 2)
    high = schema.get("maximum")
    if high is None and "exclusiveMaximum" in schema:
        high = schema["exclusiveMaximum"] - (step if kind == "integer" else step / 2)
    value = low if low is not None else min(step, high) if high is not None else step
    if step != 1 and value % step:
        value += step - value % step
    return int(value) if kind == "integer" else value


def _string(schema: Mapping[str, Any]) -> str:
    text = _FORMATS.get(schema.get("format", ""), "text")
    if "pattern" in schema:
        text = next((guess for guess in (text, *_GUESSES) if re.search(schema["pattern"], guess)), text)
    text = text.ljust(int(schema.get("minLength", 0)), "x")
    return text[: schema["maxLength"]] if "maxLength" in schema else text


def _merged(schemas: list[Any], root: Mapping[str, Any]) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    for schema in schemas:
        if isinstance(schema, bool):
            continue
        if "$ref" in schema:
            schema = {**_resolve(schema["$ref"], root), **_without_ref(schema)}
        for key, value in schema.items():
            if key == "properties":
                merged[key] = {**merged.get(key, {}), **value}
            elif key == "required":
                merged[key] = list(dict.fromkeys([*merged.get(key, ()), *value]))
            else:
                merged[key] = value
    return merged


def _resolve(pointer: str, root: Mapping[str, Any]) -> Mapping[str, Any]:
    found: Any = root
    for step in pointer.removeprefix("#").split("/")[1:]:
        name = step.replace("~1", "/").replace("~0", "~")
        found = found[int(name)] if isinstance(found, list) else found.get(name, {})
    return found if isinstance(found, Mapping) else {}


def _without_ref(schema: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in schema.items() if key != "$ref"}
