"""A layer's quality for a rate that is asked for."""

from __future__ import annotations

import warnings
from collections.abc import Callable

from vcm.bitstream import MAX_QUALITY, Bitstream
from vcm.codecs.rate import nearest_rate

__all__ = ["RATE_TOLERANCE", "RateWarning", "search_quality"]

RATE_TOLERANCE = 0.03


class RateWarning(UserWarning):
    """``target_bpp`` cannot be met within 3 %; the nearest reachable rate was written."""


def search_quality(
    encode: Callable[[int], Bitstream], target: float, rate: Callable[[Bitstream], float], stacklevel: int
) -> Bitstream:
    """The quality index whose ``rate`` is nearest to ``target`` bpp, the rate rising with quality.

    ``stacklevel`` is that of ``warnings.warn``: whom a :class:`RateWarning` names.
    """
    best = nearest_rate(encode, rate, target, MAX_QUALITY, close=RATE_TOLERANCE / 10)
    if abs(rate(best) / target - 1) > RATE_TOLERANCE:
        warnings.warn(
            f"target_bpp {target:g} is out of reach: the nearest rate is {rate(best):.4f} bpp", RateWarning, stacklevel
        )
    return best
