"""Text -> number of tokens, as DeepSeek's V4 tokenizer splits it.

The engine is tiktoken, which takes one pattern and ranked byte strings; `_PATTERN` says in one expression
what DeepSeek's `tokenizer.json` says in three that are applied one after the other. Nothing is loaded
before the first text is counted (0.15 s and 50 MB, once a process). Megabytes take long enough to be felt by
everybody else in the process: see `Counter`.
"""

from __future__ import annotations

import functools
import time
import zlib
from importlib import resources
from typing import Final

import tiktoken

VOCABULARY: Final = "vocabulary.zlib"
FIRST_ID: Final = 3  # before it stand three special tokens

_PIECE_CHARACTERS: Final = 32_768
_TURN_CHARACTERS: Final = 2 * _PIECE_CHARACTERS
"""How much is counted before others are let run: 10 ms' worth."""

_CJK: Final = "一-龥぀-ヿ"  # pieces of their own, in the second of DeepSeek's three expressions
_LETTER: Final = rf"[[\p{{L}}\p{{M}}]--[{_CJK}]]"
_OTHER: Final = rf"[^\s\p{{L}}\p{{M}}\p{{N}}\p{{P}}\p{{S}}{_CJK}]"  # control characters and the like
_PATTERN: Final = "|".join(
    (
        r"\p{N}{1,3}",
        rf"[{_CJK}]+",
        r"[!-/:-@\[-`{-~][A-Za-z]+",
        rf"[^\r\n\p{{L}}\p{{P}}\p{{S}}\p{{N}}{_CJK}]?{_LETTER}+",
        rf" ?[[\p{{P}}\p{{S}}]--[{_CJK}]]+[\r\n]*",
        r"\s*[\r\n]+",
        # White space leaves its last character to the word behind it; digits and ideographs take none.
        rf"\s+(?![^\s\p{{N}}{_CJK}])",
        r"\s+",
        rf"(?:{_OTHER}(?!{_LETTER}))+",
    )
)


@functools.cache
def encoding() -> tiktoken.Encoding:
    """The tokenizer, loaded at the first call. Two threads may load it twice: that does no harm."""
    packed = resources.files(__package__).joinpath(VOCABULARY).read_bytes()
    return tiktoken.Encoding(
        "deepseek-v4", pat_str=_PATTERN, mergeable_ranks=unpack(packed), special_tokens={}
    )


def unpack(packed: bytes) -> dict[bytes, int]:
    """The vocabulary: byte strings with their rank, which is their id. The reverse of `pack`."""
    data = zlib.decompress(packed)
    ranks: dict[bytes, int] = {}
    at = 0
    while at < len(data):
        end = at + 1 + data[at]
        ranks[data[at + 1 : end]] = FIRST_ID + len(ranks)
        at = end
    return ranks


def pack(tokens: list[bytes]) -> bytes:
    """`tokens` in the order of their ids, each behind its length."""
    return zlib.compress(b"".join(bytes((len(token),)) + token for token in tokens), 9)


class Counter:
    """Counts the texts of one request.

    It lets others run after every 64 Ki characters, be they threads or greenlets: a long conversation takes
    half a second, in which every stream of the process would stand still.
    """

    def __init__(self) -> None:
        self._since_turn = 0

    def __call__(self, text: str) -> int:
        """The number of tokens of `text`, in which nothing is a special token."""
        tokens = 0
        for piece in _pieces(text):
            tokens += len(encoding().encode_ordinary(piece))
            self._since_turn += len(piece)
            if self._since_turn >= _TURN_CHARACTERS:
                self._since_turn = 0
                time.sleep(0)
        return tokens


def _pieces(text: str) -> list[str]:
    """`text` in pieces of bounded length, cut at line ends, where tokens end as well."""
    pieces = []
    at = 0
    while len(text) - at > _PIECE_CHARACTERS:
        end = text.rfind("\n", at, at + _PIECE_CHARACTERS) + 1 or at + _PIECE_CHARACTERS
        pieces.append(text[at:end])
        at = end
    pieces.append(text[at:])
    return pieces
