from __future__ import annotations

import json
from itertools import pairwise

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepseek_proxy.errors import InvalidRequest, UpstreamError
from deepseek_proxy.translate import jsontext

ANY_CHARACTER = st.characters()  # surrogates too
WELL_FORMED = st.text()


def split(text, cuts):
    """`text` in the pieces that cutting at `cuts` (any integers) makes."""
    edges = sorted({0, len(text), *(cut % (len(text) + 1) for cut in cuts)})
    return [text[a:b] for a, b in pairwise(edges)]


def json_values(text):
    scalars = (
        st.none()
        | st.booleans()
        | st.integers(-(2**53), 2**53)
        | st.floats(allow_nan=False, allow_infinity=False, width=32)
        | text
    )
    return st.recursive(
        scalars,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4),
        max_leaves=15,
    )


# -- loads ------------------------------------------------------------------------------------------


@given(json_values(WELL_FORMED))
def test_loads_reads_what_the_standard_library_writes(value):
    assert jsontext.loads(json.dumps(value).encode(), max_nesting=100) == value


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (rb'{"a": "\ud83d"}', {"a": "\ufffd"}),
        (rb'{"a": "\ude00"}', {"a": "\ufffd"}),
        (rb'{"a": "\uD83D!"}', {"a": "\ufffd!"}),
        (rb'{"\ud83d": 1}', {"\ufffd": 1}),
        (rb'["\ud83d\ud83d\ude00"]', ["\ufffd\U0001f600"]),
        (rb'["\ude00\ud83d"]', ["\ufffd\ufffd"]),
        (rb'["\\ud83d", "\ud83d"]', ["\\ud83d", "\ufffd"]),
        (rb'["\\\ud83d"]', ["\\\ufffd"]),
        (b"\xef\xbb\xbf{}", {}),
        (b' \r\n{"a":1}\t', {"a": 1}),
    ],
)
def test_loads_mends_what_clients_break(body, value):
    assert jsontext.loads(body, max_nesting=100) == value


@given(st.text(ANY_CHARACTER))
def test_loads_replaces_only_lone_halves(text):
    assert jsontext.loads(json.dumps([text]).encode(), max_nesting=1) == [jsontext.mend_surrogates(text)]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "is empty"),
        (b" \n", "is empty"),
        (b"\xef\xbb\xbf", "is empty"),
        (b"\xef\xbb\xbf\xef\xbb\xbf{}", "more than one byte order mark"),
        ("{}".encode("utf-16"), "not UTF-8: byte 0 is 0xff"),
        (b'{"a": "\xe9"}', "not UTF-8: byte 7 is 0xe9"),
        (b'{"a": NaN}', "NaN is no JSON number, send null instead (line 1, column 7)"),
        (b'{"a":\n [1, -Infinity]}', "-Infinity is no JSON number, send null instead (line 2, column"),
        (b'{"a": 1', "Expecting ',' delimiter (line 1, column 8)"),
        (b'{"a"', "Expecting ':' delimiter (line 1, column 5)"),
        (b"{'a': 1}", "Expecting property name enclosed in double quotes (line 1, column 2)"),
        (b'{\n"a": wat}', "Expecting value (line 2, column 6)"),
        (b'{"a": 1} x', "Extra data (line 1, column 10)"),
        (b'["a\nb"]', "Invalid control character at (line 1, column 4)"),
        (b"[1e999]", "(line 1, column"),
        (rb'["\ud83d", NaN]', "NaN is no JSON number, send null instead (line 1, column 12)"),
        (rb'["\u12"]', "(line 1, column"),
    ],
)
def test_loads_says_what_is_wrong_and_where(body, reason):
    with pytest.raises(InvalidRequest) as caught:
        jsontext.loads(body, max_nesting=100)
    assert reason in caught.value.message
    assert caught.value.status == 400


def nested(depth):
    return b'{"a":[' * (depth // 2) + b"[" * (depth % 2) + b"]" * (depth % 2) + b"]}" * (depth // 2)


@pytest.mark.parametrize("depth", [8, 9, 100, 200])
def test_nesting_is_allowed_up_to_the_limit(depth):
    assert jsontext.loads(nested(depth), max_nesting=depth) is not None
    with pytest.raises(InvalidRequest, match=f"more than {depth - 1} deep"):
        jsontext.loads(nested(depth), max_nesting=depth - 1)


def test_nesting_names_the_path_of_the_first_container_that_is_too_deep():
    body = rb'{"input": [1, "[{", {"ok": {}, "a,\"b": [[0, []]]}], "other": [[[[[]]]]]}'
    with pytest.raises(InvalidRequest) as caught:
        jsontext.loads(body, max_nesting=5)
    assert caught.value.param == r"input[2].a,\"b[0][1]"


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 100_000,
        b"[" * 100_000 + b"]" * 100_000,
        b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
        rb'["\ud83d",' + b"[" * 100_000,
        b"[" * 1_020 + b"]" * 1_020,
        b"[" * 1_030 + b"]" * 1_030,
    ],
)
def test_absurd_nesting_is_an_invalid_request(body):
    with pytest.raises(InvalidRequest, match="more than 100 deep") as caught:
        jsontext.loads(body, max_nesting=100)
    assert len(caught.value.param) < 250


def test_text_is_not_nesting():
    assert jsontext.loads(orjson.dumps({"a": "[{" * 1_000}), max_nesting=8)


# -- dumps ------------------------------------------------------------------------------------------


@given(json_values(WELL_FORMED))
def test_dumps_round_trips(value):
    assert orjson.loads(jsontext.dumps(value)) == value


