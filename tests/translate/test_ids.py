from __future__ import annotations

from deepseek_proxy.translate import ids

# As in OpenAI's recorded bodies. Codex drops an id with another prefix from what it sends back.
OPENAIS = {
    "RESPONSE": "resp",
    "CONVERSATION": "conv",
    "CALL": "call",
    "MESSAGE": "msg",
    "REASONING": "rs",
    "FUNCTION_CALL": "fc",
    "CUSTOM_TOOL_CALL": "ctc",
    "TOOL_SEARCH_CALL": "tsc",
    "LOCAL_SHELL_CALL": "lsh",
    "SHELL_CALL": "sh",
    "APPLY_PATCH_CALL": "apc",
    "WEB_SEARCH_CALL": "ws",
    "COMPACTION": "cmp",
    "CHAT_COMPLETION": "chatcmpl-",
    "COMPLETION": "cmpl-",
}


def test_the_prefixes_are_openais() -> None:
    prefixes = {name: value for name, value in vars(ids).items() if name.isupper()}
    assert prefixes
    assert prefixes.items() <= OPENAIS.items()
