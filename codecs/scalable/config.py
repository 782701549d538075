"""Architectures of the scalable model, by name."""

from __future__ import annotations

from dataclasses import dataclass

from vcm.codecs.scalable.entropy_net import LayerSpec
from vcm.nn.trunk import LITE0_BLOCKS, BlockSpec
from vcm.structures import LatentSpec

__all__ = ["ARCHITECTURES", "Architecture"]


@dataclass(frozen=True, slots=True)
class Architecture:
    """All widths of a model.

    Attributes:
        name: as stored in a weights file.
        base, picture: entropy models of the two layers.
        stem, blocks, merge: the base trunk.
        analysis, synthesis: widths of the picture path.
        preview: width of the preview network.
        head, feature, classify: widths of the heads.
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
    head: int
    feature: int
    classify: int
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
        head=192, feature=96, classify=128,
    ),
    "tiny": Architecture(
        name="tiny",
        base=LayerSpec(8, 1, 4, 12),
        picture=LayerSpec(16, 2, 4, 12, base=8, base_width=8),
        stem=8, blocks=_TINY_BLOCKS, merge=20, analysis=(8, 12, 16), synthesis=(16, 16, 8, 8), preview=16,
        head=16, feature=16, classify=16,
        picture_gain=(-1.0, 4.0),
    ),
}  # fmt: skip
"""``small`` ships as ``vcm-s``; ``tiny`` is for tests."""
