from __future__ import annotations

import copy

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepseek_proxy.translate import keywords

DRAFT_7 = "http://json-schema.org/draft-07/schema#"


@pytest.fixture(scope="module")
def deepseek_accepts(deepseek_check):
    def accepts(parameters):
        tool = {"type": "function", "function": {"name": "f", "parameters": parameters}}
        messages = [{"role": "user", "content": "x"}]
        body = {
            "model": "deepseek-flash",
            "messages": messages,
            "thinking": {"type": "disabled"},
            "tools": [tool],
        }
        return deepseek_check(body) == (200, None)

    return accepts


def inside(schema):
    """A schema whose root DeepSeek accepts, with `schema` in it."""
    return {"type": "object", "properties": {"a": schema}}


GOOD = [
    {"type": ["string", "null"], "description": "d", "default": None, "nullable": True},
    {"enum": ["a", 1, None], "const": {"type": None}, "examples": [{"$ref": "#/nope"}]},
    {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "integer"}}]},
    {"type": "object", "properties": {}, "additionalProperties": False, "required": []},
    {"type": "object", "patternProperties": {"^x-": {}}, "propertyNames": {"pattern": "^[a-z]+$"}},
    {"type": "integer", "minimum": 0, "exclusiveMaximum": 10, "multipleOf": 0.5},
    {"type": "string", "minLength": 1.0, "format": "made-up", "contentEncoding": "base64"},
    {"prefixItems": [{}, True], "items": False, "uniqueItems": True, "minContains": 1},
    {"if": {"required": ["b"]}, "then": {}, "else": {"not": True}},
    {"x-vendor": {"type": None, "properties": 5}},
    {"dependentRequired": {"b": ["c"]}, "dependencies": {"b": ["c"], "c": {}}},
    {"$ref": "#"},
    {"$ref": "#/properties/a"},
    {"properties": {"type": {"type": "string"}, "$ref": {}, "encrypted": {}, "strict": True}},
    True,
    {},
]


@pytest.mark.parametrize("schema", GOOD)
def test_a_good_schema_comes_back_as_the_same_object(deepseek_accepts, schema):
    whole = inside(schema)
    before = copy.deepcopy(whole)
    assert keywords.repair(whole) is whole
    assert whole == before
    assert deepseek_accepts(whole)


@pytest.mark.parametrize(
    "whole",
    [
        {**inside({"$ref": "#/$defs/A"}), "$defs": {"A": {"$ref": "#/$defs/B"}, "B": {"type": "string"}}},
        {**inside({"$ref": "#/definitions/A~1b%20c"}), "definitions": {"A/b c": {}}},
        {**inside({"$ref": "#/components/schemas/A"}), "components": {"schemas": {"A": {"type": "string"}}}},
        {**inside({"$ref": "#here"}), "$defs": {"A": {"$anchor": "here"}}},
        {**inside({"$ref": "#/properties/a/anyOf/0", "anyOf": [{}]})},
        {**inside({"items": [{"type": "string"}, {}]}), "$schema": DRAFT_7},
        {
            **inside({}),
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "$id": "https://a.example/s.json",
        },
    ],
)
def test_good_references_and_drafts_stay(deepseek_accepts, whole):
    assert keywords.repair(whole) is whole
    assert deepseek_accepts(whole)


@pytest.mark.parametrize(
    ("schema", "repaired"),
    [
        ({"type": None, "description": "d"}, {"description": "d"}),
        ({"type": "wat"}, {}),
        ({"type": "STRING"}, {"type": "string"}),
        ({"type": "int"}, {"type": "integer"}),
        ({"type": []}, {}),
        ({"type": ["string", "string", None, "wat"]}, {"type": ["string", "null"]}),
        (None, {}),
        ("string", {}),
        ({"properties": None, "required": None}, {}),
        ({"properties": []}, {"properties": {}}),
        ({"properties": {"x": None}}, {"properties": {"x": {}}}),
        ({"required": ["b", 1, "b"]}, {"required": ["b"]}),
        ({"required": True}, {}),
        ({"title": None, "description": 5, "format": None}, {}),
        ({"enum": None, "examples": "x"}, {}),
        ({"items": [{"type": "string"}]}, {"prefixItems": [{"type": "string"}]}),
        ({"items": None, "additionalProperties": None}, {}),
        ({"anyOf": [], "allOf": {}, "oneOf": [None]}, {"oneOf": [{}]}),
        ({"minLength": -1, "maxLength": 1.5, "minItems": True}, {}),
        ({"minimum": "1", "exclusiveMinimum": True, "multipleOf": 0}, {}),
        ({"pattern": r"[\w-.]", "minLength": 1}, {"minLength": 1}),
        ({"patternProperties": {"[": {}, "^a$": None}}, {"patternProperties": {"^a$": {}}}),
        ({"$ref": "#/$defs/none", "title": "t"}, {"title": "t"}),
        ({"$ref": "https://example.com/schema.json"}, {}),
        ({"$ref": "#nowhere"}, {}),
        ({"$ref": 3}, {}),
        ({"$schema": "^"}, {}),
        (
            {"dependentRequired": {"b": None}, "dependencies": {"b": 5}},
            {"dependentRequired": {}, "dependencies": {}},
        ),
    ],
)
def test_what_errs_is_mended_and_nothing_else(deepseek_accepts, schema, repaired):
    whole = inside(schema)
    before = copy.deepcopy(whole)
    assert keywords.repair(whole) == inside(repaired)
    assert whole == before
    assert deepseek_accepts(inside(repaired))
    assert not deepseek_accepts(whole)


