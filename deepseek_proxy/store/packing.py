"""How things are kept: hash chains over items, several items as one blob, large blobs compressed.

Pure functions. Refuses to know where blobs are kept, and what is in the JSON. Zstandard: RFC 8878.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterable, Sequence
from typing import Final

from deepseek_proxy.store.base import Entry, Head, Item, Segment

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

HASH_BYTES: Final = 20
_SMALL_BYTES: Final = 200
"""Below this, compression saves less than its frame costs."""
# Set up once: that takes longer than to compress a second of a stream. It holds no state between frames.
_COMPRESSOR: Final = zstd.ZstdCompressor(level=1)
_PLAIN, _ZSTD = b"\0", b"\1"


def compress(data: bytes) -> bytes:
    """`data` behind a byte that says whether it is compressed."""
    if len(data) >= _SMALL_BYTES:
        packed = _COMPRESSOR.compress(data, zstd.ZstdCompressor.FLUSH_FRAME)
        if len(packed) < len(data):
            return _ZSTD + packed
    return _PLAIN + data


def decompress(blob: bytes) -> bytes:
    return zstd.decompress(blob[1:]) if blob[:1] == _ZSTD else blob[1:]


def heads(base: Head | None, items: Iterable[Item]) -> list[Head]:
    """The head of the chain after each of `items`, which stand on top of `base`.

    The ids are left out: a client that sends its history again need not know those that it was given.
    """
    found, head = [], base or b""
    for item in items:
        head = hashlib.blake2b(head + item.json, digest_size=HASH_BYTES).digest()
        found.append(head)
    return found


def segment(parent: Head | None, head: Head, items: Sequence[Item], elsewhere: int = 0) -> Segment:
    """The first so many of `items` are found `elsewhere` by their ids."""
    return Segment(head, parent, [item.id for item in items[elsewhere:]], pack(items))


def entry(item: Item) -> Entry:
    return Entry(item.id, pack([item]))


def pack(items: Sequence[Item]) -> bytes:
    """One line with the ids, then one for each item. Raises `ValueError` where an item is not one line."""
    lines = [json.dumps([item.id for item in items]).encode(), *(item.json for item in items)]
    if any(b"\n" in line for line in lines):
        raise ValueError("an item's JSON has more than one line")
    return compress(b"\n".join(lines))


def unpack(blob: bytes) -> list[Item]:
    ids, *lines = decompress(blob).split(b"\n")
    return [Item(id, line) for id, line in zip(json.loads(ids), lines, strict=True)]
