"""What an anchor codec does to pixels, for the pixel twin that is trained to read decoded pictures."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

__all__ = ["Degradation", "degrade", "plan_degradations"]

_RESAMPLING = (Image.Resampling.BILINEAR, Image.Resampling.BICUBIC, Image.Resampling.LANCZOS)


@dataclass(frozen=True, slots=True)
class Degradation:
    """What happens to one view.

    Attributes:
        factor: share of the side that is kept, 1 for all of it.
        down, up: which resampling filter shrinks and which enlarges again.
        kind: ``JPEG``, ``WEBP`` or ``None``.
        quality: its quality.
    """

    factor: float
    down: int
    up: int
    kind: str | None
    quality: int


def plan_degradations(count: int, share: float, rng: np.random.Generator) -> tuple[Degradation | None, ...]:
    """Choices for ``count`` views: about ``share`` get JPEG (quality 3 … 63), WebP (0 … 60) or fewer pixels.

    Shrinking is to 25 … 80 % of the side; half of the shrunk ones are also coded, like an anchor at a reduced size.
    """
    plans: list[Degradation | None] = []
    for _ in range(count):
        if rng.random() >= share:
            plans.append(None)
            continue
        way = int(rng.integers(3))
        factor, down, up, kind, quality = 1.0, 0, 0, None, 0
        if way == 2:
            factor = float(rng.uniform(0.25, 0.8))
            down = int(rng.integers(3))
        if way < 2 or rng.random() < 0.5:
            kind = "JPEG" if way != 1 else "WEBP"
            # Low qualities are where detectors suffer: squaring puts half of the draws below a quarter of the range.
            quality = round(60 * float(rng.random()) ** 2) + (3 if kind == "JPEG" else 0)
        if way == 2:
            up = int(rng.integers(3))
        plans.append(Degradation(factor, down, up, kind, quality))
    return tuple(plans)


def degrade(x: Tensor, plans: Sequence[Degradation | None]) -> Tensor:
    """Views as an anchor codec would leave them.

    Args:
        x: (N, 3, H, W), 0 … 255.
        plans: N choices of :func:`plan_degradations`; ``None`` leaves a view as it is.

    Returns:
        float32 (N, 3, H, W), channels-last.
    """
    out = x.clone()
    for i, plan in enumerate(plans):
        if plan is None:
            continue
        pixels = x[i].round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0).cpu().numpy()
        image = Image.fromarray(pixels)
        size = image.size
        if plan.factor < 1:
            small = (max(8, round(size[0] * plan.factor)), max(8, round(size[1] * plan.factor)))
            image = image.resize(small, _RESAMPLING[plan.down])
        if plan.kind is not None:
            image = _coded(image, plan.kind, plan.quality)
        if plan.factor < 1:
            image = image.resize(size, _RESAMPLING[plan.up])
        out[i] = torch.from_numpy(np.array(image)).permute(2, 0, 1).to(out)
    return out.contiguous(memory_format=torch.channels_last)


def _coded(image: Image.Image, kind: str, quality: int) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, kind, quality=quality, **({"method": 0} if kind == "WEBP" else {}))
    buffer.seek(0)
    with Image.open(buffer) as decoded:
        return decoded.convert("RGB")