def test_what_is_no_keyword_or_would_move_references_is_taken_out():
    schema = inside({"encrypted": True, "strict": True, "$id": "https://a.example/inner", "type": "string"})
    assert keywords.repair(schema) == inside({"type": "string"})
    assert keywords.repair({**inside({}), "strict": True}) == inside({})


def test_a_repair_keeps_the_order_of_keys():
    schema = {"type": "object", "b": 1, "properties": {"z": {"type": None}, "a": {}}, "title": None, "c": 2}
    assert list(keywords.repair(schema)) == ["type", "b", "properties", "c"]
    assert list(keywords.repair(schema)["properties"]) == ["z", "a"]


def test_a_reference_goes_when_the_repair_takes_its_target():
    whole = {**inside({"$ref": "#/properties/b/anyOf/0"}), "title": None}
    whole["properties"]["b"] = {"anyOf": {"0": {}}}
    assert keywords.repair(whole) == {"type": "object", "properties": {"a": {}, "b": {}}}


def test_a_reference_to_what_cannot_be_mended_goes():
    whole = {**inside({"$ref": "#/x-shared/A"}), "x-shared": {"A": {"type": None}}}
    assert keywords.repair(whole) == {**inside({}), "x-shared": {"A": {"type": None}}}


def test_an_anchor_counts_only_where_a_schema_stands(deepseek_accepts):
    whole = {**inside({"$ref": "#here"}), "default": {"$anchor": "here"}}
    assert not deepseek_accepts(whole)
    assert keywords.repair(whole) == {**inside({}), "default": {"$anchor": "here"}}


def test_circles_of_references_end():
    whole = inside({"$ref": "#/x/A"})
    whole["x"] = {"A": {"$ref": "#/x/B"}, "B": {"$ref": "#/x/A"}}
    assert keywords.repair(whole) is whole


def test_deep_schemas_are_cut_where_deepseek_would_stop_reading(deepseek_accepts):
    schema = {}
    for _ in range(400):
        schema = inside(schema)
    repaired = keywords.repair(schema)
    assert deepseek_accepts(repaired)
    depth, node = 0, repaired
    while node:
        depth, node = depth + 1, node["properties"]["a"]
    assert depth == keywords.MAX_DEPTH + 1


KEYWORDS = st.sampled_from(
    """
    $anchor $comment $defs $dynamicRef $id $recursiveRef $ref $schema additionalProperties allOf anyOf const
    contains default definitions dependencies dependentRequired dependentSchemas description else encrypted
    enum examples exclusiveMinimum format if items maxLength minimum multipleOf not nullable pattern
    patternProperties prefixItems properties propertyNames readOnly required strict then title type type
    unevaluatedItems uniqueItems x-y
    """.split()
)
REFERENCES = st.sampled_from(
    ["#", "#/properties/a", "#/$defs/a", "#/$defs/a/items", "#/x-y", "#/x-y/a", "#a", "a"]
)
SCALARS = (
    st.sampled_from(
        [None, True, 0, 1, -1, 1.5, "", "string", "OBJECT", "wat", "^a$", "[", DRAFT_7, "http://x/y"]
    )
    | REFERENCES
)
SCHEMAS = st.recursive(
    SCALARS | st.just({}),
    lambda inner: (
        st.dictionaries(KEYWORDS, inner, max_size=4)
        | st.dictionaries(st.sampled_from("abc"), inner, max_size=3)
        | st.lists(inner, max_size=3)
    ),
    max_leaves=25,
)


@given(st.dictionaries(KEYWORDS, SCHEMAS, max_size=5))
@settings(max_examples=400)
def test_whatever_comes_deepseek_accepts_the_repair(deepseek_accepts, schema):
    whole = {"type": "object", **{key: value for key, value in schema.items() if key != "type"}}
    before = copy.deepcopy(whole)
    repaired = keywords.repair(whole)
    assert deepseek_accepts(repaired)
    assert keywords.repair(repaired) is repaired
    assert whole == before


def test_a_survey_names_what_does_not_resolve_and_the_patterns_of_names():
    schema = {
        "properties": {"a": {"$ref": "#/$defs/none"}, "b": {"$ref": "http://a.example/"}},
        "patternProperties": {"^x-": {"patternProperties": {"(a+)+": {}}}},
        "pattern": "[",
    }
    survey = keywords.survey(schema)
    assert survey.unresolved == ("#/$defs/none", "http://a.example/")
    assert sorted(survey.property_patterns) == ["(a+)+", "^x-"]
    assert survey.repaired["pattern"] == "["
    good = {"type": "object", "pattern": "["}
    assert keywords.survey(good).repaired is good
