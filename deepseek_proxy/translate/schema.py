"""JSON schemas towards DeepSeek: the parameters of tools, and answers that must fit a schema.

DeepSeek refuses tool schemas that OpenAI's clients may send (reference section 7.1), and has no
`json_schema` response format: here the schema goes into the prompt, `json_object` is asked for, and the
answer is validated. Refuses to know any dialect's request shape and which model answers; fetches nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final, NoReturn

import orjson
import referencing
from jsonschema import Draft202012Validator, FormatChecker, SchemaError, ValidationError
from jsonschema.validators import extend, validator_for
from referencing.exceptions import Unresolvable

from deepseek_proxy.errors import InvalidRequest
from deepseek_proxy.translate import keywords, patterns

# -- tool parameters ------------------------------------------------------------------------------


def tool_parameters(schema: Any) -> dict[str, Any]:
    """The parameters of a function tool as DeepSeek accepts them.

    An acceptable schema comes back as the same object, so that its bytes in the prompt stay as they
    are. Any other is mended where it errs; a root that is no object is wrapped as the member `value`.
    """
    if not isinstance(schema, dict) or not schema:
        return {"type": "object", "properties": {}}
    repaired: dict[str, Any] = keywords.repair(_object_root(schema))
    return repaired


def _object_root(schema: dict[str, Any]) -> dict[str, Any]:
    kind = schema.get("type")
    if kind == "object":
        return schema
    kinds = kind if isinstance(kind, list) else [kind]
    names = {keywords.normalise_type(name) for name in kinds}
    if names <= {None, "null"} or "object" in names or isinstance(schema.get("properties"), dict):
        if "type" in schema:
            return {key: "object" if key == "type" else value for key, value in schema.items()}
        return {"type": "object", **schema}
    # Definitions and the draft stay at the root, where references and validators look for them.
    inner: dict[str, Any] = {}
    outer: dict[str, Any] = {}
    for key, value in schema.items():
        (outer if key in ("$schema", "$id", "$defs", "definitions") else inner)[key] = value
    return {"type": "object", "properties": {"value": inner}, "required": ["value"], **outer}


# -- structured output ----------------------------------------------------------------------------

JSON_INSTRUCTION: Final = "Reply with a JSON object."
"""Said where `json_object` is asked for and the prompt lacks the word: DeepSeek answers 400 otherwise."""

_MAX_REASONS: Final = 10
_MAX_REASON_CHARS: Final = 300
_MAX_STARTS: Final = 50  # places in a prose answer where an object is tried to be read from
_FENCE: Final = re.compile(r"```[a-zA-Z0-9_-]*[ \t]*\n(.*?)```", re.DOTALL)


def mentions_json(texts: Iterable[str]) -> bool:
    """Whether a prompt has the word json in any form, as DeepSeek demands for `json_object`."""
    return any("json" in text.lower() for text in texts)


class MismatchError(ValueError):
    """An answer that does not fit. `reasons` are sentences, for the model and for whoever reads the log."""

    def __init__(self, reasons: Iterable[str]) -> None:
        self.reasons = tuple(reasons)
        super().__init__("; ".join(self.reasons))


@dataclass(frozen=True, slots=True)
class StructuredOutput:
    """What an answer has to look like. Made by `structured_output()`, which checks the schema."""

    name: str
    schema: Mapping[str, Any]
    strict: bool
    description: str | None

    @property
    def instruction(self) -> str:
        """The text for the end of the first system message.

        Its heading and the sentence before the schema are those that DeepSeek's models are trained on
        (rendered with deepseek-recipe 0.2.0); the schema is spelled as there, like Python's `json.dumps`.
        """
        purpose = f"Purpose of the reply: {self.description.strip()}\n" if self.description else ""
        return (
            "## Response Format:\n\n"
            f"Your final reply is one JSON object and nothing else.\n{purpose}"
            "You MUST strictly adhere to the following schema to reply:\n"
            f"{json.dumps(self.schema, ensure_ascii=False)}"
        )

    def validate(self, text: str) -> str:
        """The JSON text of an answer. Raises `MismatchError` with what is wrong with it."""
        found = self.extract(text)
        try:
            value = orjson.loads(found)
        except orjson.JSONDecodeError as error:
            raise MismatchError([f"The reply is not valid JSON: {error}."]) from None
        try:
            errors = list(islice(_validator(self.schema).iter_errors(value), _MAX_REASONS))
        except (_BudgetError, RecursionError, Unresolvable):
            raise MismatchError(
                ["The reply or its schema is too large, or too deep, to be checked."]
            ) from None
        if errors:
            raise MismatchError(f"{error.json_path}: {_shorten(error.message)}" for error in errors)
        return found

    def extract(self, text: str) -> str:
        """The JSON in an answer that may stand in a code fence or between sentences.

        The text as it is, where that is JSON; without the white space around it, where no object is found.
        """
        if _is_json(text):
            return text
        text = text.strip()
        fenced = (match[1].strip() for match in _FENCE.finditer(text))
        found = next(filter(_is_json, fenced), None)
        return found or max(_objects(text), key=len, default=text)

    def repair_prompt(self, reasons: Iterable[str]) -> str:
        """What to tell the model whose answer did not fit, in the one further attempt."""
        listed = "\n".join(f"- {reason}" for reason in reasons)
        return (
            "Your reply does not fit the required JSON schema:\n"
            f"{listed}\n"
            "Reply again, with the corrected JSON object and nothing else."
        )


def structured_output(
    *, name: str, schema: Any, strict: bool, description: str | None, param: str
) -> StructuredOutput:
    """What a `json_schema` format asks for.

    Raises `InvalidRequest` with the code `invalid_json_schema`; `param` is the path of the schema in the
    client's request.
    """

    def refuse(reason: str) -> NoReturn:
        message = f"Invalid schema for response_format '{name}': {reason}."
        raise InvalidRequest(message, param=param, code="invalid_json_schema")

    kind = schema.get("type", "object") if isinstance(schema, dict) else None
    if kind != "object":
        refuse(f"schema must be a JSON Schema of 'type: \"object\"', got 'type: {json.dumps(kind)}'")
    survey = keywords.survey(schema)
    if survey.repaired is not schema:
        # Slow, so only where there is something to explain.
        try:
            draft: Any = validator_for(schema, Draft202012Validator)
            draft.check_schema(schema, format_checker=_NO_FORMATS)
        except SchemaError as error:
            refuse(f"at {error.json_path}, {_shorten(error.message)}")
        except RecursionError:
            refuse("it is nested too deeply")
    for ref in survey.unresolved:
        refuse(f"'{ref}' does not point to a schema within it")
    for pattern in survey.property_patterns:
        if not _is_cheap(pattern):
            refuse(f"the pattern '{pattern}' of 'patternProperties' cannot be checked")
    return StructuredOutput(name, schema, strict, description)


# -- checking an answer: an untrusted schema on an untrusted value, in bounded time ------------------

_MAX_CHECKS: Final = 50_000  # keywords applied to values: some tenths of a second
_NO_FORMATS: Final = FormatChecker(formats=())
_Check = Callable[[Any, Any, Any, Any], Iterable[ValidationError] | None]


class _BudgetError(Exception):
    """The checks would take too long."""


def _validator(schema: Mapping[str, Any]) -> Any:
    """A validator with a budget: references can make a small schema expand without end."""
    spent = 0

    def counted(check: _Check) -> _Check:
        def count(validator: Any, value: Any, instance: Any, node: Any) -> Iterable[ValidationError] | None:
            nonlocal spent
            spent += 1
            if spent > _MAX_CHECKS:
                raise _BudgetError
            return check(validator, value, instance, node)

        return count

    checks = {**Draft202012Validator.VALIDATORS, "pattern": _check_pattern, "uniqueItems": _check_unique}
    bounded: Any = extend(  # type: ignore[no-untyped-call]
        Draft202012Validator, {key: counted(check) for key, check in checks.items()}
    )
    # Embedded `$id`s are gone from a repaired schema, and an empty registry fetches nothing.
    return bounded(keywords.survey(schema).repaired, registry=referencing.Registry())


def _check_pattern(_validator: Any, pattern: str, instance: Any, _schema: Any) -> Iterator[ValidationError]:
    if (
        isinstance(instance, str)
        and (parsed := patterns.parse(pattern)) is not None
        and parsed.fails(instance)
    ):
        yield ValidationError(f"{instance!r} does not match {pattern!r}")


def _check_unique(_validator: Any, wanted: Any, instance: Any, _schema: Any) -> Iterator[ValidationError]:
    # The library compares every pair of items where they cannot be sorted.
    if wanted and isinstance(instance, list):
        distinct = {orjson.dumps(item, option=orjson.OPT_SORT_KEYS) for item in instance}
        if len(distinct) < len(instance):
            yield ValidationError("the items are not unique")


def _is_cheap(pattern: str) -> bool:
    """Whether a pattern may be tried on property names, which the library does by itself."""
    parsed = patterns.parse(pattern)
    return parsed is not None and parsed.degree in (0, 1) and parsed.compiled.pattern == pattern


def _is_json(text: str) -> bool:
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError:
        return False
    return True


def _objects(text: str) -> Iterator[str]:
    """The JSON objects that stand in a text one after the other."""
    decoder = json.JSONDecoder()
    position = -1
    for _ in range(_MAX_STARTS):
        position = text.find("{", position + 1)
        if position < 0:
            return
        try:
            _, end = decoder.raw_decode(text, position)
        except (ValueError, RecursionError):
            continue
        yield text[position:end]
        position = end - 1


def _shorten(text: str) -> str:
    return text if len(text) <= _MAX_REASON_CHARS else text[:_MAX_REASON_CHARS] + "…"
