"""The topology of a layer's entropy model, written once for the network that learns and the integer network that ships.

Hyperprior (Ballé et al. 2018) with channel slices (Minnen & Singh 2020) and a two-pass checkerboard (He et al. 2021)
inside each slice: every position of a pass is independent of the others, so nothing is decoded serially.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vcm.codecs.scalable.config import LayerSpec
from vcm.codecs.scalable.fixed_point import MEAN_UNIT, SCALE_ORIGIN, SCALE_UNIT
from vcm.nn.integer import IntConv2d, QuantConv2d

__all__ = [
    "ConvFactory",
    "EntropyNet",
    "int_conv",
    "quant_conv",
]

ConvFactory = Callable[[int, int, int, bool], nn.Module]
"""``(c_in, c_out, kernel, hidden)`` to a layer; one that is not hidden gives two halves: means, then scale indexes."""


def quant_conv(c_in: int, c_out: int, kernel: int, hidden: bool) -> nn.Module:
    """The layer that learns."""
    if hidden:
        return QuantConv2d(c_in, c_out, kernel)
    half = c_out // 2
    units = torch.cat([torch.full((half,), float(MEAN_UNIT)), torch.full((half,), float(SCALE_UNIT))])
    layer = QuantConv2d(c_in, c_out, kernel, units)
    nn.init.normal_(layer.weight, std=0.02)
    with torch.no_grad():
        layer.bias[half:] = SCALE_ORIGIN  # sigma starts at 1
    return layer


def int_conv(c_in: int, c_out: int, kernel: int, hidden: bool) -> nn.Module:
    """The layer that ships."""
    return IntConv2d(c_in, c_out, kernel, hidden)


class EntropyNet(nn.Module):
    """Parameter networks of one layer. All tensors hold integers (float32 when learning, float64 when coding).

    Args:
        spec: the layer's shape.
        conv: makes its layers.
    """

    def __init__(self, spec: LayerSpec, conv: ConvFactory) -> None:
        super().__init__()
        self.spec = spec
        m, w = spec.slice_channels, spec.width
        self.hyper1 = conv(spec.hyper + 1, w, 3, True)
        self.hyper2 = conv(w, 16 * w, 1, True)
        self.base = conv(spec.base, spec.base_width, 3, True) if spec.base else None
        self.fuse = nn.ModuleList(conv(w + spec.base_width + i * m, w, 1, True) for i in range(spec.slices))
        self.first = nn.ModuleList(
            nn.Sequential(conv(w, w, 3, True), conv(w, 2 * m, 1, False)) for _ in range(spec.slices)
        )
        self.second = nn.ModuleList(
            nn.Sequential(conv(w + m, w, 3, True), conv(w, 2 * m, 1, False)) for _ in range(spec.slices)
        )

    def hyper(self, z: Tensor, quality: Tensor, size: tuple[int, int]) -> Tensor:
        """Features from the hyper-latents.

        Args:
            z: (N, hyper, hz, wz), -128 … 127.
            quality: (N, 1, 1, 1), -128 … 127.
            size: (h, w) of the latents; the up-sampled features are cropped to it.
        """
        n, _, h, w = z.shape
        out = self.hyper2(self.hyper1(torch.cat([z, quality.expand(n, 1, h, w)], dim=1)))
        return F.pixel_shuffle(out, 4)[:, :, : size[0], : size[1]]

    def base_features(self, y_base: Tensor) -> Tensor:
        """Features of the whole base layer on the base's own grid; ``y_base`` (N, base, h, w), -128 … 127."""
        if self.base is None:
            raise TypeError("this layer is not conditioned on a base")
        out: Tensor = self.base(y_base)
        return out

    def parameters_first(self, i: int, psi: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
        """Features of slice ``i`` and the parameters of its first pass.

        Args:
            psi: (N, width + base_width, h, w) hyper and base features.
            known: (N, i · slice, h, w) context of the slices before, -128 … 127.

        Returns:
            features (N, width, h, w), parameters (N, 2 · slice, h, w): means, then scale indexes.
        """
        features = self.fuse[i](torch.cat([psi, known], dim=1))
        return features, self.first[i](features)

    def parameters_second(self, i: int, features: Tensor, context: Tensor) -> Tensor:
        """Parameters of slice ``i``'s second pass.

        ``context`` (N, slice, h, w) holds the first pass's latents, 0 elsewhere.
        """
        out: Tensor = self.second[i](torch.cat([features, context], dim=1))
        return out


def first_pass_mask(height: int, width: int, device: torch.device | None = None) -> Tensor:
    """Boolean (height, width): the positions of the first checkerboard pass, where row + column is even."""
    rows = torch.arange(height, device=device)[:, None]
    columns = torch.arange(width, device=device)[None, :]
    return (rows + columns) % 2 == 0
