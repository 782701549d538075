"""Multi-scale structural similarity as a loss."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from vcm.errors import OptionError

__all__ = ["MIN_SIDE", "ms_ssim"]

MIN_SIDE = 161
"""Least side of a picture, pixels: after four halvings the 11-tap window must still fit."""
_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
_TAPS, _SIGMA = 11, 1.5
_C1, _C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
_FLOOR = 1e-4
"""Terms are raised to powers below 1, whose slope at 0 is infinite; negative ones have no power at all."""


def _window() -> Tensor:
    at = torch.arange(_TAPS, dtype=torch.float64) - _TAPS // 2
    window = torch.exp(-at.square() / (2 * _SIGMA**2))
    return (window / window.sum()).float()


def _blur(planes: Tensor) -> Tensor:
    """Gaussian means of (1, M, H, W), no padding.

    Planes are groups: a CPU convolves them ten times faster forwards, fifty times backwards, than as a batch.
    """
    m = planes.shape[1]
    window = _window().to(planes.device)
    rows = F.conv2d(planes, window.view(1, 1, -1, 1).expand(m, 1, -1, 1), groups=m)
    return F.conv2d(rows, window.view(1, 1, 1, -1).expand(m, 1, 1, -1), groups=m)


def ms_ssim(x_hat: Tensor, x: Tensor) -> Tensor:
    """MS-SSIM (Wang, Simoncelli, Bovik 2003) of each picture, five scales, mean over R, G and B.

    Args:
        x_hat: (N, 3, H, W) float, RGB, 0 … 255 (values outside are allowed).
        x: the same shape.

    Returns:
        (N,), 1 for equal pictures; computed in float32 under autocast too.

    Raises:
        OptionError: the shapes differ, or a side is under :data:`MIN_SIDE` pixels.
    """
    if x_hat.shape != x.shape:
        raise OptionError("MS-SSIM compares pictures of one size", expected=tuple(x.shape), found=tuple(x_hat.shape))
    if min(x.shape[2:]) < MIN_SIDE:
        raise OptionError("crops are too small for MS-SSIM", expected=f"sides >= {MIN_SIDE}", found=tuple(x.shape[2:]))
    with torch.autocast(x.device.type, enabled=False):
        # Around mid-grey the squares are four times smaller, and so is what float32 loses in the variances.
        a = (x_hat.float() - 127.5).flatten(0, 1)[None]
        b = (x.float() - 127.5).flatten(0, 1)[None]
        product = a.new_ones(a.shape[1])
        for scale, weight in enumerate(_WEIGHTS):
            if scale:
                a, b = F.avg_pool2d(a, 2, ceil_mode=True), F.avg_pool2d(b, 2, ceil_mode=True)
            blurred = _blur(torch.cat([a, b, a * a, b * b, a * b], dim=1))
            mean_a, mean_b, square_a, square_b, cross = blurred.chunk(5, dim=1)
            variances = (square_a - mean_a.square()) + (square_b - mean_b.square())
            value = (2 * (cross - mean_a * mean_b) + _C2) / (variances + _C2)
            if scale == len(_WEIGHTS) - 1:
                mean_a, mean_b = mean_a + 127.5, mean_b + 127.5
                value = value * (2 * mean_a * mean_b + _C1) / (mean_a.square() + mean_b.square() + _C1)
            product = product * value.mean((0, 2, 3)).clamp(min=_FLOOR) ** weight
        return product.view(len(x), 3).mean(1)
