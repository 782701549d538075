"""Numbers as text."""

from __future__ import annotations

import math

__all__ = ["three_digits"]


def three_digits(value: float) -> str:
    """A positive number with three significant digits and no exponent: rates go from 0.00452 to 24.0 bpp."""
    if not (math.isfinite(value) and value > 0):
        return f"{value:g}"
    # Of the rounded value: 0.09996 is 0.100.
    exponent = int(f"{value:.2e}".partition("e")[2])
    return f"{value:.{max(0, 2 - exponent)}f}"
