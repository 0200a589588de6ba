from __future__ import annotations

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepseek_proxy.errors import InvalidRequest
from deepseek_proxy.translate import schema as subject
from deepseek_proxy.translate.schema import MismatchError, structured_output, tool_parameters

EMPTY = {"type": "object", "properties": {}}


def tool_body(parameters):
    tool = {"type": "function", "function": {"name": "f", "parameters": parameters}}
    messages = [{"role": "user", "content": "x"}]
    return {
        "model": "deepseek-flash",
        "messages": messages,
        "thinking": {"type": "disabled"},
        "tools": [tool],
    }


# -- tool parameters --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "good",
    [
        {"type": "object"},
        {"type": "object", "properties": {"cmd": {"type": "string"}}, "required": ["cmd"]},
        {"type": "object", "oneOf": [{"required": ["a"]}, {"required": ["b"]}]},
        {"$defs": {"A": {"type": "object"}}, "$ref": "#/$defs/A", "type": "object"},
    ],
)
def test_good_parameters_come_back_as_the_same_object(deepseek_check, good):
    assert tool_parameters(good) is good
    assert deepseek_check(tool_body(good)) == (200, None)


@pytest.mark.parametrize(
    ("parameters", "accepted"),
    [
        (None, EMPTY),
        ({}, EMPTY),
        (True, EMPTY),
        ([], EMPTY),
        ("string", EMPTY),
        ({"properties": {"a": {}}}, {"type": "object", "properties": {"a": {}}}),
        ({"properties": {}, "type": None}, {"properties": {}, "type": "object"}),
        ({"type": ["object", "null"]}, {"type": "object"}),
        ({"type": "OBJECT", "properties": {}}, {"type": "object", "properties": {}}),
        ({"type": "string", "properties": {"a": {}}}, {"type": "object", "properties": {"a": {}}}),
        ({"type": "wat", "title": "t"}, {"type": "object", "title": "t"}),
        ({"anyOf": [{"type": "object"}]}, {"type": "object", "anyOf": [{"type": "object"}]}),
        (
            {"$ref": "#/$defs/A", "$defs": {"A": {}}},
            {"type": "object", "$ref": "#/$defs/A", "$defs": {"A": {}}},
        ),
        (
            {"type": "string", "description": "d"},
            {
                "type": "object",
                "properties": {"value": {"type": "string", "description": "d"}},
                "required": ["value"],
            },
        ),
        (
            {"type": "array", "items": {"$ref": "#/$defs/A"}, "$defs": {"A": {"type": None}}},
            {
                "type": "object",
                "properties": {"value": {"type": "array", "items": {"$ref": "#/$defs/A"}}},
                "required": ["value"],
                "$defs": {"A": {}},
            },
        ),
        (
            {"type": "object", "strict": True, "properties": {"a": {"encrypted": True}}},
            {"type": "object", "properties": {"a": {}}},
        ),
    ],
)
def test_other_parameters_become_acceptable(deepseek_check, parameters, accepted):
    repaired = tool_parameters(parameters)
    assert repaired == accepted
    assert list(repaired) == list(accepted)
    assert tool_parameters(repaired) is repaired
    assert deepseek_check(tool_body(repaired)) == (200, None)


def test_each_tool_without_parameters_gets_its_own_object():
    assert tool_parameters(None) is not tool_parameters(None)


# -- structured output ------------------------------------------------------------------------------

PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer", "minimum": 0}},
    "required": ["name", "age"],
    "additionalProperties": False,
}


def wanted(schema=PERSON, name="person", description=None):
    return structured_output(
        name=name, schema=schema, strict=True, description=description, param="text.format.schema"
    )


def test_the_instruction_ends_as_the_models_are_trained_on(deepseek_prompt):
    """DeepSeek's own rendering of `json_schema` is the reference for the wording before the schema."""
    body = {
        "model": "deepseek-flash",
        "messages": [{"role": "system", "content": "S"}, {"role": "user", "content": "U"}],
        "thinking": {"type": "disabled"},
        "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": PERSON}},
    }
    rendered = deepseek_prompt(body).partition("S\n\n")[2].rpartition("<｜User｜>")[0]
    heading, sentence, schema = rendered.partition("\n\n")[0], *rendered.partition("\n\n")[2].split("\n", 1)
    instruction = wanted().instruction
    assert instruction.startswith(heading + "\n\n")
    assert instruction.endswith(f"{sentence}\n{schema}")


