"""Pictures that are small as files and huge as pixels, or carry huge blocks: refused before any pixel is made."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable

import pytest
from codec_tools import noise
from PIL import Image, ImageFile
from profiles import ADOBE_RGB, rgb_profile

from vcm.errors import ImageError
from vcm.io.pictures import load_image
from vcm.limits import MAX_PIXELS

SIDE = 16384


def _jpeg2000() -> bytes:
    """1 kB: the header of a true picture of 64×64 that says 16384×16384 in one tile."""
    data = io.BytesIO()
    Image.new("RGB", (64, 64), "red").save(data, "JPEG2000", no_jp2=True)
    code = bytearray(data.getvalue())
    at = code.index(b"\xff\x51") + 6  # SIZ: Xsiz, Ysiz, offsets, tile size
    struct.pack_into(">IIIIII", code, at, SIDE, SIDE, 0, 0, SIDE, SIDE)
    return bytes(code)


def _png() -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", SIDE, SIDE, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(3 * SIDE + 1) * 100, 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def _gif() -> bytes:
    return b"GIF89a" + struct.pack("<HH", SIDE, SIDE) + bytes([0x80, 0, 0]) + bytes(6) + b"," + struct.pack(
        "<HHHHB", 0, 0, SIDE, SIDE, 0
    ) + bytes([8, 4, 0, 1, 2, 3, 0]) + b";"  # fmt: skip


def _bmp() -> bytes:
    return b"BM" + struct.pack("<IIIIiiHHIIiiII", 1000, 0, 54, 40, SIDE, SIDE, 1, 8, 1, 0, 1, 1, 0, 0) + bytes(946)


def _webp() -> bytes:
    body = b"VP8L" + struct.pack("<I", 10) + bytes([0x2F]) + struct.pack("<I", 16383 - 1 | (16383 - 1) << 14) + bytes(5)
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


BOMBS = {make.__name__[1:]: make for make in (_jpeg2000, _png, _gif, _bmp, _webp)}


@pytest.fixture
def no_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(self: ImageFile.ImageFile) -> None:
        raise AssertionError("pixels were made")

    monkeypatch.setattr(ImageFile.ImageFile, "load", load)
    for plugin in ("JpegImagePlugin", "Jpeg2KImagePlugin", "PngImagePlugin", "GifImagePlugin", "WebPImagePlugin"):
        module = __import__(f"PIL.{plugin}", fromlist=["*"])
        for value in vars(module).values():
            if isinstance(value, type) and issubclass(value, ImageFile.ImageFile) and "load" in vars(value):
                monkeypatch.setattr(value, "load", load)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)


@pytest.mark.usefixtures("no_pixels")
@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_makes_no_pixels(name: str) -> None:
    data = BOMBS[name]()
    assert len(data) < 20_000
    for source in (data, io.BytesIO(data)):
        with pytest.raises(ImageError, match=r"too large: expected at most 67108864 pixels \(max_pixels\)"):
            load_image(source)
    # Even for a caller who takes large pictures: there is nothing in these bytes that could fill so many pixels.
    with pytest.raises(ImageError, match=r"truncated picture|too many pixels for its bytes"):
        load_image(data, max_pixels=MAX_PIXELS)


def _with(kind: str, **options: object) -> bytes:
    data = io.BytesIO()
    Image.fromarray(noise(40, 30)).save(data, kind, **options)
    return data.getvalue()


def _long_exif() -> bytes:
    exif = Image.Exif()
    exif[0x010E] = "x" * (5 << 20)
    return exif.tobytes()


@pytest.mark.usefixtures("no_pixels")
@pytest.mark.parametrize(
    ("make", "what"),
    [
        (lambda: _with("JPEG", icc_profile=rgb_profile(ADOBE_RGB) + bytes(5 << 20)), "colour profile"),
        (lambda: _with("WEBP", icc_profile=rgb_profile(ADOBE_RGB) + bytes(5 << 20)), "colour profile"),
        (lambda: _with("TIFF", icc_profile=rgb_profile(ADOBE_RGB) + bytes(5 << 20)), "colour profile"),
        (lambda: _with("WEBP", exif=_long_exif()), "EXIF"),
    ],
)
def test_long_blocks_are_refused_before_pixels(make: Callable[[], bytes], what: str) -> None:
    data = make()
    with pytest.raises(ImageError, match=f"its {what} is too long: expected at most 4194304 bytes, found 52"):
        load_image(data)


@pytest.mark.usefixtures("no_pixels")
def test_a_profile_that_inflates_is_refused_before_pixels() -> None:
    data = _with("PNG", icc_profile=bytes(16) + b"RGB " + bytes(60 << 20))
    assert len(data) < 100_000
    with pytest.raises(ImageError, match="cannot be read as a picture"):
        load_image(data)
