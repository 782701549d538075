"""JPEG XL (VarDCT) through imagecodecs' libjxl."""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType

import numpy as np

from vcm.codecs.protocol import CodecInfo, Image, QualityRange, check_image, check_size
from vcm.errors import ImageError, MissingDependencyError

__all__ = ["JpegXlCodec", "codestream_size"]

_DISTANCE = QualityRange(0.1, 25, unit="distance", ascending=False, integer=False)


@dataclass(frozen=True)
class JpegXlCodec:
    """Lossy JPEG XL, bare codestream. ``quality`` is the Butteraugli distance (1: visually lossless, 25: worst).

    Attributes:
        effort: libjxl's effort, 1 … 9.
    """

    effort: int = 7
    name: str = "jpegxl"
    quality_range: QualityRange = _DISTANCE

    def __post_init__(self) -> None:
        if not _imagecodecs().JPEGXL.available:
            raise MissingDependencyError("this imagecodecs was built without JPEG XL")

    def compress(self, image: Image, quality: float) -> bytes:
        """See :meth:`vcm.codecs.protocol.ImageCodec.compress`."""
        image = check_image(image)
        distance = self.quality_range.check(quality)
        try:
            data = _imagecodecs().jpegxl_encode(
                image, distance=distance, effort=self.effort, lossless=False, usecontainer=False, numthreads=1
            )
        except (RuntimeError, ValueError) as error:
            raise ImageError("jpegxl cannot encode the picture", found=str(error)) from error
        return bytes(data)

    def decompress(self, data: bytes) -> Image:
        """See :meth:`vcm.codecs.protocol.ImageCodec.decompress`."""
        # libjxl's wrapper allocates before it tells the size; the codestream's size header is read here first.
        check_size(*codestream_size(data))
        try:
            image = _imagecodecs().jpegxl_decode(data, numthreads=1)
        except (RuntimeError, ValueError) as error:
            raise _undecodable(str(error)) from error
        return check_image(np.asarray(image))

    def describe(self) -> CodecInfo:
        """imagecodecs' and libjxl's version, and the effort."""
        module = _imagecodecs()
        version = f"imagecodecs {module.__version__}, {module.jpegxl_version()}"
        return CodecInfo(self.name, version, (("container", False), ("effort", self.effort)))


_RATIOS = (None, (1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))


def codestream_size(data: bytes) -> tuple[int, int]:
    """Width and height from a codestream's SizeHeader (ISO/IEC 18181-1, clause D.2): bits, least significant first."""
    if len(data) < 12 or data[:2] != b"\xff\x0a":
        raise _undecodable("other bytes")
    bits = int.from_bytes(data[2:12], "little")

    def take(count: int) -> int:
        nonlocal bits
        value = bits & ((1 << count) - 1)
        bits >>= count
        return value

    small = take(1)

    def side() -> int:
        return 8 * (take(5) + 1) if small else take((9, 13, 18, 30)[take(2)]) + 1

    height = side()
    ratio = _RATIOS[take(3)]
    width = height * ratio[0] // ratio[1] if ratio else side()
    return width, height


def _undecodable(found: str) -> ImageError:
    return ImageError("jpegxl cannot decode the file", expected="a JPEG XL codestream", found=found)


def _imagecodecs() -> ModuleType:
    try:
        import imagecodecs
    except ImportError as error:
        raise MissingDependencyError("JPEG XL needs imagecodecs: pip install 'vcm[eval]'") from error
    return imagecodecs
