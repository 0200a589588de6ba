"""The minimal value of a schema fits the schema."""

from __future__ import annotations

from typing import Any

import pytest
from jsonschema import Draft202012Validator, FormatChecker

from deepseek_proxy.simulator.instances import minimal

SCHEMAS: list[dict[str, Any]] = [
    {"type": "string"},
    {"type": "string", "minLength": 9},
    {"type": "string", "maxLength": 2},
    *({"type": "string", "format": kind} for kind in ("date-time", "date", "email", "ipv4", "ipv6", "uuid")),
    *({"type": "string", "pattern": pattern} for pattern in (r"^\d+$", "^[A-Z]", r"^\d{4}-\d\d-\d\d$", "^#")),
    {"type": "integer"},
    {"type": "integer", "minimum": 7},
    {"type": "integer", "exclusiveMinimum": 7},
    {"type": "integer", "maximum": -3},
    {"type": "integer", "exclusiveMaximum": 0},
    {"type": "integer", "minimum": 7, "multipleOf": 5},
    {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1},
    {"type": "boolean"},
    {"type": "null"},
    {"type": ["integer", "null"]},
    {"enum": ["b", "a"]},
    {"const": None},
    {"type": "string", "default": "d"},
    {"type": "string", "examples": ["e"]},
    {"type": "array"},
    {"type": "array", "items": {"type": "integer"}, "minItems": 2},
    {"type": "array", "prefixItems": [{"type": "string"}, {"type": "integer"}], "minItems": 3},
    {"type": "object"},
    {"properties": {"a": {"type": "string"}}, "required": ["a"]},
    {"type": "object", "properties": {"a": {"type": "string"}, "b": {}}, "required": ["a", "c"]},
    {"anyOf": [{"type": "string"}, {"type": "null"}]},
    {"oneOf": [{"type": "integer"}, {"type": "string"}]},
    {
        "allOf": [
            {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]},
            {"properties": {"b": {"type": "string"}}, "required": ["b"]},
        ]
    },
    {
        "type": "object",
        "properties": {"a": {"$ref": "#/$defs/A"}, "b": {"$ref": "#/$defs/A", "description": "x"}},
        "required": ["a", "b"],
        "$defs": {"A": {"type": "string", "enum": ["x"]}},
    },
    {"$ref": "#/$defs/a~1b", "$defs": {"a/b": {"type": "boolean"}}},
    {
        "$ref": "#/$defs/Node",
        "$defs": {
            "Node": {
                "type": "object",
                "properties": {
                    "name": {"type": "string"},
                    "children": {"type": "array", "items": {"$ref": "#/$defs/Node"}},
                },
                "required": ["name", "children"],
            }
        },
    },
]


@pytest.mark.parametrize("schema", SCHEMAS, ids=str)
def test_it_fits(schema: dict[str, Any]) -> None:
    Draft202012Validator(schema, format_checker=FormatChecker()).validate(minimal(schema))


def test_only_what_is_required() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string"}, "b": {}}, "required": ["a"]}
    assert minimal(schema) == {"a": "text"}


def test_an_endless_schema_ends() -> None:
    schema = {"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]}
    value, depth = minimal(schema), 0
    while value:
        value, depth = value["a"], depth + 1
    assert 0 < depth <= 24


def test_a_reference_to_nowhere_is_anything() -> None:
    assert minimal({"$ref": "#/$defs/Z"}) == "text"
