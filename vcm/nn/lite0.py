"""The shape of the trunk: EfficientNet-Lite0's inverted residuals as data. Imports no tensor library."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["LITE0_BLOCKS", "BlockSpec"]


@dataclass(frozen=True, slots=True)
class BlockSpec:
    """One inverted residual: kernel, stride, expansion, channels in and out."""

    kernel: int
    stride: int
    expand: int
    c_in: int
    c_out: int


LITE0_BLOCKS: tuple[BlockSpec, ...] = (
    BlockSpec(3, 1, 1, 32, 16),
    BlockSpec(3, 2, 6, 16, 24), BlockSpec(3, 1, 6, 24, 24),
    BlockSpec(5, 2, 6, 24, 40), BlockSpec(5, 1, 6, 40, 40),
    BlockSpec(3, 2, 6, 40, 80), BlockSpec(3, 1, 6, 80, 80), BlockSpec(3, 1, 6, 80, 80),
    BlockSpec(5, 1, 6, 80, 112), BlockSpec(5, 1, 6, 112, 112), BlockSpec(5, 1, 6, 112, 112),
    BlockSpec(5, 2, 6, 112, 192), BlockSpec(5, 1, 6, 192, 192), BlockSpec(5, 1, 6, 192, 192),
    BlockSpec(5, 1, 6, 192, 192),
)  # fmt: skip
"""EfficientNet-Lite0 up to stride 32. Block 10 ends stride 16 (112 channels), block 14 stride 32 (192 channels)."""
