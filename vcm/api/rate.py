"""A layer's quality for a rate that is asked for."""

from __future__ import annotations

import warnings
from collections.abc import Callable

from vcm.bitstream import MAX_QUALITY, Bitstream, PictureFormat
from vcm.codecs.picture_layer import encode_picture_layer, picture_steps
from vcm.codecs.protocol import Image
from vcm.codecs.rate import nearest_rate

__all__ = ["RATE_TOLERANCE", "RateWarning", "add_picture_layer", "search_quality"]

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


def add_picture_layer(
    file: Bitstream, pixels: Image, format: PictureFormat, quality: int, target: float | None
) -> Bitstream:
    """``file`` with the picture coded by a standard codec, at a quality index or at the one that meets the target."""
    coded: dict[int, Bitstream] = {}

    def at(index: int) -> Bitstream:
        step = picture_steps(format, index)
        if step not in coded:
            coded[step] = file.with_layer(encode_picture_layer(pixels, format, step))
        return coded[step]

    if target is not None:
        return search_quality(at, target, lambda file: file.bpp, 5)
    return file.with_layer(encode_picture_layer(pixels, format, quality))
