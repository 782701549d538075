"""The picture path: enhancement analysis, synthesis that sees both layers, and a preview from the base alone."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vcm.nn.blocks import FiLM, ResidualBlock

__all__ = [
    "PictureAnalysis",
    "PictureSynthesis",
    "Preview",
    "sample_base",
]


def sample_base(y_base: Tensor, at: tuple[Tensor, Tensor]) -> Tensor:
    """Bilinear samples of the base latents at positions ``at`` (rows, columns), edges repeated; (N, C, rows, columns).

    With gradients, for training; :func:`vcm.codecs.scalable.sampling.sample_grid` is the same in numpy.
    """
    for axis, position in ((2, at[0]), (3, at[1])):
        low = position.floor()
        t = (position - low).to(y_base.dtype)
        limit = y_base.shape[axis] - 1
        first = y_base.index_select(axis, low.long().clamp(0, limit))
        second = y_base.index_select(axis, (low.long() + 1).clamp(0, limit))
        shape = [1, 1, 1, 1]
        shape[axis] = -1
        y_base = first + (second - first) * t.view(shape)
    return y_base


def dct_basis(channels: int, size: int = 16) -> Tensor:
    """The ``channels`` smoothest functions of an orthonormal block transform: DCT-II of luma and two chroma axes.

    Both picture transforms start from it, so that a short training refines a transform codec instead of finding one.

    Args:
        channels: functions, at most ``3 · size²``.
        size: side of the block, pixels.

    Returns:
        float32 (channels, 3, size, size), orthonormal, smoothest first; chroma counts as 1.8 times less smooth.
    """
    n = torch.arange(size, dtype=torch.float64)
    rows = torch.cos(torch.pi * (n[None, :] + 0.5) * n[:, None] / size) * (2 / size) ** 0.5
    rows[0] *= 0.5**0.5
    colours = torch.tensor([[1.0, 1.0, 1.0], [-1.0, -1.0, 2.0], [1.0, -1.0, 0.0]], dtype=torch.float64)
    colours = colours / colours.norm(dim=1, keepdim=True)
    order = sorted(
        ((u * u + v * v + 1) ** 0.5 * (1.0 if c == 0 else 1.8), c, u, v)
        for c in range(3)
        for u in range(size)
        for v in range(size)
    )[:channels]
    basis = [colours[c][:, None, None] * rows[u][:, None] * rows[v][None, :] for _, c, u, v in order]
    return torch.stack(basis).float()


def _full_precision(x: Tensor) -> torch.autocast:
    """For block transforms, which carry nearly all of a picture; bfloat16 is for what refines them, in training."""
    return torch.autocast(x.device.type, enabled=False)


class PictureAnalysis(nn.Module):
    """``g_a`` of the enhancement: a learned block transform that starts as a DCT, plus dense 3×3 convolutions.

    ::

        x ─┬─ 16×16 linear ────────────────────────────────────────┬ + ─► C@s16
           └─ unshuffle 2 ─ 32@s2 ─ 64@s4 ─ res ─ 128@s8 ─ res ────┘
    """

    def __init__(self, channels: int = 320, widths: tuple[int, int, int] = (32, 64, 128)) -> None:
        super().__init__()
        w2, w4, w8 = widths
        self.down2 = nn.Conv2d(12, w2, 3, padding=1)
        self.down4 = nn.Conv2d(w2, w4, 3, 2, 1)
        self.res4 = ResidualBlock(w4)
        self.down8 = nn.Conv2d(w4, w8, 3, 2, 1)
        self.res8 = ResidualBlock(w8)
        self.down16 = nn.Conv2d(w8, channels, 3, 2, 1)
        self.linear = nn.Parameter(dct_basis(channels))
        with torch.no_grad():
            self.down16.weight.mul_(0.1)

    def forward(self, x: Tensor) -> Tensor:
        """``x`` (N, 3, H, W) in 0 … 255, H and W multiples of 16; returns (N, C, H/16, W/16)."""
        x = (x - 127.0) / 128.0
        h = F.leaky_relu(self.down2(F.pixel_unshuffle(x, 2)), 0.1)
        h = self.res4(F.leaky_relu(self.down4(h), 0.1))
        h = self.res8(F.leaky_relu(self.down8(h), 0.1))
        with _full_precision(x):
            linear = F.conv2d(x, self.linear, stride=16)
        out: Tensor = linear + self.down16(h)
        return out


class PictureSynthesis(nn.Module):
    """``g_s``: enhancement latents and base latents at stride 16 to a picture.

    ::

        y_hat ──────┬─ 16×16 linear ──────────────────────────────────────────────────────────────┬ + ─► x_hat
        base ─ mix@s16 ─ FiLM(quality) ─ res ─ up@s8 ─ res ─ up@s4 ─ res ─ up@s2 ─ mix ─ shuffle ──┘
    """

    def __init__(
        self, channels: int = 320, base: int = 48, widths: tuple[int, int, int, int] = (160, 128, 48, 24)
    ) -> None:
        super().__init__()
        w16, w8, w4, w2 = widths
        self.mix = nn.Conv2d(channels + base, w16, 3, padding=1)
        self.film = FiLM(w16)
        self.res16 = ResidualBlock(w16)
        self.up8 = nn.Conv2d(w16, w8 * 4, 3, padding=1)
        self.res8 = ResidualBlock(w8)
        self.up4 = nn.Conv2d(w8, w4 * 4, 3, padding=1)
        self.res4 = ResidualBlock(w4)
        self.up2 = nn.Conv2d(w4, w2 * 4, 3, padding=1)
        self.mix2 = nn.Conv2d(w2, w2, 3, padding=1)
        self.out = nn.Conv2d(w2, 12, 3, padding=1)
        self.linear = nn.Parameter(dct_basis(channels))
        with torch.no_grad():
            self.out.weight.mul_(0.1)

    def forward(self, y: Tensor, base: Tensor, quality: Tensor) -> Tensor:
        """``y`` (N, C, h, w) and ``base`` (N, B, h, w) at the same positions, ``quality`` (N,) in 0 … 1, to pictures.

        Returns (N, 3, 16h, 16w), 0 … 255 unclipped.
        """
        h = F.leaky_relu(self.film(self.mix(torch.cat([y, base], dim=1)), quality), 0.1)
        h = self.res8(F.leaky_relu(F.pixel_shuffle(self.up8(self.res16(h)), 2), 0.1))
        h = self.res4(F.leaky_relu(F.pixel_shuffle(self.up4(h), 2), 0.1))
        h = F.leaky_relu(F.pixel_shuffle(self.up2(h), 2), 0.1)
        h = h + F.leaky_relu(self.mix2(h), 0.1)
        with _full_precision(y):
            linear = F.conv_transpose2d(y, self.linear, stride=16)
        return (linear + F.pixel_shuffle(self.out(h), 2)) * 128.0 + 127.0


class Preview(nn.Module):
    """A small picture from the base latents alone, a quarter of the coded base's size along each axis."""

    def __init__(self, base: int = 48, width: int = 96) -> None:
        super().__init__()
        self.inp = nn.Conv2d(base, width, 3, padding=1)
        self.res = ResidualBlock(width)
        self.up = nn.Conv2d(width, 4 * width // 2, 3, padding=1)
        self.res8 = ResidualBlock(width // 2)
        self.out = nn.Conv2d(width // 2, 12, 3, padding=1)

    def forward(self, y: Tensor) -> Tensor:
        """``y`` (N, B, h, w); returns (N, 3, 4h, 4w), 0 … 255 unclipped."""
        h = self.res(F.leaky_relu(self.inp(y), 0.1))
        h = self.res8(F.leaky_relu(F.pixel_shuffle(self.up(h), 2), 0.1))
        return F.pixel_shuffle(self.out(h), 2) * 128.0 + 127.0
