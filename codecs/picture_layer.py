"""Picture layers by standard codecs: JPEG, WebP and AVIF by Pillow, JPEG XL by imagecodecs."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import cache
from typing import Literal, get_args

from PIL import Image as PilImage
from PIL import UnidentifiedImageError

from vcm.bitstream import MAX_QUALITY, PictureFormat, PictureLayer
from vcm.codecs.jpegxl import JpegXlCodec, codestream_size
from vcm.codecs.pillow import avif, jpeg, webp
from vcm.codecs.protocol import Image, ImageCodec
from vcm.errors import FormatError, ImageError, OptionError, reason

__all__ = [
    "PictureName",
    "decode_picture_layer",
    "encode_picture_layer",
    "picture_codec",
    "picture_format_of",
    "picture_steps",
]

PictureName = Literal["avif", "webp", "jxl", "jpeg"]
"""What a person types for a :class:`PictureFormat`."""

_FORMATS: dict[str, PictureFormat] = {
    "avif": PictureFormat.AVIF,
    "webp": PictureFormat.WEBP,
    "jxl": PictureFormat.JPEG_XL,
    "jpeg": PictureFormat.JPEG,
}
_CODECS: dict[PictureFormat, Callable[[], ImageCodec]] = {
    PictureFormat.AVIF: avif,
    PictureFormat.WEBP: webp,
    PictureFormat.JPEG_XL: JpegXlCodec,
    PictureFormat.JPEG: jpeg,
}
_PILLOWS = {PictureFormat.AVIF: "AVIF", PictureFormat.WEBP: "WEBP", PictureFormat.JPEG: "JPEG"}


def picture_format_of(name: object) -> PictureFormat:
    """The format of a name.

    Raises:
        OptionError: there is none of that name.
    """
    if not isinstance(name, str) or name not in _FORMATS:
        raise OptionError("no such picture codec", expected=", ".join(get_args(PictureName)), found=name)
    return _FORMATS[name]


def encode_picture_layer(pixels: Image, format: PictureFormat, quality_index: int) -> PictureLayer:
    """A picture as a layer.

    Args:
        pixels: uint8 (H, W, 3) RGB.
        format: the codec.
        quality_index: 0 … 1023, a quality of 0 … 100 scaled. That is the codec's own ``quality``, whole numbers; for
            JPEG XL the distance is as libjxl's tools compute it from a quality.

    Raises:
        ImageError: the codec cannot code such a picture.
        MissingDependencyError: it is not installed.
    """
    quality = quality_index * 100 / MAX_QUALITY
    return PictureLayer(format, quality_index, picture_codec(format).compress(pixels, _own_quality(format, quality)))


def picture_steps(format: PictureFormat, quality_index: int) -> int:
    """The quality index that gives the same bytes as ``quality_index``, once for each quality that the codec knows."""
    if format == PictureFormat.JPEG_XL:
        return quality_index
    return round(_own_quality(format, quality_index * 100 / MAX_QUALITY) * MAX_QUALITY / 100)


def decode_picture_layer(layer: PictureLayer, width: int, height: int) -> Image:
    """uint8 (H, W, 3) RGB. The size that the file claims is compared before memory is taken.

    Args:
        layer: the layer.
        width, height: of the picture, pixels, from the header of the file that holds it.

    Raises:
        FormatError: the picture has another size, or is no file of its format.
        MissingDependencyError: its codec is not installed.
    """
    codec = picture_codec(layer.format)
    try:
        found = _size(layer)
        if found != (width, height):
            expected, got = f"{width}x{height}", "{}x{}".format(*found)
            raise FormatError("the picture layer has another size than the file", expected=expected, found=got)
        return codec.decompress(layer.data)
    except ImageError as error:
        raise FormatError("the picture layer is damaged", expected=error.expected, found=error.found) from error


def _size(layer: PictureLayer) -> tuple[int, int]:
    pillows = _PILLOWS.get(layer.format)
    if pillows is None:
        return codestream_size(layer.data)
    try:
        with PilImage.open(io.BytesIO(layer.data), formats=[pillows]) as picture:
            return picture.size
    except Exception as error:  # a decoder that meets a hostile file may raise anything
        raise ImageError("no picture", expected=f"a {pillows} file", found=_steady(error)) from error


def _steady(error: Exception) -> str:
    """An error's text; Pillow's of a file that it does not know holds an address in memory."""
    return "other bytes" if isinstance(error, UnidentifiedImageError) else reason(error)


def _own_quality(format: PictureFormat, quality: float) -> float:
    if format == PictureFormat.JPEG_XL:
        if quality >= 30:
            return 0.1 + (100 - quality) * 0.09
        return min(25.0, 53 / 3000 * quality**2 - 23 / 20 * quality + 25)
    return max(1.0 if format == PictureFormat.JPEG else 0.0, float(round(quality)))


@cache
def picture_codec(format: PictureFormat) -> ImageCodec:
    """The codec of a format.

    Raises:
        MissingDependencyError: it is not installed.
    """
    return _CODECS[format]()
