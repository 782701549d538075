"""Sizes of coded pictures and their tiles, by integer arithmetic only. They follow from the header, not a table."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

from vcm.bitstream.limits import MAX_PIXELS, MAX_SIDE, MAX_TILE_LOG2, MIN_TILE_LOG2, check_range
from vcm.errors import LimitError, OptionError

__all__ = ["coded_size", "scale_ratio", "tile_grid", "tiles"]

_LARGEST_SCALE = 16
_FINE = 128
"""Scales above this are 1/1024 for each step beyond it, down to where a picture of any size has a base of any."""


def scale_ratio(scale: int) -> Fraction:
    """What part of each side of the source a base is coded at.

    Args:
        scale: as in a file's header: 1 … 16 is eighths of the size, 129 … 255 is 1/1024 … 127/1024 of it.

    Raises:
        OptionError: ``scale`` is neither.
    """
    _check_scale(scale)
    return Fraction(scale, 8) if scale <= _LARGEST_SCALE else Fraction(scale - _FINE, 1024)


def _check_scale(scale: int) -> None:
    check_range("base scale", scale, 1, 255)
    if _LARGEST_SCALE < scale <= _FINE:
        raise OptionError("base scale is out of range", expected="1 … 16 or 129 … 255", found=scale)


def coded_size(width: int, height: int, scale: int) -> tuple[int, int]:
    """Size of the picture that a layer is coded from: each side × :func:`scale_ratio`, rounded up.

    Args:
        width, height: source picture, upright, 1 … 65535 pixels.
        scale: as in a file's header: 1 … 16 is eighths, 129 … 255 is 1/1024 … 127/1024.

    Returns:
        ``(width, height)`` in pixels, each at least 1.

    Raises:
        OptionError: an argument is out of range.
        LimitError: an enlarged picture is over the limits of a source: 65535 pixels a side, 2**28 in all.
    """
    check_range("width", width, 1, MAX_SIDE)
    check_range("height", height, 1, MAX_SIDE)
    up, down = scale_ratio(scale).as_integer_ratio()
    coded = -(-width * up // down), -(-height * up // down)
    # Only enlarging can break these where the source keeps them.
    if up > down and (max(coded) > MAX_SIDE or coded[0] * coded[1] > MAX_PIXELS):
        expected = f"at most {MAX_SIDE} a side and {MAX_PIXELS} in all"
        raise LimitError("the enlarged picture has too many pixels", expected=expected, found=f"{coded[0]}×{coded[1]}")
    return coded


def tile_grid(width: int, height: int, tile_log2: int) -> tuple[int, int]:
    """How many tiles a coded picture of ``width`` × ``height`` has.

    Args:
        width, height: coded picture, 1 … 65535 pixels.
        tile_log2: log2 of the side of a tile in pixels of the coded picture, 10 … 12.

    Returns:
        ``(columns, rows)``, each at least 1.

    Raises:
        OptionError: an argument is out of range.
    """
    check_range("width", width, 1, MAX_SIDE)
    check_range("height", height, 1, MAX_SIDE)
    check_range("tile_log2", tile_log2, MIN_TILE_LOG2, MAX_TILE_LOG2)
    side = 1 << tile_log2
    return -(-width // side), -(-height // side)


def tiles(width: int, height: int, tile_log2: int) -> Iterator[tuple[int, int, int, int]]:
    """Boxes of the tiles in the order of their streams: row by row, from the left.

    Args:
        width, height, tile_log2: as for :func:`tile_grid`.

    Yields:
        ``(x0, y0, x1, y1)`` in pixels of the coded picture, ends exclusive; smaller at the right and bottom.

    Raises:
        OptionError: an argument is out of range.
    """
    columns, rows = tile_grid(width, height, tile_log2)
    side = 1 << tile_log2
    for row in range(rows):
        for column in range(columns):
            x0, y0 = column * side, row * side
            yield x0, y0, min(x0 + side, width), min(y0 + side, height)
