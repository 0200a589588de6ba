from __future__ import annotations

from deepseek_proxy.translate import ids


def test_the_prefixes_are_openais() -> None:
    """Codex drops an id with another prefix from what it sends back."""
    prefixes = {name: value for name, value in vars(ids).items() if name.isupper()}
    assert prefixes == {
        "RESPONSE": "resp",
        "MESSAGE": "msg",
        "REASONING": "rs",
        "FUNCTION_CALL": "fc",
        "CUSTOM_TOOL_CALL": "ctc",
        "TOOL_SEARCH_CALL": "tsc",
        "LOCAL_SHELL_CALL": "lsh",
        "SHELL_CALL": "sh",
        "APPLY_PATCH_CALL": "apc",
        "COMPACTION": "cmp",
        "CALL": "call",
    }
