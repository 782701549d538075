"""Sizes of coded pictures and their tiles, by integer arithmetic only. They follow from the header, not a table."""

from __future__ import annotations

from collections.abc import Iterator

from vcm.bitstream.limits import MAX_SIDE, MAX_TILE_LOG2, MIN_TILE_LOG2, check_range

__all__ = ["coded_size", "tile_grid", "tiles"]


def coded_size(width: int, height: int, scale: int) -> tuple[int, int]:
    """Size of the picture that a layer is coded from: each side × ``scale`` / 8, rounded up.

    Args:
        width, height: source picture, upright, 1 … 65535 pixels.
        scale: eighths, 1 … 8.

    Returns:
        ``(width, height)`` in pixels, each at least 1.

    Raises:
        OptionError: an argument is out of range.
    """
    check_range("width", width, 1, MAX_SIDE)
    check_range("height", height, 1, MAX_SIDE)
    check_range("base scale", scale, 1, 8)
    return -(-width * scale // 8), -(-height * scale // 8)


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
