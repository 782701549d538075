"""Architectures of the scalable model, by name: shapes as data, without a tensor library."""

from __future__ import annotations

from dataclasses import dataclass

from vcm.nn.lite0 import LITE0_BLOCKS, BlockSpec
from vcm.structures import LatentSpec

__all__ = ["ARCHITECTURES", "CODEC_ID", "Architecture", "LayerSpec"]

CODEC_ID = 1
"""Codec id of the scalable family in the file header."""


@dataclass(frozen=True, slots=True)
class LayerSpec:
    """Shape of one layer's latents and entropy model.

    Attributes:
        channels: of ``y`` (stride 16 of the layer's coded picture).
        slices: equal channel groups, coded one after the other.
        hyper: channels of ``z`` (stride 64).
        width: channels of the parameter networks.
        base: channels of the base latents that this layer is conditioned on; 0 for the base itself.
        base_width: channels into which those are compressed.
    """

    channels: int
    slices: int
    hyper: int
    width: int
    base: int = 0
    base_width: int = 0

    @property
    def slice_channels(self) -> int:
        """Channels of one slice."""
        return self.channels // self.slices


@dataclass(frozen=True, slots=True)
class Architecture:
    """All widths of a codec; heads have shapes of their own.

    Attributes:
        name: as stored in a weights file.
        base, picture: entropy models of the two layers.
        stem, blocks, merge: the base trunk.
        analysis, synthesis: widths of the picture path.
        preview: width of the preview network.
        base_gain, picture_gain: initial log2 gains at quality 0 and 1.
    """

    name: str
    base: LayerSpec
    picture: LayerSpec
    stem: int
    blocks: tuple[BlockSpec, ...]
    merge: int
    analysis: tuple[int, int, int]
    synthesis: tuple[int, int, int, int]
    preview: int
    base_gain: tuple[float, float] = (-1.5, 2.0)
    picture_gain: tuple[float, float] = (1.0, 3.5)

    @property
    def latents(self) -> LatentSpec:
        """What heads read."""
        return LatentSpec(self.base.channels, 16)


_TINY_BLOCKS = (
    BlockSpec(3, 1, 1, 8, 8), BlockSpec(3, 2, 2, 8, 8), BlockSpec(3, 2, 2, 8, 8), BlockSpec(3, 2, 2, 8, 16),
    BlockSpec(3, 2, 2, 16, 16),
)  # fmt: skip

ARCHITECTURES: dict[str, Architecture] = {
    "small": Architecture(
        name="small",
        base=LayerSpec(48, 1, 8, 64),
        picture=LayerSpec(320, 5, 24, 48, base=48, base_width=32),
        stem=32, blocks=LITE0_BLOCKS, merge=160, analysis=(32, 64, 128), synthesis=(160, 128, 48, 24), preview=96,
    ),
    "tiny": Architecture(
        name="tiny",
        base=LayerSpec(8, 1, 4, 12),
        picture=LayerSpec(16, 2, 4, 12, base=8, base_width=8),
        stem=8, blocks=_TINY_BLOCKS, merge=20, analysis=(8, 12, 16), synthesis=(16, 16, 8, 8), preview=16,
        picture_gain=(-1.0, 4.0),
    ),
}  # fmt: skip
"""``small`` ships as ``vcm-s``; ``tiny`` is for tests."""
