"""What a call to DeepSeek is charged for: the usage that it reports, else an estimate, rather too high.

DeepSeek tells the usage at the end of an answer, and nothing of one that is given up before. Refuses to know
prices, and whose tokens they are.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

from deepseek_proxy.translate.hub import Delta, Literal, Usage

BYTES_PER_TOKEN: Final = 3
"""Of UTF-8. In DeepSeek's tokenizer prose and code of any language have more, random characters less."""
TOKENS_PER_IMAGE: Final = 1024
"""At most (DeepSeek's docs of Sep 2026)."""

_DATA_BEGINS: Final = b";base64,"


class Meter:
    """Reads along one call, whose request has been counted as `prompt_tokens` (`estimate_prompt`)."""

    __slots__ = ("_bytes", "_chunks", "_prompt_tokens", "_reported")

    def __init__(self, prompt_tokens: int) -> None:
        self._prompt_tokens = prompt_tokens
        self._bytes = 0
        self._chunks = 0
        self._reported: Usage | None = None

    def count(self, delta: Delta) -> None:
        """Takes what was read next of the answer."""
        self._chunks += 1
        if isinstance(delta, Literal):
            self._bytes += len(delta.json) - len(b'""')
            return
        texts = (delta.reasoning, delta.content, *(call.arguments for call in delta.tool_calls))
        self._bytes += sum(len(text.encode("utf-8", "surrogatepass")) for text in texts)
        if delta.usage is not None:
            self._reported = delta.usage

    def reading(self, parse: Callable[[bytes], Delta]) -> Callable[[bytes], Delta]:
        """`parse`, with everything counted that comes through it."""

        def parsed(payload: bytes) -> Delta:
            delta = parse(payload)
            self.count(delta)
            return delta

        return parsed

    @property
    def usage(self) -> Usage:
        """As DeepSeek has reported it; else the estimate: nothing cached, and a token a chunk at least."""
        if self._reported is not None:
            return self._reported
        written = max(self._chunks, math.ceil(self._bytes / BYTES_PER_TOKEN)) if self._bytes else 0
        return Usage(self._prompt_tokens, 0, written, 0)


def estimate_prompt(body: bytes, most: int) -> int:
    """How many tokens the JSON text of a request to DeepSeek may have, `most` where it seems to be more."""
    size, images, begin = len(body), 0, 0
    while (begin := body.find(_DATA_BEGINS, begin)) >= 0:
        end = body.find(b'"', begin)
        end = len(body) if end < 0 else end
        size -= end - begin
        images += 1
        begin = end
    return min(math.ceil(size / BYTES_PER_TOKEN) + images * TOKENS_PER_IMAGE, most)
