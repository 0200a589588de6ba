from __future__ import annotations

import re

from deepseek_proxy.translate.responses.codex_prompt import BASE_INSTRUCTIONS


def test_the_prompt_is_plain_text_of_whole_paragraphs() -> None:
    assert BASE_INSTRUCTIONS.strip() + "\n" == BASE_INSTRUCTIONS
    assert BASE_INSTRUCTIONS.isascii()
    assert "\t" not in BASE_INSTRUCTIONS
    assert re.findall(r"[ \\]+\n|\n{3,}", BASE_INSTRUCTIONS) == []
    assert re.findall("^# .*", BASE_INSTRUCTIONS, re.MULTILINE) == [
        "# How you work",
        "# Tools",
        "# How you write",
    ]


def test_the_prompt_stays_short() -> None:
    """It is sent with every request. The prompt built into Codex has some 17,000 characters."""
    assert 3_000 < len(BASE_INSTRUCTIONS) < 8_000


def test_the_prompt_shows_a_whole_patch() -> None:
    """Models of other makers know the form only from here."""
    patch = BASE_INSTRUCTIONS[
        BASE_INSTRUCTIONS.index("*** Begin Patch") : BASE_INSTRUCTIONS.index("*** End Patch")
    ]
    for line in ("*** Update File: ", "@@ ", "\n ", "\n-", "\n+", "*** Add File: ", "*** Delete File: "):
        assert line in patch


def test_the_prompt_names_nobody_elses_model_and_nothing_that_changes() -> None:
    """A changed byte makes the cache miss the whole conversation."""
    assert re.findall(r"(?i)gpt|openai|claude|anthropic|deepseek|20\d\d|\{|\}", BASE_INSTRUCTIONS) == []
