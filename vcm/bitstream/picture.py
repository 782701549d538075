"""A picture layer: a file of a standard picture codec, in the place of enhancement layers of ours."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from enum import IntEnum

from vcm.bitstream.chunks import Chunk, ChunkKind
from vcm.bitstream.limits import MAX_QUALITY, check_bytes, check_range, found_in_file
from vcm.errors import FormatError

__all__ = ["PictureFormat", "PictureLayer"]

_HEAD = struct.Struct("<BH")


class PictureFormat(IntEnum):
    """Formats of picture layers."""

    JPEG = 1
    WEBP = 2
    AVIF = 3
    JPEG_XL = 4


@dataclass(frozen=True, slots=True)
class PictureLayer:
    """A whole picture beside the base, of the source's size; it is decoded without the base.

    Attributes:
        format: of ``data``.
        quality_index: 0 … 1023: the quality that the encoder was asked for, 0 … 100, scaled.
        data: the picture's file.

    Raises:
        OptionError: a field is out of its range or of the wrong type.
    """

    format: PictureFormat
    quality_index: int
    data: bytes = field(repr=False)

    def __post_init__(self) -> None:
        check_range("picture format", self.format, min(PictureFormat), max(PictureFormat))
        check_range("quality index", self.quality_index, 0, MAX_QUALITY)
        check_bytes("picture", self.data)

    @property
    def quality(self) -> float:
        """The quality on the scale on which encoders are asked for it, 0 … 100."""
        return self.quality_index * 100 / MAX_QUALITY

    def to_chunk(self) -> Chunk:
        """The layer as a chunk.

        Raises:
            LimitError: it is longer than a chunk may be.
        """
        return Chunk(ChunkKind.PICTURE, _HEAD.pack(self.format, self.quality_index) + self.data, optional=False)

    @classmethod
    def from_chunk(cls, chunk: Chunk) -> PictureLayer:
        """The layer that a chunk of kind PICTURE holds.

        Raises:
            FormatError: it is too short, or a field is out of range.
        """
        if len(chunk.payload) < _HEAD.size:
            expected = f"at least {_HEAD.size} bytes"
            raise FormatError("a picture layer is too short", expected=expected, found=len(chunk.payload))
        format, quality_index = _HEAD.unpack_from(chunk.payload)
        with found_in_file():
            check_range("picture format", format, min(PictureFormat), max(PictureFormat))
            return cls(PictureFormat(format), quality_index, chunk.payload[_HEAD.size :])
