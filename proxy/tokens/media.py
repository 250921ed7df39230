"""What the images, sounds and files of a message cost; nothing is fetched."""

from __future__ import annotations

import base64
import math
import re
from typing import NamedTuple

Size = tuple[int, int]

UNKNOWN_SIZE: Size = (1024, 768)
"""What an image is taken for whose size cannot be seen: most often a remote one."""

FILE_TOKENS = 500
"""What a file is taken for: recorded usage has 219 to 1,037 tokens for a PDF of a page or two."""


class Tiles(NamedTuple):
    """An image costs a base, and something for each tile of 512 pixels (Azure documentation)."""

    base: int
    tile: int

    def tokens(self, size: Size, detail: str) -> int:
        if detail == "low":
            return self.base
        # Made to fit 2,048 pixels, then to 768 along the short side; never made larger.
        shrink = min(1, 2048 / max(size), 768 / min(size))
        # 1e-9 keeps a side of exactly 512 pixels from being more by the error of a float
        across, down = (math.ceil(side * shrink / 512 - 1e-9) for side in size)
        return self.base + self.tile * across * down


class Patches(NamedTuple):
    """An image costs something for each patch of 32 pixels, up to 1,536 of them."""

    factor: float  # fitted to recorded usage, as is the token on top

    def tokens(self, size: Size, detail: str) -> int:
        del detail  # these models look at all images alike
        width, height = size
        patches = math.ceil(width / 32) * math.ceil(height / 32)
        if patches > _MOST_PATCHES:
            # Shrunk to the largest size of whole patches along one side (OpenAI documentation).
            shrink = math.sqrt(32 * 32 * _MOST_PATCHES / (width * height))
            across, down = width * shrink / 32, height * shrink / 32
            shrink = min(max(1, math.floor(side)) / side for side in (across, down))
            patches = min(_MOST_PATCHES, math.ceil(across * shrink) * math.ceil(down * shrink))
        return math.ceil(patches * self.factor) + 1


ImageRule = Tiles | Patches

_MOST_PATCHES = 1536

# Bases and tiles are those of Azure's documentation; all but the o-series are in recorded usage.
_IMAGE_RULES: list[tuple[re.Pattern[str], ImageRule]] = [
    (re.compile(r"gpt-4\.1-mini"), Patches(1.62)),
    (re.compile(r"gpt-4\.1-nano"), Patches(2.46)),
    (re.compile(r"gpt-5-mini"), Patches(1.2)),
    (re.compile(r"gpt-5-nano"), Patches(1.5)),
    (re.compile(r"o4-mini"), Patches(1.72)),
    (re.compile(r"gpt-4o-mini"), Tiles(2833, 5667)),
    (re.compile(r"gpt-5"), Tiles(70, 140)),
    (re.compile(r"o[13]"), Tiles(75, 150)),
]


def image_rule(bare_model: str) -> ImageRule:
    """Tell what images cost a model."""
    return next(
        (rule for pattern, rule in _IMAGE_RULES if pattern.match(bare_model)), Tiles(85, 170)
    )


def image_size(url: str) -> Size | None:
    """Width and height of the image in a `data:` URL, read from its first bytes."""
    for length in (1 << 10, 1 << 18):  # a JPEG may carry a preview in front of its size
        head = _data(url, length)
        if size := _png(head) or _gif(head) or _webp(head) or _jpeg(head):
            return size if min(size) > 0 else None
    return None


def audio_tokens(data: str) -> int:
    """Tokens of a base64 recording: ten for each second, and four (fitted to recorded usage)."""
    head = _decoded(data[:64])
    bytes_per_second = 16_000  # of an MP3 with 128 kbit/s
    if head.startswith(b"RIFF"):
        bytes_per_second = _little(head[28:32]) or bytes_per_second
    return 4 + 10 * len(data) * 3 // 4 // bytes_per_second


def _data(url: str, length: int) -> bytes:
    if not url.startswith("data:"):
        return b""
    start = url.find(",", 0, 200) + 1
    return _decoded(url[start : start + length])


def _decoded(data: str) -> bytes:
    try:
        return base64.b64decode(data + "==")
    except ValueError:
        return b""


def _png(head: bytes) -> Size | None:
    if not head.startswith(b"\x89PNG\r\n\x1a\n"):
        return None
    return _big(head[16:20]), _big(head[20:24])


def _gif(head: bytes) -> Size | None:
    return (_little(head[6:8]), _little(head[8:10])) if head.startswith(b"GIF8") else None


def _webp(head: bytes) -> Size | None:
    """https://developers.google.com/speed/webp/docs/riff_container."""
    if not (head.startswith(b"RIFF") and head[8:12] == b"WEBP"):
        return None
    match head[12:16]:
        case b"VP8X":
            return _little(head[24:27]) + 1, _little(head[27:30]) + 1
        case b"VP8 ":
            return _little(head[26:28]) & 0x3FFF, _little(head[28:30]) & 0x3FFF
        case b"VP8L":
            bits = _little(head[21:25])
            return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        case _:
            return None


# The markers that start a frame; C4, C8 and CC among them mean something else (ITU-T T.81, B.1).
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


def _jpeg(head: bytes) -> Size | None:
    if not head.startswith(b"\xff\xd8"):
        return None
    at = 2
    while at + 9 <= len(head):
        if head[at] != 0xFF:
            at += 1
        elif head[at + 1] in _FRAMES:
            return _big(head[at + 7 : at + 9]), _big(head[at + 5 : at + 7])
        elif head[at + 1] == 0xFF:
            at += 1  # fill byte
        else:
            at += 2 + _big(head[at + 2 : at + 4])
    return None


def _big(data: bytes) -> int:
    return int.from_bytes(data, "big")


def _little(data: bytes) -> int:
    return int.from_bytes(data, "little")
