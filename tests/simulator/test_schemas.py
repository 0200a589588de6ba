"""Tool parameters are judged as DeepSeek's own converter judges them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from deepseek_proxy.simulator import schemas

Check = Callable[[Mapping[str, Any]], tuple[int, str | None]]


def request(schema: Any, **function: Any) -> dict[str, Any]:
    tool = {"type": "function", "function": {"name": "f", "parameters": schema, **function}}
    return {"model": "deepseek-flash", "messages": [{"role": "user", "content": "x"}], "tools": [tool]}


def of(a: Any, **more: Any) -> dict[str, Any]:
    """The schema of an object with one property `a`."""
    return {"type": "object", "properties": {"a": a}, **more}


PROPERTIES: list[Any] = [
    *({}, True, None, "x", 3, []),
    *({"type": kind} for kind in ("wat", None, [], ["string", "null"], "string", 3)),
    *({"enum": []}, {"enum": "x"}, {"const": None}, {"encrypted": True}, {"nullable": True}),
    *({"$ref": target} for target in ("#/$defs/Z", "http://example.com/x", "#/properties/b", "#", "#foo", 3)),
    *({"minLength": -1}, {"minLength": "x"}, {"minimum": "x"}, {"exclusiveMinimum": True}, {"multipleOf": 0}),
    *({"pattern": p} for p in ("[", "(", "^a$", r"^\p{L}+(?<x>a)$", r"(?<=a)b(?!c)\d", "(?i)abc")),
    *({"format": "zzz"}, {"items": 3}, {"items": [{"type": "string"}]}, {"oneOf": []}, {"anyOf": {}}),
    *({"required": True}, {"uniqueItems": "x"}, {"default": {"$ref": "#/x"}}, {"enum": [{"$ref": "#/x"}]}),
]
SCHEMAS: list[Any] = [
    *(None, {}, True, False, "x", 3, [], {"type": "string"}, {"type": None}, {"type": "object"}),
    *(
        {"type": "OBJECT"},
        {"type": ["object"]},
        {"type": ["object", "null"]},
        {"anyOf": [{"type": "object"}]},
    ),
    *({"type": "object", "properties": p} for p in (None, [], {"$ref": {"type": "string"}})),
    *({"type": "object", "required": r} for r in ("x", [1], ["a", "a"], ["a"])),
    {"type": "object", "anyOf": [{"type": "object"}]},
    {"$ref": "#/$defs/Z", "$defs": {"Z": {"type": "object"}}},
    {"type": "object", "minProperties": -1},
    {"type": "object", "additionalProperties": 3},
    {"type": "object", "description": 3},
    {"type": "object", "if": 3},
    {"type": "object", "dependencies": {"a": 3}},
    {"type": "object", "default": 3},
    *({"type": "object", key: {"x": {"type": "wat"}}} for key in ("$defs", "definitions")),
    of({"$ref": "#/$defs/Z"}, **{"$defs": {"Z": {"type": "string"}}}),
    of({"$ref": "#/$defs/Z"}, **{"$defs": {"Z": {"$ref": "#/$defs/Y"}}}),
    of({"$ref": "#/definitions/Z"}, definitions={"Z": {"type": "string"}}),
    of({}, **{"$defs": {"Z": {"$ref": "#/nowhere"}}}),
    of({"$ref": "#/$defs/Z"}, **{"$defs": {"Z": {"properties": {"next": {"$ref": "#/$defs/Z"}}}}}),
    {"type": "string", "properties": {"a": {"$ref": "#/$defs/Z"}}},
    *(
        {"type": "object", "$schema": dialect}
        for dialect in (
            "http://json-schema.org/draft-07/schema#",
            "https://json-schema.org/draft/2019-09/schema",
            "https://json-schema.org/draft/2020-12/schema",
            "zzz",
        )
    ),
    of(
        {"type": "number", "minimum": 1, "exclusiveMinimum": True},
        **{"$schema": "http://json-schema.org/draft-04/schema#"},
    ),
]


@pytest.mark.parametrize("schema", [*SCHEMAS, *map(of, PROPERTIES)], ids=json.dumps)
def test_schemas(schema: Any, deepseek_check: Check) -> None:
    status, message = deepseek_check(request(schema))
    problem = None if schema is None else schemas.problem_of(schema)
    assert (problem is None) == (status == 200), message
    if problem is not None:
        assert f"Invalid schema for function 'f': {problem}" == message


@pytest.mark.parametrize(
    "schema",
    [
        of({"oneOf": [{"type": "string"}]}),
        of({"const": 1}),
        of({}),
        of({"type": "string", "format": "uri"}),
        of({"type": "string", "format": "uuid", "minLength": 1}),
        of({"type": "array", "items": {"type": "string", "format": "date"}}),
        of({"anyOf": [{"type": "string"}, {"const": 1}]}),
        of({"$ref": "#/$defs/Z"}, **{"$defs": {"Z": {"type": "string"}}}),
        of({"type": "string"}),
        {"type": "object"},
    ],
    ids=json.dumps,
)
def test_strict_schemas(schema: Any, deepseek_check: Check) -> None:
    status, message = deepseek_check(request(schema, strict=True))
    problem = schemas.strict_problem_of(schema)
    assert (problem is None) == (status == 200), message
    if problem is not None:
        assert f"Invalid tool parameters schema : {problem}" == message
