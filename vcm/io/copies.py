"""Near-duplicates of a picture: what happens to one that is passed on."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import numpy.typing as npt
from PIL import Image

__all__ = ["near_duplicate"]

_LEAST_SIDE = 32


def near_duplicate(pixels: npt.NDArray[np.uint8], rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """A copy: cut to 70 to 100 % of each side, brought to half to full size, brightness and contrast changed by up to
    a fifth,
    mirrored in a fifth of all cases, and through JPEG at quality 30 to 90.

    Args:
        pixels: uint8 (H, W, 3), at least 32 pixels a side.
        rng: of all choices.

    Returns:
        uint8 (h, w, 3).
    """
    height, width = pixels.shape[:2]
    h, w = (max(_LEAST_SIDE, round(side * float(rng.uniform(0.7, 1)))) for side in (height, width))
    h, w = min(h, height), min(w, width)
    y, x = int(rng.integers(0, height - h + 1)), int(rng.integers(0, width - w + 1))
    share = float(rng.uniform(0.5, 1))
    size = max(_LEAST_SIDE, round(w * share)), max(_LEAST_SIDE, round(h * share))
    part = Image.fromarray(np.ascontiguousarray(pixels[y : y + h, x : x + w])).resize(size, Image.Resampling.LANCZOS)
    gain, shift = float(rng.uniform(0.8, 1.2)), float(rng.uniform(-25, 25))
    out = (np.asarray(part, np.float32) * gain + shift).clip(0, 255).round().astype(np.uint8)
    if rng.random() < 0.2:
        out = np.ascontiguousarray(out[:, ::-1])
    buffer = BytesIO()
    Image.fromarray(out).save(buffer, "JPEG", quality=int(rng.integers(30, 91)))
    return np.asarray(Image.open(buffer).convert("RGB"))
