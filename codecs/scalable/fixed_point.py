"""The integer arithmetic between symbols, CDF indexes and latents, in numpy: the same on every machine.

``docs/codec.md`` has the table of units. Latents in fixed point are int64 and count 1/1024 of a unit.
"""

from __future__ import annotations

from functools import cache
from math import isqrt
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from vcm.bitstream.limits import MAX_QUALITY
from vcm.entropy import NUM_SCALES, SCALE_MIN_LOG2, SCALE_STEPS_PER_OCTAVE

__all__ = [
    "CONTEXT_STEPS", "FIXED_BITS", "GAIN_LIMIT", "INDEX_OFFSET", "KNOTS", "MEAN_UNIT", "SCALE_ORIGIN", "SCALE_UNIT",
    "contexts", "dequantise", "fixed_means", "gain_steps", "inverse_gains", "power_of_two", "quality_plane",
    "table_index",
]  # fmt: skip

MEAN_UNIT: Final = 256
"""Integer units of a predicted mean per real unit of ``y``."""
SCALE_UNIT: Final = 32
"""Steps of the log-scale index, and of a gain, per octave."""
SCALE_ORIGIN: Final = 6
"""Scale index 0 stands for sigma = 2**-6."""
CONTEXT_STEPS: Final = 8
"""Integer units of a context value (``y_hat`` or ``z_hat`` as a network reads it) per real unit.

Contexts are clamped to -128 … 127."""
FIXED_BITS: Final = 10
"""Fixed-point fraction of ``y_hat``: integers count 1/1024."""
KNOTS: Final = 8
"""Knots of the gain curve over quality 0 … 1."""
GAIN_LIMIT: Final = 12 * SCALE_UNIT
"""Largest magnitude of a gain: 12 octaves."""
_INVERSE_BITS: Final = 16
_MEAN_SHIFT: Final = FIXED_BITS - 8
_CONTEXT_SHIFT: Final = FIXED_BITS - 3
_STEP_SHIFT: Final = 2
INDEX_OFFSET: Final = (SCALE_ORIGIN + SCALE_MIN_LOG2) * SCALE_UNIT - (1 << (_STEP_SHIFT - 1))
"""Scale and gain together that stand for the lower edge of the table's first row."""
if MEAN_UNIT != 1 << 8 or CONTEXT_STEPS != 1 << 3 or SCALE_UNIT != SCALE_STEPS_PER_OCTAVE << _STEP_SHIFT:
    raise ImportError("the fixed-point units changed; the shifts here follow from them")

_Int = npt.NDArray[np.integer[Any]]


@cache
def power_of_two(steps: int, bits: int) -> int:
    """``round(2**(bits - steps/32))`` in integers only: five integer square roots of a power of two.

    Args:
        steps: 1/32 octaves, any sign.
        bits: position of the binary point of the result.
    """
    guard = 40
    exponent = (bits + guard) * 32 - steps
    if exponent < 0:
        return 0
    # isqrt floors, so each step needs spare bits: work on 2**(exponent + 32·spare), take the spare bits off at the end.
    spare = 64
    value = 1 << (exponent + 32 * spare)
    for _ in range(5):
        value = isqrt(value)
    value >>= spare
    return (value + (1 << (guard - 1))) >> guard


_INVERSE: Final = np.array([power_of_two(s, _INVERSE_BITS) for s in range(-GAIN_LIMIT, GAIN_LIMIT + 1)], np.int64)


def gain_steps(knots: _Int, quality_index: int) -> npt.NDArray[np.int32]:
    """Gain of each channel, by integer interpolation between its knots.

    Args:
        knots: (KNOTS, C) in 1/256 of a gain step.
        quality_index: 0 … 1023.

    Returns:
        int32 (C,) in 1/32 octaves.
    """
    low, t = divmod(quality_index * (KNOTS - 1), MAX_QUALITY)
    if low == KNOTS - 1:
        low, t = KNOTS - 2, MAX_QUALITY
    wide = knots[low : low + 2].astype(np.int64)
    total = wide[0] * (MAX_QUALITY - t) + wide[1] * t
    steps: npt.NDArray[np.int32] = ((total + 128 * MAX_QUALITY) // (256 * MAX_QUALITY)).astype(np.int32)
    return steps


def quality_plane(quality_index: int) -> npt.NDArray[np.float32]:
    """The quality as the hyper network reads it: float32 (1, 1, 1, 1), an integer -128 … 127."""
    value = (quality_index * 255 + MAX_QUALITY // 2) // MAX_QUALITY - 128
    return np.full((1, 1, 1, 1), value, dtype=np.float32)


def fixed_means(means: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    """Means in 1/1024 from means in 1/256, int32 of any shape."""
    return means << _MEAN_SHIFT


def contexts(fixed: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    """What networks read of fixed-point latents: eighths of a unit, halves up, clamped to -128 … 127; float32."""
    eighths = (fixed + (1 << (_CONTEXT_SHIFT - 1))) >> _CONTEXT_SHIFT
    return np.clip(eighths, -128, 127, out=eighths).astype(np.float32)


def table_index(scales: npt.NDArray[np.int32], gain: npt.NDArray[np.int32]) -> npt.NDArray[np.uint8]:
    """Rows of the scale table.

    Args:
        scales: predicted log2 scales in 1/32 octaves from 2**-6.
        gain: gains in 1/32 octaves, of a shape that broadcasts.

    Returns:
        uint8 of the common shape, 0 … NUM_SCALES - 1: the nearest row, halves up.
    """
    steps = scales + (gain - INDEX_OFFSET)
    steps >>= _STEP_SHIFT
    return np.clip(steps, 0, NUM_SCALES - 1, out=steps).astype(np.uint8)


def inverse_gains(gain: npt.NDArray[np.int32]) -> npt.NDArray[np.int64]:
    """``2**(-gain/32)`` in 1/65536, int64 of the same shape; gains are in 1/32 octaves."""
    out: npt.NDArray[np.int64] = _INVERSE[np.clip(gain, -GAIN_LIMIT, GAIN_LIMIT) + GAIN_LIMIT]
    return out


def dequantise(
    symbols: npt.NDArray[np.int32], means: npt.NDArray[np.int32], gain: npt.NDArray[np.int32]
) -> npt.NDArray[np.int64]:
    """Fixed-point latents: mean + symbol · 2**(-gain/32), int64 in 1/1024.

    Args:
        symbols: magnitudes at most 32767.
        means: in 1/1024, of the same shape.
        gain: in 1/32 octaves, of a shape that broadcasts.
    """
    shift = _INVERSE_BITS - FIXED_BITS
    out = symbols * inverse_gains(gain)
    out += 1 << (shift - 1)
    out >>= shift
    out += means
    return out