def test_the_instruction_satisfies_the_rule_of_the_word_json(deepseek_check):
    body = {
        "model": "deepseek-flash",
        "thinking": {"type": "disabled"},
        "response_format": {"type": "json_object"},
    }
    for text in (wanted().instruction, subject.JSON_INSTRUCTION):
        assert subject.mentions_json([text])
        messages = [{"role": "system", "content": text}, {"role": "user", "content": "hello"}]
        assert deepseek_check({**body, "messages": messages}) == (200, None)


@pytest.mark.parametrize("text", ["json", "Some JSON please", "a.jsonl", "Json", "J SON", "yaml", ""])
def test_the_word_is_looked_for_as_deepseek_does(deepseek_check, text):
    body = {
        "model": "deepseek-flash",
        "messages": [{"role": "user", "content": text}],
        "thinking": {"type": "disabled"},
        "response_format": {"type": "json_object"},
    }
    assert subject.mentions_json(["hello", text]) is (deepseek_check(body)[0] == 200)


def test_the_description_and_other_alphabets_are_in_the_instruction():
    schema = {"type": "object", "properties": {"имя": {"description": "名前"}}}
    instruction = wanted(schema, description=" A person. ").instruction
    assert "\nPurpose of the reply: A person.\n" in instruction
    assert '{"имя": {"description": "名前"}}' in instruction


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ('{"name": "A", "age": 1}', '{"name": "A", "age": 1}'),
        ('\n {"name":"A","age":1}\n\n', '\n {"name":"A","age":1}\n\n'),
        ('```json\n{"name": "A", "age": 1}\n```', '{"name": "A", "age": 1}'),
        ('Here:\n```\n{"name": "```", "age": 1}\n```\nDone.', '{"name": "```", "age": 1}'),
        ('```python\nx = {}\n```\n```json\n{"name": "A", "age": 1}\n```', '{"name": "A", "age": 1}'),
        ('Sure, not {} but {"name": "A", "age": 1}. Or {"a": 1}?', '{"name": "A", "age": 1}'),
        ('{oops} {"name": "{", "age": 1}', '{"name": "{", "age": 1}'),
    ],
)
def test_the_json_of_an_answer_is_found(answer, text):
    assert wanted().extract(answer) == text
    assert wanted().validate(answer) == text


@given(st.dictionaries(st.text(), st.none() | st.text() | st.integers(0, 9), max_size=3), st.booleans())
def test_an_answer_that_is_json_is_left_alone(value, ascii_only):
    text = json.dumps(value, ensure_ascii=ascii_only)
    anything = wanted({"type": "object"})
    assert anything.validate(text) == text
    assert anything.validate(f"```json\n{text}\n```") == text


@pytest.mark.parametrize(
    ("answer", "reasons"),
    [
        ('{"name": "A"}', ["$: 'age' is a required property"]),
        (
            '{"name": 1, "age": -1}',
            ["$.name: 1 is not of type 'string'", "$.age: -1 is less than the minimum of 0"],
        ),
        (
            '{"name": "A", "age": 1, "x": 2}',
            ["$: Additional properties are not allowed ('x' was unexpected)"],
        ),
        ("[]", ["$: [] is not of type 'object'"]),
    ],
)
def test_a_mismatch_names_its_reasons(answer, reasons):
    with pytest.raises(MismatchError) as caught:
        wanted().validate(answer)
    assert sorted(caught.value.reasons) == sorted(reasons)
    prompt = wanted().repair_prompt(caught.value.reasons)
    assert all(f"\n- {reason}\n" in prompt for reason in reasons)


@pytest.mark.parametrize(
    "answer", ["", "I cannot.", '{"name": "A"', '{"name": NaN, "age": 1}', "[" * 100_000]
)
def test_an_answer_that_is_no_json_is_a_mismatch(answer):
    with pytest.raises(MismatchError) as caught:
        wanted().validate(answer)
    (reason,) = caught.value.reasons
    assert reason.startswith("The reply is not valid JSON")


def test_reasons_are_few_and_short():
    schema = {"type": "object", "additionalProperties": {"type": "string"}}
    with pytest.raises(MismatchError) as caught:
        wanted(schema).validate(json.dumps({str(i): [0] * 1_000 for i in range(100)}))
    assert len(caught.value.reasons) == 10
    assert max(map(len, caught.value.reasons)) < 400


