"""Identifiers of objects: their prefixes, and who makes the random part.

Clients check the prefixes (Codex drops ids with a wrong one from what it sends back). The random part
comes from outside: this package has no randomness.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

NewId = Callable[[str], str]
"""Makes a fresh id from its prefix: `new_id("msg") -> "msg_…"`."""

RESPONSE: Final = "resp"
CHAT_COMPLETION: Final = "chatcmpl-"
COMPLETION: Final = "cmpl-"
MESSAGE: Final = "msg"
REASONING: Final = "rs"
FUNCTION_CALL: Final = "fc"
CUSTOM_TOOL_CALL: Final = "ctc"
TOOL_SEARCH_CALL: Final = "tsc"
LOCAL_SHELL_CALL: Final = "lsh"
SHELL_CALL: Final = "sh"
APPLY_PATCH_CALL: Final = "apc"
WEB_SEARCH_CALL: Final = "ws"
COMPACTION: Final = "cmp"
CALL: Final = "call"