def test_dumps_keeps_insertion_order_and_writes_utf8():
    assert jsontext.dumps({"z": 1, "a": ["é", "<"]}) == '{"z":1,"a":["é","<"]}'.encode()


@given(st.text(ANY_CHARACTER))
def test_what_is_received_is_read_with_the_same_allowances(text):
    sent = b"\xef\xbb\xbf" + json.dumps({"text": text}).encode()
    assert jsontext.loads_received(sent, "an event") == jsontext.loads(sent, max_nesting=9)
    with pytest.raises(UpstreamError, match="sent an event that is not JSON"):
        jsontext.loads_received(sent[:-1], "an event")


@given(st.text(ANY_CHARACTER))
def test_dumps_never_fails_on_surrogates(text):
    value = {"a": [text, {text: 1}, ("x", text)]}
    mended = jsontext.mend_surrogates(text)
    assert orjson.loads(jsontext.dumps(value)) == {"a": [mended, {mended: 1}, ["x", mended]]}


def test_dumps_joins_the_halves_of_a_pair():
    assert jsontext.dumps(["\ud83d\ude00", "\ud83d"]) == '["\U0001f600","\ufffd"]'.encode()


# -- literals ---------------------------------------------------------------------------------------


@given(st.lists(WELL_FORMED))
def test_literals_join_into_their_text(texts):
    assert jsontext.literal_text(orjson.dumps(text) for text in texts) == "".join(texts)


@pytest.mark.parametrize("literal", [rb'"\q"', b'"\xff"', b"1"])
def test_a_literal_that_is_none_is_the_upstreams_fault(literal):
    with pytest.raises(UpstreamError):
        jsontext.literal_text([b'"a"', literal])


# -- StringField ------------------------------------------------------------------------------------


def test_a_buffer_joins_literals_into_one_text():
    buffer = jsontext.TextBuffer()
    assert (buffer.text, len(buffer)) == ("", 0)
    for literal in (b'"a\\n"', b'""', '"ü\\""'.encode()):
        buffer.add(literal)
    assert buffer.text == 'a\nü"'


def read(pieces, key="input"):
    """What each feed gave, what finish gave; and the value property, which must be all of it."""
    field = jsontext.StringField(key)
    fed = [field.feed(piece) for piece in pieces]
    rest = field.finish()
    assert field.value == "".join(fed) + rest
    return fed, rest, field.value


@given(st.text(ANY_CHARACTER), st.booleans(), st.lists(st.integers(0)), st.sampled_from(["", " ", "\n\t "]))
def test_a_string_field_is_decoded_at_any_split(text, ascii_only, cuts, gap):
    literal = json.dumps(text, ensure_ascii=ascii_only)
    document = f'{gap}{{{gap}"input"{gap}:{gap}{literal}{gap}}}{gap}'
    _, rest, value = read(split(document, cuts))
    assert jsontext.mend_surrogates(value) == jsontext.mend_surrogates(text)
    assert rest == ""
    if ascii_only:
        assert value == jsontext.mend_surrogates(text)


@given(st.text(ANY_CHARACTER), st.lists(st.integers(0)))
def test_any_text_at_all_is_read_the_same_at_any_split(text, cuts):
    for document in (text, '{"input": "' + text, '{"input": 1' + text):
        assert read(split(document, cuts))[2] == read([document])[2]


def test_each_character_comes_as_soon_as_it_is_complete():
    document = r'{"input": "a\n\ud83d\ude00b"}'
    fed, rest, _ = read(list(document))
    assert [text for text in fed if text] == ["a", "\n", "\U0001f600", "b"]
    assert rest == ""
    assert fed[document.index("a")] == "a"


def test_the_key_is_the_one_named():
    assert read(['{"patch": "x"}'], key="patch")[0] == ["x"]
    assert read(['{"ключ": "x"}'], key="ключ")[0] == ["x"]


@pytest.mark.parametrize(
    ("document", "value"),
    [
        ('{"n": 1, "input": "late"}', "late"),
        (r'{"\u0069nput": "escaped key"}', "escaped key"),
        ('{"patch": "misnamed"}', "misnamed"),
        ("{}", ""),
        ("", ""),
        ("*** Begin Patch\n", "*** Begin Patch\n"),
        ('"just a string"', '"just a string"'),
        ('{"input": 5}', '{"input": 5}'),
        ('{"input": null}', '{"input": null}'),
        ('{"input": {"a": "b"}}', '{"input": {"a": "b"}}'),
        ('{"a": "1", "b": "2"}', '{"a": "1", "b": "2"}'),
        ("[" * 5_000, "[" * 5_000),
        ('{"inp', '{"inp'),
    ],
)
def test_other_shapes_are_given_at_the_end(document, value):
    fed, rest, whole = read(list(document))
    assert "".join(fed) == ""
    assert rest == whole == value


@pytest.mark.parametrize(
    ("document", "value"),
    [
        ('{"input": "a", "more": 1}', "a"),
        ('{"input": "a" garbage', "a"),
        ('{"input": "cut', "cut"),
        ('{"input": "cut\\', "cut"),
        ('{"input": "cut\\u00', "cut"),
        ('{"input": "cut\\ud83d\\u', "cut\ufffd"),
        (r'{"input": "C:\qux \u12zz"}', r"C:\qux \u12zz"),
        ('{"input": "raw\nline"}', "raw\nline"),
    ],
)
def test_a_string_once_begun_is_kept_whatever_follows(document, value):
    assert read(list(document))[2] == value
