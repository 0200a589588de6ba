"""Verdicts on tool parameters: is it a JSON schema, of an object, with references that lead somewhere?

`jsonschema` validates against the meta-schema of the schema's dialect (2020-12 where it names none); the
words are those of the validator DeepSeek uses, measured with `deepseek-recipe` 0.2.0. Refuses to know tools
and requests.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, Final

import orjson
from jsonschema import Draft202012Validator, FormatChecker, ValidationError, validators
from jsonschema.protocols import Validator
from referencing import Registry, Resource
from referencing.exceptions import NoSuchAnchor, PointerToNowhere, Unresolvable
from referencing.jsonschema import DRAFT202012

_STRICT_FORMATS: Final = ("email", "hostname", "ipv4", "ipv6", "uuid")
_SUBSCHEMA: Final = frozenset(
    {"items", "additionalProperties", "contains", "propertyNames", "not", "if", "then", "else"}
    | {"unevaluatedItems", "unevaluatedProperties"}
)
_SUBSCHEMAS: Final = frozenset({"allOf", "anyOf", "oneOf", "prefixItems"})
_NAMED_SUBSCHEMAS: Final = frozenset({"properties", "patternProperties", "dependentSchemas"})

_FORMATS: Final = FormatChecker(formats=())


@_FORMATS.checks("regex")
def _is_regex(value: object) -> bool:
    if not isinstance(value, str):
        return True
    # ECMA-262 has escapes and group names that Python's `re` has not; those are not what is looked for.
    plain = re.sub(r"\\[pP]\{\w+(?:=\w+)?\}|\\u\{?[0-9A-Fa-f]+\}?", "x", value.replace("(?<", "(?P<"))
    plain = plain.replace("(?P<=", "(?<=").replace("(?P<!", "(?<!")
    try:
        re.compile(plain)
    except re.error:
        return False
    return True


def problem_of(parameters: object) -> str | None:
    """What is wrong with a function's parameters, in DeepSeek's words; None where nothing is."""
    return _problem_of(orjson.dumps(parameters))


@lru_cache(maxsize=512)
def _problem_of(encoded: bytes) -> str | None:
    # Agents send the same dozens of schemas with every request.
    schema = orjson.loads(encoded)
    dialect: type[Validator] = Draft202012Validator
    if isinstance(schema, dict) and "$schema" in schema:
        named = validators.validator_for(schema, default=None)  # type: ignore[arg-type]
        if named is None:
            return (
                f"Unknown meta-schema: '{schema['$schema']}'. Custom meta-schemas must be registered in the "
                "registry before use"
            )
        dialect = named
    errors = dialect(dialect.META_SCHEMA, format_checker=_FORMATS).iter_errors(schema)
    if (first := next(iter(errors), None)) is not None:
        return _worded(first)
    if isinstance(schema, dict) and (missing := _dangling_reference(schema)) is not None:
        return missing
    kind = schema.get("type") if isinstance(schema, dict) else None
    if kind != "object":
        return f"schema must be a JSON Schema of 'type: \"object\"', got 'type: {_compact(kind)}'."
    return None


def _compact(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _worded(error: ValidationError) -> str:
    value, limit = _compact(error.instance), error.validator_value
    match error.validator:
        case "type" if isinstance(limit, list):
            return f"{value} is not of types {', '.join(_compact(kind) for kind in sorted(limit))}"
        case "type":
            return f"{value} is not of type {_compact(limit)}"
        case "anyOf":
            return f"{value} is not valid under any of the schemas listed in the 'anyOf' keyword"
        case "minimum":
            return f"{value} is less than the minimum of {limit}"
        case "exclusiveMinimum":
            return f"{value} is less than or equal to the minimum of {limit}"
        case "minItems":
            return f"{value} has less than {limit} item{'' if limit == 1 else 's'}"
        case "uniqueItems":
            return f"{value} has non-unique elements"
        case "format":
            return f"{value} is not a {_compact(limit)}"
    return error.message


# -- references -----------------------------------------------------------------------------------


def _dangling_reference(schema: Mapping[str, Any]) -> str | None:
    resource: Resource[Any] = Resource.from_contents(schema, default_specification=DRAFT202012)
    resolver = Registry[Any]().with_resource("", resource).resolver()
    waiting, seen = list(_references(schema)), set[str]()
    while waiting:
        reference = waiting.pop(0)
        if reference in seen:
            continue
        seen.add(reference)
        try:
            waiting += _references(resolver.lookup(reference).contents)
        except PointerToNowhere:
            return f"Pointer '{reference.partition('#')[2]}' does not exist"
        except NoSuchAnchor as missing:
            return f"Anchor '{missing.anchor}' does not exist"
        except Unresolvable:
            return (
                f"Resource '{reference}' is not present in a registry and retrieving it failed: Retrieval is "
                f"disabled, cannot fetch {reference}"
            )
    return None


def _references(schema: object) -> Iterator[str]:
    """Every `$ref` that applies: none in enums and constants, none in definitions by themselves."""
    if not isinstance(schema, dict):
        return
    for key, value in schema.items():
        if key == "$ref":
            yield value
        elif key in _SUBSCHEMA:
            yield from _references(value)
        elif key in _SUBSCHEMAS:
            for element in value:
                yield from _references(element)
        elif key in _NAMED_SUBSCHEMAS:
            for element in value.values():
                yield from _references(element)


# -- strict tools ---------------------------------------------------------------------------------


def strict_problem_of(schema: Mapping[str, Any]) -> str | None:
    """What puts a schema outside the subset of `strict` tools; None where nothing does."""
    if not any(key in schema for key in ("type", "anyOf", "$ref")):
        return "one of `type`, `anyOf`, `$ref` field is required"
    if schema.get("type") == "string" and schema.get("format", "email") not in _STRICT_FORMATS:
        names = ", ".join(f"`{name}`" for name in _STRICT_FORMATS)
        return f"unknown variant `{schema['format']}`, expected one of {names}"
    parts = [*(schema.get("properties") or {}).values(), *(schema.get("$defs") or {}).values()]
    parts += [schema["items"]] if isinstance(schema.get("items"), dict) else []
    for part in parts:
        if (problem := strict_problem_of(part)) is not None:
            return problem
    for part in schema.get("anyOf") or ():
        if "type" not in part and "$ref" not in part:
            return "field `anyOf`: missing field `type`"
        if (problem := strict_problem_of(part)) is not None:
            return problem
    return None
