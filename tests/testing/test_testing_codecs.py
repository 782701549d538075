"""``check_codec`` passes codecs that keep the interface's promises, and names the one that a codec breaks."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from vcm.codecs.anchors import load_anchor
from vcm.codecs.protocol import CodecInfo, Image, QualityRange, check_image, check_size
from vcm.errors import ImageError, MissingDependencyError
from vcm.testing.codecs import check_codec


class Rounding:
    """The upper ``quality`` bits of every sample, bit by bit: a codec that keeps every promise."""

    name = "rounding"
    quality_range = QualityRange(1, 8)

    def compress(self, image: Image, quality: float) -> bytes:
        image = check_image(image)
        bits = int(self.quality_range.check(quality))
        planes = np.unpackbits(image).reshape(-1, 8)[:, :bits]
        return b"R%d %d %d " % (image.shape[1], image.shape[0], bits) + np.packbits(planes).tobytes()

    def decompress(self, data: bytes) -> Image:
        try:
            width, height, bits, body = self.split(data)
            check_size(width, height)
            return self.join(width, height, bits, body)
        except (ValueError, IndexError) as error:
            raise ImageError("not a rounded picture") from error

    def split(self, data: bytes) -> tuple[int, int, int, bytes]:
        width, height, bits, body = data[1:].split(b" ", 3)
        return int(width), int(height), int(bits), body

    def join(self, width: int, height: int, bits: int, body: bytes) -> Image:
        kept = np.unpackbits(np.frombuffer(body, np.uint8))[: width * height * 3 * bits].reshape(-1, bits)
        return np.packbits(kept, axis=1).reshape(height, width, 3)

    def describe(self) -> CodecInfo:
        return CodecInfo(self.name, "1")


class Unequal(Rounding):
    count = itertools.count()

    def compress(self, image: Image, quality: float) -> bytes:
        return super().compress(image, quality) + b"%d" % next(self.count)


class Padded(Rounding):
    def decompress(self, data: bytes) -> Image:
        return np.pad(super().decompress(data), ((0, 1), (0, 0), (0, 0)))


class Float(Rounding):
    def decompress(self, data: bytes) -> Image:
        return super().decompress(data) / 255


class Careless(Rounding):
    def decompress(self, data: bytes) -> Image:
        return self.join(*self.split(data))


class Believing(Rounding):
    def decompress(self, data: bytes) -> Image:
        try:
            return super().decompress(data)
        except ImageError:
            return np.zeros((1, 1, 3), np.uint8)


class Unbounded(Rounding):
    def compress(self, image: Image, quality: float) -> bytes:
        return super().compress(image, min(max(quality, 1), 8) if quality == quality else 1)


class Backwards(Rounding):
    quality_range = QualityRange(1, 8, ascending=False)


class Scribbling(Rounding):
    def compress(self, image: Image, quality: float) -> bytes:
        out = super().compress(image, quality)
        image[0, 0] ^= 1
        return out


class Anonymous(Rounding):
    def describe(self) -> CodecInfo:
        return CodecInfo("", "1")


def test_a_codec_that_keeps_them_all() -> None:
    check_codec(Rounding())


@pytest.mark.parametrize(
    ("codec", "promise"),
    [
        (Unequal, "same picture gives the same bytes"),
        (Padded, "comes back"),
        (Float, "comes back"),
        (Careless, "is a VcmError"),
        (Believing, "found a picture"),
        (Unbounded, "is an OptionError"),
        (Backwards, "reaches 20"),
        (Scribbling, "leaves the picture"),
        (Anonymous, "codec's name"),
    ],
)
def test_a_broken_promise_is_named(codec: type[Rounding], promise: str) -> None:
    with pytest.raises(AssertionError, match=promise):
        check_codec(codec())


@pytest.mark.parametrize("name", ["jpeg", "webp", "jpeg2000", "avif", "heic", "jpegxl", "uncompressed", "jpeg@50"])
def test_our_anchors_keep_them(name: str) -> None:
    try:
        codec = load_anchor(name)
    except MissingDependencyError as error:
        pytest.skip(str(error))
    check_codec(codec)
