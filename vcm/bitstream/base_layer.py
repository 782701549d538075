"""What a base layer is, apart from what carries it: a file of ours, or a segment of an ordinary picture.

Tasks need nothing else. How it is written down is the carrier's: :class:`vcm.bitstream.Bitstream` has header and chunk.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from vcm.bitstream.chunks import ChunkKind, Layer
from vcm.bitstream.geometry import coded_size, tile_grid
from vcm.bitstream.limits import MAX_PIXELS, MAX_SIDE, check_range
from vcm.errors import FormatError, LimitError

__all__ = ["BaseLayer"]


@dataclass(frozen=True, slots=True)
class BaseLayer:
    """A coded base layer.

    Attributes:
        codec_id: family of the codec, 0 … 255.
        width, height: source picture, upright, pixels.
        scale: of the picture that it was coded from, 1 … 16 or 129 … 255: :func:`vcm.bitstream.scale_ratio`.
        quality_index: 0 … 1023, on the codec's own scale.
        fingerprint: 8 bytes, of the tensors that decoding depends on.
        tile_log2: log2 of the side of a tile in pixels of the coded picture, 10 … 12.
        tiles: one entropy-coded stream per tile, row by row; an empty stream is allowed.

    Raises:
        OptionError: a field is out of its range or of the wrong type.
        LimitError: the picture, or the one that it was coded from, has too many pixels, or the streams are too long.
        FormatError: there are not as many streams as tiles.
    """

    codec_id: int
    width: int
    height: int
    scale: int
    quality_index: int
    fingerprint: bytes
    tile_log2: int
    tiles: tuple[bytes, ...] = field(repr=False)

    def __post_init__(self) -> None:
        check_range("codec id", self.codec_id, 0, 255)
        check_range("width", self.width, 1, MAX_SIDE)
        check_range("height", self.height, 1, MAX_SIDE)
        if self.width * self.height > MAX_PIXELS:
            found = f"{self.width}×{self.height} = {self.width * self.height}"
            raise LimitError("the picture has too many pixels", expected=f"at most {MAX_PIXELS}", found=found)
        _ = self.as_layer()  # checks the fields that it takes
        columns, rows = tile_grid(*self.coded_size, self.tile_log2)
        if len(self.tiles) != columns * rows:
            what = "a base layer has the wrong number of tiles"
            raise FormatError(what, expected=columns * rows, found=len(self.tiles))

    @property
    def coded_size(self) -> tuple[int, int]:
        """``(width, height)`` in pixels of the picture that it was coded from."""
        return coded_size(self.width, self.height, self.scale)

    def as_layer(self) -> Layer:
        """The part of it that stands in the BASE chunk of a file of ours."""
        return Layer(ChunkKind.BASE, self.quality_index, self.fingerprint, self.tile_log2, self.tiles)
