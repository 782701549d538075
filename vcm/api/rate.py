"""A layer's quality for a rate that is asked for."""

from __future__ import annotations

import warnings
from collections.abc import Callable

from vcm.bitstream import Bitstream
from vcm.bitstream.limits import MAX_QUALITY

__all__ = ["RATE_TOLERANCE", "RateWarning", "search_quality"]

RATE_TOLERANCE = 0.03


class RateWarning(UserWarning):
    """``target_bpp`` cannot be met within 3 %; the nearest reachable rate was written."""


def search_quality(
    encode: Callable[[int], Bitstream], target: float, rate: Callable[[Bitstream], float], stacklevel: int
) -> Bitstream:
    """The quality index whose ``rate`` is nearest to ``target`` bpp, by bisection (the rate rises with quality).

    ``stacklevel`` is that of ``warnings.warn``: whom a :class:`RateWarning` names.
    """
    tried: dict[int, Bitstream] = {}

    def at(index: int) -> float:
        if index not in tried:
            tried[index] = encode(index)
        return rate(tried[index])

    low, high = 0, MAX_QUALITY
    if at(low) < target < at(high):
        while high - low > 1:
            middle = (low + high) // 2
            if at(middle) <= target:
                low = middle
            else:
                high = middle
            if abs(at(middle) / target - 1) < RATE_TOLERANCE / 10:
                break
    best = min(tried.values(), key=lambda s: abs(rate(s) - target))
    if abs(rate(best) / target - 1) > RATE_TOLERANCE:
        warnings.warn(
            f"target_bpp {target:g} is out of reach: the nearest rate is {rate(best):.4f} bpp", RateWarning, stacklevel
        )
    return best
