"""Normalised Laplacian pyramid distance (V. Laparra, J. Ballé, A. Berardino, E. P. Simoncelli, HVEI 2016).

Written from the paper because no library that can be asked for carries it: pyiqa does, and brings transformers,
bitsandbytes and datasets with it. The constants are the paper's fit to natural images. Borders are those of the
authors' program: symmetric where a level is made smaller, repeated where it is made larger, zeros in the normalisation.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from vcm.errors import MissingDependencyError

__all__ = ["LEVELS", "nlpd_of_luma"]

LEVELS = 6
"""Pyramid levels: five band-pass, one low-pass."""

_BLUR = np.array([0.05, 0.25, 0.4, 0.25, 0.05])
"""Burt and Adelson's pyramid filter, along each axis."""

# The local amplitude that a coefficient is divided by: entries (top, left, right, bottom) of the 3x3 kernel that the
# magnitudes are convolved with, and the constant added, level by level from the finest.
_KERNELS = (
    (0.1011, 0.1493, 0.1460, 0.1015),
    (0.0757, 0.1986, 0.1846, 0.0837),
    (0.0477, 0.2138, 0.2243, 0.0467),
    (0.0, 0.2503, 0.2616, 0.0),
    (0.0, 0.2598, 0.2552, 0.0),
    (0.0, 0.2215, 0.0717, 0.0),
)
_CONSTANTS = (0.0248, 0.0185, 0.0179, 0.0191, 0.0220, 0.2782)

Plane = npt.NDArray[np.float64]


def nlpd_of_luma(reference: Plane, distorted: Plane) -> float:
    """Distance of two luma planes, float64 ``(H, W)`` in 0 … 1. 0 for equal planes; symmetric; larger is worse.

    Raises:
        MissingDependencyError: scipy is not installed.
    """
    try:
        from scipy import ndimage
    except ImportError as error:
        raise MissingDependencyError("scipy is not installed: pip install 'vcm[eval]'") from error
    pyramids = (_normalised_pyramid(plane, ndimage) for plane in (reference, distorted))
    return float(np.mean([np.sqrt(np.mean((a - b) ** 2)) for a, b in zip(*pyramids, strict=True)]))


def _normalised_pyramid(plane: Plane, ndimage: Any) -> list[Plane]:
    bands = []
    for _ in range(LEVELS - 1):
        low = _blur(plane, "reflect", ndimage)[::2, ::2]
        bands.append(plane - _enlarge(low, plane.shape, ndimage))
        plane = low
    bands.append(plane)
    return [_normalise(band, level, ndimage) for level, band in enumerate(bands)]


def _blur(plane: Plane, mode: str, ndimage: Any) -> Plane:
    for axis in (0, 1):
        plane = ndimage.convolve1d(plane, _BLUR, axis=axis, mode=mode)
    return plane


def _enlarge(low: Plane, shape: tuple[int, ...], ndimage: Any) -> Plane:
    padded = np.pad(low, 1, mode="edge")
    spread = np.zeros((2 * padded.shape[0], 2 * padded.shape[1]))
    spread[::2, ::2] = 4.0 * padded  # 4: one sample in four is not zero
    return _blur(spread, "constant", ndimage)[2 : 2 + shape[0], 2 : 2 + shape[1]]


def _normalise(band: Plane, level: int, ndimage: Any) -> Plane:
    top, left, right, bottom = _KERNELS[level]
    kernel = np.array([[0.0, top, 0.0], [left, 0.0, right], [0.0, bottom, 0.0]])
    amplitude = ndimage.convolve(np.abs(band), kernel, mode="constant")
    return np.asarray(band / (_CONSTANTS[level] + amplitude))
