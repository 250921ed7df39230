from __future__ import annotations

import base64
import struct

import pytest

from proxy.tokens.media import FILE_TOKENS, Patches, Tiles, audio_tokens, image_size

PNG = b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, b"IHDR", 640, 480)
GIF = b"GIF89a" + struct.pack("<HH", 640, 480)
WEBP = b"RIFF\0\0\0\0WEBP"
WEBP_LOSSY = WEBP + b"VP8 " + bytes(10) + struct.pack("<HH", 640, 480 | 0x4000)
WEBP_LOSSLESS = WEBP + b"VP8L" + bytes(5) + struct.pack("<I", 639 | 479 << 14)
WEBP_EXTENDED = WEBP + b"VP8X" + bytes(8) + b"\x7f\x02\x00" + b"\xdf\x01\x00"
FRAME = b"\xff\xc2" + struct.pack(">HBHHB", 17, 8, 480, 640, 3) + bytes(9)
JPEG = b"\xff\xd8\xff\xe0" + struct.pack(">H", 16) + bytes(14) + b"\xff\xff" + FRAME
JPEG_WITH_PREVIEW = b"\xff\xd8\xff\xe1" + struct.pack(">H", 60_002) + bytes(60_000) + FRAME
JPEG_WITH_PADDING = b"\xff\xd8\0\0" + FRAME


def data_url(image: bytes, kind: str = "image/png") -> str:
    return f"data:{kind};base64,{base64.b64encode(image).decode()}"


@pytest.mark.parametrize(
    "image",
    [
        PNG,
        GIF,
        WEBP_LOSSY,
        WEBP_LOSSLESS,
        WEBP_EXTENDED,
        JPEG,
        JPEG_WITH_PREVIEW,
        JPEG_WITH_PADDING,
    ],
)
def test_the_size_of_an_image_is_read_from_its_first_bytes(image: bytes) -> None:
    assert image_size(data_url(image)) == (640, 480)
    assert image_size(data_url(image + bytes(100_000))) == (640, 480)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "https://example.org/a.png",
        "data:image/png;base64,",
        "data:image/png;base64,Ü",
        "data:image/png;base64,AAAAA",
        data_url(b"no image at all"),
        data_url(PNG[:18]),
        data_url(PNG[:16] + bytes(8)),
        data_url(GIF[:7]),
        data_url(WEBP + b"ANIM" + bytes(20)),
        data_url(b"\xff\xd8" + bytes(300)),
        data_url(JPEG[:24]),
    ],
)
def test_an_image_that_cannot_be_read_has_no_size(url: str) -> None:
    assert image_size(url) is None


@pytest.mark.parametrize(
    ("size", "detail", "tokens"),
    [
        ((1024, 1024), "high", 765),  # OpenAI's documentation
        ((2048, 4096), "high", 1105),  # OpenAI's documentation
        ((4096, 8192), "low", 85),  # OpenAI's documentation
        ((640, 480), "auto", 425),  # recorded usage
        ((128, 128), "auto", 255),
        ((3000, 300), "auto", 765),  # exactly 2,048 pixels: four tiles
    ],
)
def test_tiles_of_512_pixels(size: tuple[int, int], detail: str, tokens: int) -> None:
    assert Tiles(85, 170).tokens(size, detail) == tokens


@pytest.mark.parametrize(
    ("size", "patches"),
    [
        ((1024, 1024), 1024),  # OpenAI's documentation
        ((1800, 2400), 1452),  # OpenAI's documentation
        ((640, 480), 300),
        ((1, 1), 1),
        ((100_000, 10), 1536),
    ],
)
def test_patches_of_32_pixels(size: tuple[int, int], patches: int) -> None:
    assert Patches(1.0).tokens(size, "auto") == patches + 1
    assert Patches(1.0).tokens(size, "low") == patches + 1


def test_recorded_images_of_640_by_480() -> None:
    assert Patches(1.62).tokens((640, 480), "auto") == 488  # 300 * 1.62 is more than 486
    assert Patches(1.72).tokens((640, 480), "auto") == 517
    assert Tiles(2833, 5667).tokens((640, 480), "auto") == 14_167


def test_a_recording_costs_ten_tokens_a_second() -> None:
    wav = struct.pack("<4sI4s4sIHHII", b"RIFF", 0, b"WAVE", b"fmt ", 16, 1, 1, 16_000, 32_000)
    seven_seconds = base64.b64encode(wav + bytes(7 * 32_000)).decode()
    assert audio_tokens(seven_seconds) == 74
    assert audio_tokens(base64.b64encode(bytes(160_000)).decode()) == 104
    assert audio_tokens("") == 4
    assert audio_tokens("Ü") == 4


def test_a_file_costs_about_what_was_recorded() -> None:
    assert 219 <= FILE_TOKENS <= 1037
