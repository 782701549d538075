"""Base analysis ``g_a``: a picture to task latents at stride 16."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vcm.nn.blocks import ConvNormAct
from vcm.nn.lite0 import LITE0_BLOCKS, BlockSpec
from vcm.nn.trunk import Trunk

__all__ = ["BaseAnalysis"]


class BaseAnalysis(nn.Module):
    """Trunk, merge of strides 32 and 16, projection to ``channels`` latents.

    ::

        x ─ trunk ─┬─ s16 ───────────────┐
                   └─ s32 ─ 1×1 ─ shuffle ┴ 1×1 ─ 3×3 ─ 1×1 ─► y (N, channels, H/16, W/16)

    Args:
        channels: latent channels.
        width: channels of the merge.
        blocks, stem: the trunk's shape.
    """

    def __init__(
        self, channels: int = 48, width: int = 160, blocks: tuple[BlockSpec, ...] = LITE0_BLOCKS, stem: int = 32
    ) -> None:
        super().__init__()
        self.trunk = Trunk(blocks, stem)
        c16, c32 = self.trunk.channels
        self.up = ConvNormAct(c32, 4 * (width * 3 // 5), 1)
        self.merge = ConvNormAct(c16 + width * 3 // 5, width, 1)
        self.mix = ConvNormAct(width, width, 3)
        self.project = nn.Conv2d(width, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """``x`` float (N, 3, H, W) in 0 … 255, H and W multiples of 32."""
        return self.merged(*self.trunk(x))

    def merged(self, s16: Tensor, s32: Tensor) -> Tensor:
        """Latents from the trunk's features."""
        up = F.pixel_shuffle(self.up(s32), 2)
        h = self.merge(torch.cat([s16, up], dim=1))
        y: Tensor = self.project(h + self.mix(h))
        return y
