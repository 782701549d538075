"""Where the two layers' grids meet, in numpy: positions of one grid on the other, and samples there."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["GridMap", "base_positions", "nearest_rows", "sample_grid"]


def nearest_rows(count: int, offset: int, source: int, coded: int, grid: int) -> npt.NDArray[np.int64]:
    """Base-grid index nearest to each enhancement position along one axis, in integers.

    Args:
        count: enhancement positions.
        offset: index of the first one in the global grid.
        source, coded: source and coded-base extent along the axis, pixels.
        grid: positions of the base grid along the axis.

    Returns:
        int64 (count,): ``min(((2 i + 1) · coded) // (2 · source), grid - 1)``, the centre of position i mapped to the
        base.
    """
    i = np.arange(offset, offset + count, dtype=np.int64)
    return np.minimum(((2 * i + 1) * coded) // (2 * source), grid - 1)


def base_positions(count: int, offset: float, source: int, coded: int, step: float = 1.0) -> npt.NDArray[np.float32]:
    """Where the centres from ``offset`` on of a grid of ``source`` lie on one of ``coded``; its first centre is 0.

    Both extents are of the same picture, in any one unit. With a ``step`` the centres are those of as many positions
    taken together. Returns float32 (count,).
    """
    i = offset + (np.arange(count, dtype=np.float64) + 0.5) * step
    return (i * coded / source - 0.5).astype(np.float32)


GridMap = tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]
"""Row and column positions, from :func:`base_positions`."""


def sample_grid(grid: npt.NDArray[np.float32], at: GridMap) -> npt.NDArray[np.float32]:
    """Bilinear samples at ``at`` (rows, columns), edges repeated.

    Args:
        grid: float32 (1, C, h, w).
        at: r row and c column positions.

    Returns:
        float32 (1, C, r, c). :func:`vcm.codecs.scalable.picture.sample_base` is the same for training.
    """
    for axis, position in ((2, at[0]), (3, at[1])):
        low = np.floor(position)
        index = low.astype(np.int64)
        limit = grid.shape[axis] - 1
        first = grid.take(np.clip(index, 0, limit), axis=axis)
        step = grid.take(np.clip(index + 1, 0, limit), axis=axis)
        step -= first
        step *= (position - low).reshape((-1, 1) if axis == 2 else (-1,))
        step += first
        grid = step
    return grid
