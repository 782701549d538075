"""The picture from decoded latents, band by band: what a region or a picture of any height needs, and no more."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

import numpy as np
import numpy.typing as npt

from vcm.bitstream import MAX_QUALITY
from vcm.codecs.scalable.sampling import base_positions, sample_grid
from vcm.codecs.scalable.windows import spans
from vcm.runtime.networks import Array, Networks

__all__ = [
    "MAX_PREVIEW_PIXELS", "PICTURE_HALO", "WINDOW", "Box", "LatentGrid", "LatentTiles", "Pixels", "latents_box",
    "picture_bands", "preview_picture", "preview_size",
]  # fmt: skip

Pixels = npt.NDArray[np.uint8]
Box = tuple[int, int, int, int]
"""(x0, y0, x1, y1) in pixels of the source picture, ends exclusive."""

WINDOW = 96
"""Side of a window of the transforms, latent positions."""
PICTURE_HALO = 8
"""Latent positions that the picture's transforms see around each, at most."""
MAX_PREVIEW_PIXELS = 1 << 21
"""A preview is for a screen, whatever the size of its picture."""
_BAND_PIXELS = 1 << 21


class LatentGrid(Protocol):
    """Decoded latents of a picture."""

    def part(self, rows: slice, columns: slice) -> Array:
        """Those at some positions, float32 (1, C, rows, columns), contiguous."""
        ...

    def forget(self, row: int) -> None:
        """What stands above this row of positions will not be asked for again."""
        ...


class LatentTiles:
    """Latents whose tiles are decoded when they are first asked for, and kept until they are forgotten.

    Args:
        channels: of the latents.
        slices: (rows, columns) of latent positions of each tile.
        decode: gives float32 (1, C, rows, columns) of a tile, by its index.
    """

    def __init__(self, channels: int, slices: list[tuple[slice, slice]], decode: Callable[[int], Array]) -> None:
        self._channels, self._slices, self._decode = channels, slices, decode
        self._kept: dict[int, Array] = {}

    def part(self, rows: slice, columns: slice) -> Array:
        """See :class:`LatentGrid`."""
        out = np.empty((1, self._channels, rows.stop - rows.start, columns.stop - columns.start), dtype=np.float32)
        for index, (r, c) in enumerate(self._slices):
            r0, r1 = max(rows.start, r.start), min(rows.stop, r.stop)
            c0, c1 = max(columns.start, c.start), min(columns.stop, c.stop)
            if r0 < r1 and c0 < c1:
                tile = self._tile(index)[:, :, r0 - r.start : r1 - r.start, c0 - c.start : c1 - c.start]
                out[:, :, r0 - rows.start : r1 - rows.start, c0 - columns.start : c1 - columns.start] = tile
        return out

    def forget(self, row: int) -> None:
        """See :class:`LatentGrid`."""
        self._kept = {index: tile for index, tile in self._kept.items() if self._slices[index][0].stop > row}

    def _tile(self, index: int) -> Array:
        tile = self._kept.get(index)
        if tile is None:
            tile = self._kept[index] = self._decode(index)
        return tile


