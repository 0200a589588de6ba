"""The tokenizer gives the tokens that DeepSeek's own gives, one for one, and nobody has to wait for it."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest
from harness import oracle
from harness.threads import at_once
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizer import regenerate

from deepseek_proxy.tokenizer import encoding
from deepseek_proxy.tokenizer.encoding import Counter

# What the rules of the tokenizer tell apart: spaces of all kinds, letters, marks, digits, ideographs, kana
# with signs among them, signs, and what is none of these.
KINDS = [
    *(
        " ",
        "  ",
        "\n",
        "\r\n",
        "\t",
        "\u3000",
        "\xa0",
        "\x85",
        "\u2028",
        "a",
        "B",
        "é",
        "\u0301",
        "1",
        "２",
        "٣",
        "½",
    ),
    *(
        "中",
        "文",
        "の",
        "ア",
        "・",
        "ー",
        "゛",
        "龦",
        "㐀",
        "𠀀",
        "한",
        "ก",
        "ั",
        "ا",
        "!",
        "#",
        "$",
        "€",
        "{",
        '"',
        "'",
    ),
    *("…", "😀", "👍🏽", "\u200d", "\u200b", "\x00", "\x7f", "\ufeff", "\x0b", "\x1c", "\ue000"),
]


@settings(max_examples=2000)
@given(st.lists(st.sampled_from(KINDS), max_size=16).map("".join))
def test_every_mixture_is_split_as_by_deepseeks_tokenizer(text: str) -> None:
    assert encoding.encoding().encode_ordinary(text) == oracle.tokenizer().encode(text)


def test_this_projects_own_files_are_split_as_by_deepseeks_tokenizer() -> None:
    root = Path(__file__).parents[2]
    files = [*root.glob("*.md"), *root.glob("docs/**/*.md"), *root.glob("deepseek_proxy/**/*.py")]
    assert len(files) > 100
    for file in files:
        text = file.read_text("utf-8")
        if "｜" not in text and "think>" not in text:  # the other tokenizer reads special tokens in text, too
            assert encoding.encoding().encode_ordinary(text) == oracle.tokenizer().encode(text), file


def test_the_vocabulary_is_the_published_one() -> None:
    packed = Path(encoding.__file__).with_name(encoding.VOCABULARY).read_bytes()
    assert list(encoding.unpack(packed)) == regenerate.tokens()
    assert encoding.unpack(encoding.pack(regenerate.tokens())) == encoding.unpack(packed)


def test_special_tokens_in_a_text_are_text() -> None:
    assert Counter()("<｜User｜>") > 1


@pytest.mark.parametrize(
    "text",
    ["x " * 200_000, "a line\n" * 60_000, "\n" * 200_000, "の" * 200_000],
    ids=["no lines", "lines", "empty lines", "one word"],
)
def test_a_long_text_is_counted_in_pieces_with_hardly_an_error(text: str) -> None:
    assert Counter()(text) == pytest.approx(len(encoding.encoding().encode_ordinary(text)), rel=1e-3)


def test_pieces_are_the_text() -> None:
    text = "ab\n" * 50_000 + "c" * 150_000
    pieces = encoding._pieces(text)
    assert "".join(pieces) == text
    assert max(map(len, pieces)) <= 32_768
    assert encoding._pieces("") == [""]


def test_others_go_on_while_megabytes_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where a conversation consists of many short texts."""
    turns = []
    monkeypatch.setattr(time, "sleep", turns.append)
    Counter()("one line of some length\n" * 20_000)
    assert turns == [0] * 5
    turns.clear()
    count = Counter()
    for _ in range(300):
        count("a short text, sent often " * 40)
    assert turns == [0] * 4


def test_threads_can_count_at_the_same_time() -> None:
    expected = Counter()("Some text.\n" * 5_000)
    found: list[int] = []
    at_once(4, lambda _: found.append(Counter()("Some text.\n" * 5_000)))
    assert found == [expected] * 4


def test_nothing_is_loaded_until_something_is_counted() -> None:
    program = (
        "from deepseek_proxy.app import create_app; from deepseek_proxy.tokenizer import encoding; "
        "print(encoding.encoding.cache_info().currsize); encoding.Counter()('x'); "
        "print(encoding.encoding.cache_info().currsize)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["0", "1"]
