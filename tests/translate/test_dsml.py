from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepseek_proxy.translate import dsml

TAGS = [
    "<｜DSML｜tool_calls>",
    "<｜DSML｜ calls>",
    "<|DSML|function_calls>",
    '<｜DSML｜invoke name="shell">',
    '<｜｜DSML｜｜ invoke name="read_file">',
    '<‖DSML‖parameter name="a b" string="true">',
    '<｜DSML｜ parameter name="n" string="false">',
    "</｜DSML｜ parameter>",
    "</|DSML|invoke>",
    "</｜DSML｜tool_calls>",
    "</think>",
]
NO_TAGS = [
    "<div>",
    "</div>",
    "< ｜DSML｜tool_calls>",
    "<DSML>",
    "<｜｜｜DSML｜tool_calls>",
    "<｜DSML｜  calls>",
    "<｜DSML｜tool_call>",
    "<｜DSML｜invoke>",
    '<｜DSML｜invoke name="">',
    '<｜DSML｜invoke name="a" b>',
    f'<｜DSML｜invoke name="{"x" * 201}">',
    '<｜DSML｜parameter name="a">',
    '<｜DSML｜parameter name="a" string="yes">',
    "</｜DSML｜ invoke name>",
    "<think>",
    "</thinking>",
]


@pytest.mark.parametrize("tag", TAGS)
def test_a_tag_is_known_whole_and_each_of_its_beginnings_as_one(tag):
    assert dsml.TAG.fullmatch(tag)
    for end in range(1, len(tag)):
        assert dsml.BEGINNING.fullmatch(tag[:end]), tag[:end]
        assert not dsml.TAG.match(tag[:end])


@pytest.mark.parametrize("text", NO_TAGS)
def test_what_only_resembles_a_tag_stops_being_a_beginning(text):
    assert not dsml.TAG.match(text)
    assert not dsml.BEGINNING.fullmatch(text)


@given(st.sampled_from(TAGS), st.data())
def test_a_beginning_is_nothing_that_can_no_longer_become_a_tag(tag, data):
    """One wrong character in the fixed part of a tag ends the matter at once."""
    fixed = tag[: tag.index('"') + 1] if '"' in tag else tag
    at = data.draw(st.integers(0, len(fixed) - 1))
    assert not dsml.BEGINNING.fullmatch(f"{tag[:at]}\0{tag[at + 1 :]}")


def test_markup_bounds_what_a_caller_has_to_keep_of_a_beginning():
    longest = '<｜｜DSML｜｜ parameter name="' + "x" * 200 + '" string="false"'
    assert dsml.BEGINNING.fullmatch(longest)
    assert not dsml.BEGINNING.fullmatch('<｜｜DSML｜｜ parameter name="' + "x" * 201)


def drive(*parts):
    """Feeds tags and texts; returns the markup and the step of each tag, or whether a text was taken."""
    markup = dsml.Markup(dsml.TAG.fullmatch(parts[0]))
    steps = []
    for part in parts[1:]:
        tag = dsml.TAG.fullmatch(part)
        steps.append(markup.tag(tag, {"f", "g"}) if tag else markup.text(part))
    return markup, steps


CALLS, INVOKE, PARAMETER = TAGS[0], '<｜DSML｜invoke name="f">', '<｜DSML｜parameter name="a" string="true">'
END_PARAMETER, END_INVOKE, END_CALLS = "</｜DSML｜parameter>", "</｜DSML｜invoke>", "</｜DSML｜tool_calls>"


def test_a_call_is_complete_with_its_closing_tag():
    markup, steps = drive(CALLS, "\n", INVOKE, PARAMETER, "x", END_PARAMETER, END_INVOKE, END_CALLS)
    assert steps[-2:] == [dsml.Step.CALL, dsml.Step.END]
    assert (markup.tool, markup.arguments, markup.calls) == ("f", '{"a": "x"}', 1)


def test_what_came_is_kept_until_a_call_is_complete():
    markup, _ = drive(CALLS, "\n", INVOKE, PARAMETER, "x")
    assert "".join(markup.raw) == CALLS + "\n" + INVOKE + PARAMETER + "x"
    assert markup.size == len("".join(markup.raw).encode())
    markup, _ = drive(CALLS, INVOKE, END_INVOKE, "\n")
    assert markup.raw == ["\n"]
    assert markup.is_spent


@pytest.mark.parametrize(
    "parts",
    [
        (CALLS, "text"),
        (CALLS, PARAMETER),
        (CALLS, END_INVOKE),
        (CALLS, CALLS),
        (CALLS, '<｜DSML｜invoke name="unknown">'),
        (INVOKE, "text"),
        (INVOKE, INVOKE),
        (INVOKE, END_CALLS),
        (INVOKE, "</think>"),
        (CALLS, INVOKE, END_INVOKE, PARAMETER),
    ],
)
def test_what_stands_in_the_wrong_place_breaks_the_form(parts):
    _, steps = drive(*parts)
    assert steps[-1] in (dsml.Step.BROKEN, False)


def test_a_value_may_hold_any_other_tag():
    inner = [*TAGS[:7], "</｜DSML｜invoke>", "</think>", "a < b"]
    markup, steps = drive(INVOKE, PARAMETER, *inner, END_PARAMETER, END_INVOKE)
    assert steps[-1] is dsml.Step.CALL
    assert markup.arguments == '{"a": "' + "".join(inner).replace('"', '\\"') + '"}'
