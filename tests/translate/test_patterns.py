from __future__ import annotations

import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepseek_proxy.translate import patterns

COMMON = [
    "",
    "^[A-Za-z0-9_-]+$",
    r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}(:\d{2}(\.\d+)?)?(Z|([+-]\d{2}:\d{2}))$",
    "^[0-9a-f]{8}-[0-9a-f]{4}$",
    r"^(?!\.)(?!.*\.\.)([A-Za-z0-9_'+\-\.]*)[A-Za-z0-9_+-]@([A-Za-z0-9][A-Za-z0-9\-]*\.)+[A-Za-z]{2,}$",
    r"^(\([0-9]{3}\))?[0-9]{3}-[0-9]{4}$",
    r'^[^<>:"/\\|?*]+$',
    "^#(?:[0-9a-fA-F]{3}){1,2}$",
    r"(?<year>\d{4})",
    r"(?<=ab)c(?<!x)",
    r"\p{L}{1,100}",
    r"[\p{L}\p{N}_]+",
    r"\w+\/\w+",
    r"[\u4e00-\u9fff]{2,4}",
    "a??b*?c+?d{1,2}?",
    "(a|b|)c",
    r"^--[a-z]+$",
    r"[a-z-]|[-+]|[.\-_]",
    "日本|é+",
    r"\$\(\)\*\+\.\?\[\]\^\{\|\}",
    ".{1,4096}",
]
REFUSED = [
    r"[\w-.]",
    r"\Z",
    "[",
    "(",
    ")",
    "a{",
    "a{,2}",
    "a{2,1}",
    "*a",
    "a**",
    "a\\",
    r"\c",
    r"\xZ",
    r"\1",
    "[z-a]",
    r"[a-\d]",
    "[]",
    "[^]",
    "[a--b]",
    "(?=a)*",
    "(?>a)",
    "(?#c)",
    "(?",
    "(?:){2}",
    r"\N{BULLET}",
    r"\0",
    r"[\b]",
    r"(?<n>a)\k<n>",
    r"\ud83d",
    r"\p{Nope}",
    r"\p{L}{1,1000}",
    "(a{999}){999}",
    ".{0,100000}",
]


@pytest.fixture(scope="module")
def deepseek_compiles(deepseek_check):
    def compiles(pattern):
        parameters = {"type": "object", "properties": {"a": {"pattern": pattern}}}
        tool = {"type": "function", "function": {"name": "f", "parameters": parameters}}
        messages = [{"role": "user", "content": "x"}]
        body = {
            "model": "deepseek-flash",
            "messages": messages,
            "thinking": {"type": "disabled"},
            "tools": [tool],
        }
        return deepseek_check(body) == (200, None)

    return compiles


@pytest.mark.parametrize("pattern", COMMON)
def test_usual_patterns_stay(deepseek_compiles, pattern):
    assert patterns.parse(pattern) is not None
    assert deepseek_compiles(pattern)


@pytest.mark.parametrize("pattern", REFUSED)
def test_patterns_that_deepseek_refuses_go(deepseek_compiles, pattern):
    assert patterns.parse(pattern) is None
    assert not deepseek_compiles(pattern)


ESCAPES = [r"\d", r"\w", r"\b", r"\p{L}", r"\-", r"\u0041"]
OPENINGS = ["(?:", "(?=", "(?<!", "(?<n>", "[^", "[a-z]", "{2}", "{1,3}", "{2,}", "&&", "--"]
PIECES = st.sampled_from([*"abz09_-.^$|*+?(){}[]\\,:=!<>&~ é", *ESCAPES, *OPENINGS])


@given(st.lists(PIECES, max_size=10).map("".join))
@settings(max_examples=500)
def test_what_stays_is_what_deepseek_compiles(deepseek_compiles, pattern):
    if patterns.parse(pattern) is not None:
        assert deepseek_compiles(pattern)


@pytest.mark.parametrize(
    ("pattern", "text", "fails"),
    [
        ("^a+$", "aaa", False),
        ("^a+$", "aab", True),
        ("b", "aab", False),
        (r"^\d{4}-\d{2}$", "2026-11", False),
        (r"^\d{4}-\d{2}$", "2026/11", True),
        ("(?<x>a)b", "ab", False),
        ("^(a|b)?c$", "dc", True),
        (r"^\p{Lu}$", "a", False),
    ],
)
def test_a_text_fails_only_where_it_surely_does_not_match(pattern, text, fails):
    assert patterns.parse(pattern).fails(text) is fails


@given(st.from_regex(r"[ab]{0,12}", fullmatch=True), st.sampled_from(["a+b", "^(ab)*$", "a{2,3}", "^b?a|b$"]))
def test_a_matching_text_never_fails(text, pattern):
    if re.search(pattern, text):
        assert not patterns.parse(pattern).fails(text)


@pytest.mark.parametrize(
    "pattern",
    [
        "^(a+)+$",
        "^(a|a)*$",
        "^(a?){40}a{40}$",
        "(a*)*b",
        "^(([a-z])+.)+[A-Z]([a-z])+$",
        "a*a*a*a*a*a*b",
        r"(\w+\s?)+!",
    ],
)
def test_no_pattern_occupies_the_gateway(pattern):
    parsed = patterns.parse(pattern)
    before = time.thread_time()
    if parsed is not None:
        for size in (30, 1_000, 100_000):
            parsed.fails("a" * size)
    assert time.thread_time() - before < 5  # minutes, or the age of the universe, without the bound


def test_work_is_estimated_from_the_repetitions():
    assert patterns.parse("^abc$").degree == 0
    assert patterns.parse("^a+$").degree == 1
    assert patterns.parse("a+b+").degree == 3  # from each start, two runs
    assert patterns.parse("^a|b+").degree == 2
    assert patterns.parse("^(a+)+$").degree is None
    assert patterns.parse("^(a+)?$").degree == 1
    assert patterns.parse("^(abc)+$").degree == 1