@pytest.mark.parametrize(
    ("schema", "good", "bad"),
    [
        ({"properties": {"a": {"pattern": "^x+$"}}}, '{"a": "xx"}', '{"a": "y"}'),
        (
            {"properties": {"a": {"uniqueItems": True}}},
            '{"a": [{"x": 1, "y": 2}, {}]}',
            '{"a": [{"x": 1}, {"x": 1}]}',
        ),
        ({"patternProperties": {"^x-": {"type": "integer"}}}, '{"x-a": 1}', '{"x-a": "1"}'),
        (
            {"$defs": {"n": {"type": "null"}}, "properties": {"a": {"$ref": "#/$defs/n"}}},
            '{"a": null}',
            '{"a": 1}',
        ),
        (
            {
                "$id": "https://a.example/",
                "properties": {"a": {"$ref": "#/$defs/n"}},
                "$defs": {"n": {"type": "null"}},
            },
            '{"a": null}',
            '{"a": 1}',
        ),
        (
            {"properties": {"a": {"$ref": "#"}}, "required": ["b"]},
            '{"b": 1, "a": {"b": 2}}',
            '{"b": 1, "a": {}}',
        ),
        (
            {
                "$schema": "http://json-schema.org/draft-07/schema#",
                "properties": {"a": {"items": [{"type": "null"}]}, "b": {"$ref": "#/properties/a/items/0"}},
            },
            '{"a": [null], "b": 1}',
            '{"a": [1]}',
        ),
        ({"properties": {"a": {"format": "date"}}}, '{"a": "no date"}', "[]"),
    ],
)
def test_keywords_are_checked(schema, good, bad):
    output = wanted({"type": "object", **schema})
    assert output.validate(good) == good
    with pytest.raises(MismatchError):
        output.validate(bad)


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        (None, "got 'type: null'"),
        (True, "got 'type: null'"),
        ({"type": "array"}, "got 'type: \"array\"'"),
        ({"type": None}, "got 'type: null'"),
        (
            {"type": "object", "properties": {"a": {"type": "wat"}}},
            "at $.properties.a.type, 'wat' is not valid",
        ),
        ({"type": "object", "items": [{}]}, "at $.items, [{}] is not of type"),
        ({"type": "object", "$schema": "wat", "required": "a"}, "at $.required, 'a' is not of type 'array'"),
        ({"type": "object", "required": "a"}, "at $.required, 'a' is not of type 'array'"),
        (
            {"properties": {"a": {"$ref": "#/$defs/none"}}},
            "'#/$defs/none' does not point to a schema within it",
        ),
        (
            {"properties": {"a": {"$ref": "https://example.com/s.json"}}},
            "'https://example.com/s.json' does not point",
        ),
        ({"patternProperties": {"^(a+)+$": {}}}, "'^(a+)+$' of 'patternProperties' cannot be checked"),
    ],
)
def test_a_bad_schema_is_refused_with_the_callers_path(schema, reason):
    with pytest.raises(InvalidRequest) as caught:
        wanted(schema)
    assert caught.value.message.startswith("Invalid schema for response_format 'person': ")
    assert reason in caught.value.message
    assert (caught.value.param, caught.value.code, caught.value.status) == (
        "text.format.schema",
        "invalid_json_schema",
        400,
    )


def test_nothing_is_fetched():
    """An embedded identifier must not make a local reference a remote one."""
    schema = {"type": "object", "properties": {"a": {"$id": "http://192.0.2.1/s", "$ref": "#/$defs/n"}}}
    output = wanted({**schema, "$defs": {"n": {"type": "null"}}})
    assert output.validate('{"a": null}')


def bomb(levels):
    """A schema of a few kilobytes that expands to 2 ** levels."""
    definitions = {f"d{i}": {"allOf": [{"$ref": f"#/$defs/d{i + 1}"}] * 2} for i in range(levels)}
    return {"type": "object", "$ref": "#/$defs/d0", "$defs": {**definitions, f"d{levels}": {}}}


@pytest.mark.parametrize(
    ("schema", "answer"),
    [
        (bomb(40), "{}"),
        ({"type": "object", "$ref": "#"}, "{}"),
        ({"type": "object", "additionalProperties": {"$ref": "#"}}, '{"a":' * 900 + "1" + "}" * 900),
    ],
)
def test_no_schema_occupies_the_gateway(schema, answer):
    before = time.thread_time()
    with pytest.raises(MismatchError, match="is too large, or too deep"):
        wanted(schema).validate(answer)
    assert time.thread_time() - before < 20


def test_many_items_are_compared_in_one_go():
    output = wanted({"type": "object", "properties": {"a": {"uniqueItems": True}}})
    items = [{"n": i} for i in range(50_000)]
    before = time.thread_time()
    assert output.validate(json.dumps({"a": items}))
    with pytest.raises(MismatchError, match="not unique"):
        output.validate(json.dumps({"a": [*items, {"n": 7}]}))
    assert time.thread_time() - before < 20  # every pair would take minutes
