"""Antialiased bilinear resizing, in numpy: the filter of ``torch.nn.functional.interpolate(antialias=True)``.

Networks were trained on pictures that torch resized so; this equals it to within float32 rounding.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

__all__ = ["resized"]

_Floats = npt.NDArray[np.float32]
_BLOCK = 16  # output positions that share one small matrix; of 8 to 64 the fastest at 768×512


def resized(x: _Floats, width: int, height: int) -> _Floats:
    """``x`` at another size.

    Args:
        x: float32 (C, H, W).
        width, height: of the result.

    Returns:
        float32 (C, height, width).
    """
    channels, old_height, old_width = x.shape
    if width != old_width:
        across = np.empty((channels, old_height, width), dtype=np.float32)
        rows, out = x.reshape(-1, old_width), across.reshape(-1, width)
        for at, source, band in _bands(old_width, width):
            np.matmul(rows[:, source], band.T, out=out[:, at])
        x = across
    if height != old_height:
        down = np.empty((channels, height, width), dtype=np.float32)
        for at, source, band in _bands(old_height, height):
            np.matmul(band, x[:, source], out=down[:, at])
        x = down
    return x


@lru_cache(maxsize=16)
def _bands(old: int, new: int) -> tuple[tuple[slice, slice, _Floats], ...]:
    """Blocks of output positions, the input positions that they see, and the weights between, (outputs, inputs).

    A triangle that reaches one position of the coarser grid to either side of each output's centre, in float32 as torch
    computes it.
    """
    one, half = np.float32(1), np.float32(0.5)
    scale = np.float32(old) / np.float32(new)
    support = max(scale, one)
    centre = scale * (np.arange(new, dtype=np.float32) + half)
    first = np.maximum((centre - support + half).astype(np.int64), 0)
    after = np.minimum((centre + support + half).astype(np.int64), old)
    bands = []
    for start in range(0, new, _BLOCK):
        at = slice(start, min(new, start + _BLOCK))
        source = slice(int(first[at][0]), int(after[at][-1]))
        taps = np.arange(source.start, source.stop)[None, :]
        offset = (taps.astype(np.float32) - centre[at, None] + half) * (one / support)
        weight = np.maximum(one - np.abs(offset), np.float32(0))
        weight[(taps < first[at, None]) | (taps >= after[at, None])] = 0
        bands.append((at, source, weight / weight.sum(1, keepdims=True, dtype=np.float32)))
    return tuple(bands)
