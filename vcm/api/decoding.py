"""Files to pictures for people: whole, by region, by bands of rows, or as previews."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import cast

import numpy as np
import numpy.typing as npt
from PIL import Image

from vcm.api.arguments import whole_number
from vcm.api.sources import StreamSource, base_of, partial_of, whole_of
from vcm.bitstream import Bitstream, ChunkKind, Header, Metadata, PartialBitstream
from vcm.codecs.picture_layer import decode_picture_layer
from vcm.codecs.scalable.model import ScalableModel
from vcm.codecs.scalable.synthesis import Box, latents_box
from vcm.errors import LayerError, OptionError
from vcm.io.metadata import without_orientation
from vcm.limits import Limits

__all__ = ["PictureRows", "Region", "check_base", "decode", "decode_rows"]

Region = tuple[int, int, int, int] | list[int]
"""(x0, y0, x1, y1) in pixels of the source picture, ends exclusive."""


@dataclass(frozen=True, slots=True)
class PictureRows:
    """A decoded picture from the top down. It can be gone through once; iterating decodes.

    Attributes:
        width, height: pixels.
        mode: ``RGB``, or ``L`` for a grey source, as of a PIL image.
        icc, exif: metadata to store with it, or ``None``.
        bands: uint8 (rows, width, 3), or (rows, width) where ``mode`` is ``L``.
    """

    width: int
    height: int
    mode: str
    icc: bytes | None = field(repr=False)
    exif: bytes | None = field(repr=False)
    bands: Iterator[npt.NDArray[np.uint8]] = field(repr=False)

    def __iter__(self) -> Iterator[npt.NDArray[np.uint8]]:
        return self.bands


def decode(
    model: ScalableModel, source: StreamSource, layers: int | None, region: Region | None, limits: Limits
) -> Image.Image:
    """See :meth:`vcm.Codec.decode`."""
    asked = None if layers is None else whole_number("layers", layers, 1, None)
    if asked == 1:
        return _preview(model, base_of(source, limits)[0], region, limits)
    if region is not None or isinstance(source, PartialBitstream):
        with partial_of(source, limits) as file:
            return _region(model, file, asked, region, limits)
    stream = whole_of(source, limits)
    wanted = _layers(model, stream, asked)
    if wanted == 1:
        return _preview(model, stream, None, limits)
    limits.check_pixels("the picture", stream.width, stream.height)
    if stream.picture is not None:
        pixels = decode_picture_layer(stream.picture, stream.width, stream.height)
    else:
        pixels = model.decode(model.decode_base(stream.coded_base), stream.layers[1:wanted])
    return _picture(pixels, stream.header, stream.metadata)


def decode_rows(model: ScalableModel, source: StreamSource, limits: Limits) -> PictureRows:
    """See :meth:`vcm.Codec.decode_rows`."""
    stream = whole_of(source, limits)
    limits.check_pixels("the picture", stream.width, stream.height)
    layer = stream.enhancement
    if stream.picture is not None:  # its codec knows no bands
        bands = iter([decode_picture_layer(stream.picture, stream.width, stream.height)])
    elif layer is not None:
        bands = model.picture_bands(layer, model.decode_base(stream.coded_base))
    else:
        raise LayerError("the file has fewer layers", expected=2, found=1)
    grey, metadata = stream.header.source.grey, stream.metadata
    if grey:
        bands = (np.asarray(Image.fromarray(band).convert("L")) for band in bands)
    mode = "L" if grey else "RGB"
    return PictureRows(stream.width, stream.height, mode, metadata.icc, _exif_of(metadata), bands)


def _region(
    model: ScalableModel, file: PartialBitstream, asked: int | None, region: Region | None, limits: Limits
) -> Image.Image:
    header = file.header
    box = (0, 0, header.width, header.height) if region is None else _box_of(region, header)
    wanted = _layers(model, file, asked)
    if wanted == 1:
        check_base(header, limits)
        pixels = model.decode_preview(model.decode_base(file.coded_base), box)
        return _picture(pixels, header, file.metadata, preview=True)
    if file.picture is not None:
        limits.check_pixels("the picture", header.width, header.height)  # its codec knows no regions
        x0, y0, x1, y1 = box
        pixels = decode_picture_layer(file.picture, header.width, header.height)[y0:y1, x0:x1]
        return _picture(np.ascontiguousarray(pixels), header, file.metadata)
    limits.check_pixels("the picture" if region is None else "the region", box[2] - box[0], box[3] - box[1])
    layer = file.layers[1]
    seen = latents_box(box, (header.width, header.height), layer.tile_log2)
    pixels = model.decode_picture(layer, model.decode_base(file.coded_base, seen), box)
    return _picture(pixels, header, file.metadata)


def check_base(header: Header, limits: Limits) -> None:
    """Raises :class:`LimitError` where the base was coded from a picture of too many pixels."""
    limits.check_pixels("the base's picture", *header.coded_size(ChunkKind.BASE))


def _preview(model: ScalableModel, file: Bitstream, region: Region | None, limits: Limits) -> Image.Image:
    check_base(file.header, limits)
    box = None if region is None else _box_of(region, file.header)
    pixels = model.decode_preview(model.decode_base(file.coded_base), box)
    return _picture(pixels, file.header, file.metadata, preview=True)


def _layers(model: ScalableModel, file: Bitstream | PartialBitstream, asked: int | None) -> int:
    """How many layers to use, of those that the model reads."""
    present = min(len(file.layers), len(model.layers)) if file.picture is None else 2
    wanted = asked or present
    if wanted > present:
        raise LayerError("the file has fewer layers", expected=wanted, found=present)
    return wanted


def _box_of(region: Region, header: Header) -> Box:
    """A region as four integers.

    Raises:
        OptionError: it is not, is empty or reaches out of the picture.
    """
    values: object = region
    if not isinstance(values, list | tuple) or len(values) != 4:
        raise OptionError("a region is of the wrong kind", expected="(x0, y0, x1, y1)", found=region)
    names = ("x0", "y0", "x1", "y1")
    box = [whole_number(f"{name} of the region", value, 0, None) for name, value in zip(names, values, strict=True)]
    x0, y0, x1, y1 = box
    if not (x0 < x1 <= header.width and y0 < y1 <= header.height):
        expected = f"x0 < x1 up to {header.width}, y0 < y1 up to {header.height}"
        raise OptionError("the region is empty or not in the picture", expected=expected, found=tuple(box))
    return cast(Box, tuple(box))


def _picture(
    pixels: npt.NDArray[np.uint8], header: Header, metadata: Metadata, *, preview: bool = False
) -> Image.Image:
    """uint8 (H, W, 3) as a PIL image with the file's metadata."""
    picture = Image.fromarray(pixels)
    if header.source.grey:
        picture = picture.convert("L")
    if preview:
        picture.info["vcm_preview"] = True
    if metadata.icc is not None:
        picture.info["icc_profile"] = metadata.icc
    exif = _exif_of(metadata)
    if exif is not None:
        picture.info["exif"] = exif
    return picture


def _exif_of(metadata: Metadata) -> bytes | None:
    return None if metadata.exif is None else without_orientation(metadata.exif)
