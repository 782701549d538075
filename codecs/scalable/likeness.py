"""Whether two base layers are of one picture."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["MOST_DISTANCE", "base_distance"]

MOST_DISTANCE = 0.65
"""Distance of two bases above which they are of two pictures.

On 28 photographs of COCO and 12 of Kodak, at base qualities 0 to 100: from one photograph as JPEG at quality 30,
darker, brighter, in another contrast, at half size and back, with noise of 10 levels or cropped by 2 % at most 0.37,
as JPEG at quality 10 at most 0.39, without colours at most 0.58; between two at least 0.70, mostly about 1."""
_LEAST_POSITIONS = 100
"""Of fewer positions nobody can say: 160 x 160 pixels of the base's picture."""


def base_distance(a: npt.NDArray[np.int64], b: npt.NDArray[np.int64]) -> float | None:
    """Squared distance of two bases over their spread: 0 of one picture, about 1 of two.

    Args:
        a, b: int64 (1, C, h, w), decoded latents of the same quality.

    Returns:
        at least 0; ``None`` where the pictures are too small to tell.
    """
    if a.shape[2] * a.shape[3] < _LEAST_POSITIONS:
        return None
    x, y = a.astype(np.float64), b.astype(np.float64)
    mean = (x.mean(axis=(2, 3), keepdims=True) + y.mean(axis=(2, 3), keepdims=True)) / 2
    spread = float(((x - mean) ** 2).sum() + ((y - mean) ** 2).sum())
    return float(((x - y) ** 2).sum()) / spread if spread else 0.0
