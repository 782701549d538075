"""Small convolution blocks that train with BatchNorm and ship without it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["ConvNormAct", "FiLM", "ResidualBlock", "fuse_batchnorm"]


class ConvNormAct(nn.Module):
    """Convolution, BatchNorm, ReLU. After :func:`fuse_batchnorm` the norm is part of the convolution."""

    def __init__(self, c_in: int, c_out: int, kernel: int = 3, stride: int = 1, *, act: bool = True) -> None:
        super().__init__()
        self.conv = nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, bias=True)
        self.norm: nn.Module = nn.BatchNorm2d(c_out)
        self.act = act

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.conv(x))
        return F.relu(x) if self.act else x


def fuse_batchnorm(module: nn.Module) -> nn.Module:
    """Fold the BatchNorm of every :class:`ConvNormAct` below ``module`` into its convolution, in place; returns it."""
    for block in module.modules():
        if isinstance(block, ConvNormAct) and isinstance(block.norm, nn.BatchNorm2d):
            norm = block.norm
            if norm.running_var is None or norm.running_mean is None:
                continue
            gain = norm.weight / torch.sqrt(norm.running_var + norm.eps)
            with torch.no_grad():
                block.conv.weight.mul_(gain[:, None, None, None])
                if block.conv.bias is not None:
                    block.conv.bias.copy_((block.conv.bias - norm.running_mean) * gain + norm.bias)
            block.norm = nn.Identity()
    return module


class ResidualBlock(nn.Module):
    """Two 3×3 convolutions with a shortcut, no normalisation (as picture codecs use it)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        h: Tensor = self.conv2(F.leaky_relu(self.conv1(x), 0.1))
        return x + h


class FiLM(nn.Module):
    """Feature-wise affine modulation by one number per picture (Perez et al. 2018), the identity at initialisation."""

    def __init__(self, channels: int, hidden: int = 32) -> None:
        super().__init__()
        self.fc1 = nn.Linear(1, hidden)
        self.fc2 = nn.Linear(hidden, 2 * channels)
        nn.init.zeros_(self.fc2.weight)
        nn.init.zeros_(self.fc2.bias)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """``x`` (N, C, H, W); ``t`` (N,) in 0 … 1."""
        gamma, beta = self.fc2(F.relu(self.fc1(t[:, None] * 2 - 1))).chunk(2, dim=1)
        out: Tensor = x * (1 + gamma[:, :, None, None]) + beta[:, :, None, None]
        return out
