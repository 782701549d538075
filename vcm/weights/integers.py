"""Bounds of the integer convolutions in weights files, on which exact decoding rests, for every runtime.

What is computed from them, and why it is exact within them, :mod:`vcm.nn.integer` says.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from vcm.errors import WeightsError

__all__ = ["MAX_ACCUMULATOR", "MAX_ACTIVATION", "MAX_MULTIPLIER", "MAX_WEIGHT", "SHIFT", "check_integers"]

MAX_WEIGHT = 63
"""Largest magnitude of a weight."""
MAX_ACTIVATION = 255
"""Largest magnitude of an activation."""
MAX_ACCUMULATOR = 1 << 24
"""Accumulators stay below this."""
MAX_MULTIPLIER = 1 << 28
"""Largest multiplier of a requantisation."""
SHIFT = 24
"""Bits that a requantisation shifts by."""

_Integers = npt.NDArray[np.integer[Any]]


def check_integers(weight: _Integers, bias: _Integers, multiplier: _Integers) -> None:
    """Verify a convolution.

    Args:
        weight: int8 (out, in, k, k).
        bias, multiplier: int32 (out,).

    Raises:
        WeightsError: a weight, accumulator or multiplier may leave its range.
    """
    wide = np.abs(weight.astype(np.int64))  # in int8 the magnitude of -128 is -128
    largest = int(wide.max())
    if largest > MAX_WEIGHT:
        raise WeightsError("an integer weight is out of range", expected=f"at most {MAX_WEIGHT}", found=largest)
    bound = int((wide.sum((1, 2, 3)) * MAX_ACTIVATION + np.abs(bias.astype(np.int64))).max())
    if bound >= MAX_ACCUMULATOR:
        raise WeightsError("an accumulator may overflow", expected=f"below {MAX_ACCUMULATOR}", found=bound)
    low, high = int(multiplier.min()), int(multiplier.max())
    if low < 0 or high > MAX_MULTIPLIER:
        raise WeightsError("a multiplier is out of range", expected=f"0 to {MAX_MULTIPLIER}", found=(low, high))
