"""What an image costs, compared with DeepSeek's own calculation; and whatever is no image costs the most."""

from __future__ import annotations

import base64
import struct

import pytest
from harness import oracle

from deepseek_proxy.translate.images import MAX_IMAGE_TOKENS, image_tokens


def png(width: int, height: int) -> str:
    """An image of which there is a header alone."""
    header = struct.pack(">4sIIBBBBB", b"IHDR", width, height, 8, 2, 0, 0, 0)
    return inline(b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header, "png")


def inline(data: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


SCREENS = [(1, 1), (64, 64), (512, 512), (640, 480), (800, 600), (1024, 768), (1280, 720), (1000, 1400)]
LARGE = [(1920, 1080), (2560, 1440), (1440, 3088), (3024, 4032), (4000, 3000), (7680, 4320)]


@pytest.mark.parametrize(("width", "height"), SCREENS)
def test_an_image_costs_what_deepseek_says(width: int, height: int) -> None:
    assert image_tokens(png(width, height), None) == oracle.image_tokens(width, height)


@pytest.mark.parametrize(("width", "height"), LARGE)
def test_a_large_image_is_reduced_and_costs_nearly_what_deepseek_says(width: int, height: int) -> None:
    assert image_tokens(png(width, height), "high") == pytest.approx(
        oracle.image_tokens(width, height), rel=0.06
    )


@pytest.mark.parametrize(("size", "tokens"), [((600, 400), 189), ((1024, 768), 194), ((1920, 1080), 192)])
def test_low_detail_is_cheap(size: tuple[int, int], tokens: int) -> None:
    """Figures of DeepSeek's own preprocessing."""
    assert image_tokens(png(*size), "low") == tokens


@pytest.mark.parametrize("size", [(65_535, 1), (1, 65_535), (2**31 - 1, 2**31 - 1), (1, 2**31 - 1)])
def test_no_image_costs_more_than_the_most(size: tuple[int, int]) -> None:
    assert 0 < image_tokens(png(*size), None) <= MAX_IMAGE_TOKENS


GIF = b"GIF89a" + struct.pack("<HH", 640, 480) + b"\0\0\0"
JPEG = (
    b"\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01\x01\x00\x00\x01\x00\x01\x00\x00"
    b"\xff\xc0\x00\x11\x08" + struct.pack(">HH", 480, 640) + b"\x03\x01\x22\x00\x02\x11\x01\x03\x11\x01"
)
WEBP = b"RIFF\x24\0\0\0WEBPVP8X\x0a\0\0\0\x10\0\0\0" + struct.pack("<I", 639)[:3] + struct.pack("<I", 479)[:3]


@pytest.mark.parametrize(("data", "kind"), [(GIF, "gif"), (JPEG, "jpeg"), (WEBP, "webp")])
def test_every_kind_that_deepseek_reads_has_a_size(data: bytes, kind: str) -> None:
    assert image_tokens(inline(data, kind), None) == oracle.image_tokens(640, 480)


UNKNOWN = {
    "an address": "https://example.com/cat.png",
    "no base64": "data:image/png,abc",
    "nothing": "",
    "broken base64": "data:image/png;base64,%%%%",
    "no image": inline(b"hello there", "png"),
    "a drawing": inline(b'<svg width="4" height="4"/>', "png"),
    "cut off": inline(b"\x89PNG\r\n\x1a\n", "png"),
    "no pixels": png(0, 0),
}


@pytest.mark.parametrize("url", UNKNOWN.values(), ids=UNKNOWN.keys())
def test_what_has_no_size_costs_the_most(url: str) -> None:
    assert image_tokens(url, None) == MAX_IMAGE_TOKENS