def picture_bands(
    networks: Networks,
    latents: LatentGrid,
    y_base: Array,
    sizes: tuple[tuple[int, int], tuple[int, int]],
    quality_index: int,
    box: Box,
) -> Iterator[Pixels]:
    """A part of a picture from the top down, in bands of at most ``16 · WINDOW`` rows of pixels.

    Windows are those of the whole picture, cut to the part: it is the crop of the whole picture up to rounding.

    Args:
        networks: with ``picture.synthesis``.
        latents: of the enhancement.
        y_base: of the base, float32 (1, B, h, w).
        sizes: (width, height) of the source and of the base's picture, pixels.
        quality_index: of the enhancement, 0 … 1023.
        box: the part.

    Yields:
        uint8 (rows, x1 − x0, 3).
    """
    (width, height), (bw, bh) = sizes
    x0, y0, x1, y1 = box
    quality = np.array([quality_index / MAX_QUALITY], dtype=np.float32)
    for r0, r1, R0, R1 in spans(-(-height // 16), WINDOW, PICTURE_HALO, y0 // 16, -(-y1 // 16)):
        latents.forget(R0)
        top, bottom = max(y0, r0 * 16), min(y1, r1 * 16)
        out = np.empty((bottom - top, x1 - x0, 3), dtype=np.uint8)
        for c0, c1, C0, C1 in spans(-(-width // 16), WINDOW, PICTURE_HALO, x0 // 16, -(-x1 // 16)):
            at = base_positions(R1 - R0, R0, height, bh), base_positions(C1 - C0, C0, width, bw)
            part = latents.part(slice(R0, R1), slice(C0, C1))
            (x,) = networks.run("picture.synthesis", part, sample_grid(y_base, at), quality)
            left, right = max(x0, c0 * 16), min(x1, c1 * 16)
            shown = x[0, :, top - R0 * 16 : bottom - R0 * 16, left - C0 * 16 : right - C0 * 16]
            write_pixels(shown, out[:, left - x0 : right - x0])
        yield out


def latents_box(box: Box, size: tuple[int, int], tile_log2: int) -> Box:
    """Where latents are decoded for a part of a picture: the tiles that it and the synthesis' halo touch.

    Args:
        box: the part.
        size: (width, height) of the picture, pixels.
        tile_log2: log2 of the side of a tile.
    """
    x0, y0, x1, y1 = box
    side, halo = 1 << tile_log2, 16 * (PICTURE_HALO + 1)

    def wide(start: int, stop: int, most: int) -> tuple[int, int]:
        return max(0, start - halo) // side * side, min(most, -(-(stop + halo) // side) * side)

    (left, right), (top, bottom) = wide(x0, x1, size[0]), wide(y0, y1, size[1])
    return left, top, right, bottom


def preview_size(width: int, height: int) -> tuple[int, int]:
    """(width, height) at which a picture of this size is shown as a preview: its own, or as much as a screen has."""
    shrink = min(1.0, (MAX_PREVIEW_PIXELS / (width * height)) ** 0.5)
    return max(1, int(width * shrink)), max(1, int(height * shrink))


def preview_picture(
    networks: Networks, y_base: Array, sizes: tuple[tuple[int, int], tuple[int, int]], box: Box
) -> Pixels:
    """A rough picture from the base alone.

    Args:
        networks: with ``preview``.
        y_base, sizes, box: as for :func:`picture_bands`.

    Returns:
        uint8 (h, w, 3), of the size that :func:`preview_size` gives for the box.
    """
    (width, height), (bw, bh) = sizes
    x0, y0, x1, y1 = box
    (small,) = networks.run("preview", y_base)
    # The last position may reach over the coded picture's edge; what is shown is the part inside.
    small = np.clip(small[:, :, : max(1, -(-bh // 4)), : max(1, -(-bw // 4))], 0, 255)
    columns, rows = preview_size(x1 - x0, y1 - y0)
    across, down = (x1 - x0) / columns, (y1 - y0) / rows
    out = np.empty((rows, columns, 3), dtype=np.uint8)
    # By bands of rows: in floating point the whole picture would take a dozen times what it takes as bytes.
    band = max(1, _BAND_PIXELS // columns)
    at_columns = base_positions(columns, x0, 4 * width, bw, across)
    for top in range(0, rows, band):
        bottom = min(top + band, rows)
        at_rows = base_positions(bottom - top, y0 + top * down, 4 * height, bh, down)
        write_pixels(sample_grid(small, (at_rows, at_columns))[0], out[top:bottom])
    return out


def write_pixels(x: Array, out: Pixels) -> None:
    """Round ``x`` (3, h, w) to whole grey levels into ``out`` (h, w, 3); ``x`` is changed."""
    np.rint(x, out=x)
    np.clip(x, 0, 255, out=x)
    for channel in range(3):
        out[:, :, channel] = x[channel]
