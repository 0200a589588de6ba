from __future__ import annotations

from deepseek_proxy.translate.sealed import Purpose


def test_the_names_of_purposes_never_change() -> None:
    """They are part of tokens that clients keep: another name would close yesterday's conversations."""
    assert {purpose.name: purpose.value for purpose in Purpose}.items() >= {
        ("REASONING", "reasoning"),
        ("COMPACTION", "compaction"),
    }
