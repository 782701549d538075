"""What an anchor codec does to pixels, for the pixel twin that is trained to read decoded pictures."""

from __future__ import annotations

import io

import numpy as np
import torch
from PIL import Image
from torch import Tensor

__all__ = ["degrade"]

_RESAMPLING = (Image.Resampling.BILINEAR, Image.Resampling.BICUBIC, Image.Resampling.LANCZOS)


def degrade(x: Tensor, share: float, rng: np.random.Generator) -> Tensor:
    """Views of which about ``share`` went through JPEG (quality 3 … 60), WebP (0 … 60) or fewer pixels.

    Shrinking is to 25 … 80 % of the side; half of the shrunk ones are also coded, like an anchor at a reduced size.

    Args:
        x: (N, 3, H, W), 0 … 255.
        share: 0 … 1.
        rng: source of all choices.

    Returns:
        float32 (N, 3, H, W), channels-last.
    """
    out = x.clone()
    for i in range(len(x)):
        if rng.random() >= share:
            continue
        pixels = x[i].round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0).cpu().numpy()
        image = Image.fromarray(pixels)
        size = image.size
        way = int(rng.integers(3))
        if way == 2:
            factor = float(rng.uniform(0.25, 0.8))
            small = (max(8, round(size[0] * factor)), max(8, round(size[1] * factor)))
            image = image.resize(small, _RESAMPLING[int(rng.integers(3))])
        if way < 2 or rng.random() < 0.5:
            image = _coded(image, "JPEG" if way != 1 else "WEBP", rng)
        if image.size != size:
            image = image.resize(size, _RESAMPLING[int(rng.integers(3))])
        out[i] = torch.from_numpy(np.array(image)).permute(2, 0, 1).to(out)
    return out.contiguous(memory_format=torch.channels_last)


def _coded(image: Image.Image, kind: str, rng: np.random.Generator) -> Image.Image:
    # Low qualities are where detectors suffer: squaring puts half of the draws below a quarter of the range.
    quality = round(60 * float(rng.random()) ** 2) + (3 if kind == "JPEG" else 0)
    buffer = io.BytesIO()
    image.save(buffer, kind, quality=quality, **({"method": 0} if kind == "WEBP" else {}))
    buffer.seek(0)
    with Image.open(buffer) as decoded:
        return decoded.convert("RGB")
