"""What an image costs in tokens, from its size in pixels.

DeepSeek V4.1 cuts an image into tiles of 42 by 42 pixels, a token each, with one more for every row and two
for the whole; small images are enlarged first, large ones reduced until they fit 1024 tokens. Measured with
deepseek-recipe 0.2.0. Sizes are read from the header of an inline image; an address is never fetched.
"""

from __future__ import annotations

import binascii
import io
import math
from typing import Final

import imagesize

MAX_IMAGE_TOKENS: Final = 1024

_PATCH: Final = 14  # pixels; three patches make the side of a tile
_LEAST_PIXELS: Final = 544**2
_LOW_DETAIL_SIDE: Final = 512
_HEADER_CHARACTERS: Final = 262_144  # of base64; photographs have previews before their size

# Nothing else is looked at: imagesize knows formats, such as SVG, that take more than reading a header.
_SIGNATURES: Final = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF8", b"RIFF")


def image_tokens(url: str, detail: str | None) -> int:
    """Tokens of one image of a prompt: the most that an image takes where its size is not known."""
    size = _size(url)
    if size is None:
        return MAX_IMAGE_TOKENS
    width, height = map(float, size)
    if detail == "low":
        scale = min(1.0, _LOW_DETAIL_SIDE / max(width, height))
        width, height = width * scale, height * scale
    scale = max(1.0, math.sqrt(_LEAST_PIXELS / (width * height)))
    width, height = width * scale, height * scale
    while (tokens := _tokens(width, height)) > MAX_IMAGE_TOKENS:
        width, height = width * 0.99, height * 0.99
    return tokens


def _tokens(width: float, height: float) -> int:
    columns, rows = (math.ceil(math.ceil(side / _PATCH) / 3) for side in (width, height))
    return rows * (columns + 1) + 2


def _size(url: str) -> tuple[int, int] | None:
    """Width and height of an inline image; None where they cannot be read."""
    head, comma, encoded = url[:_HEADER_CHARACTERS].partition(",")
    if not comma or not head.startswith("data:") or not head.endswith(";base64"):
        return None
    whole = len(encoded) // 4 * 4
    try:
        data = binascii.a2b_base64(encoded[:whole])
    except binascii.Error:
        return None
    if not data.startswith(_SIGNATURES):
        return None
    width, height = imagesize.get(io.BytesIO(data), exif_rotation=False)
    return (width, height) if width > 0 and height > 0 else None
