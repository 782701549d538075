"""The module sets of a model, built here and nowhere else: for training, for shipping, or its base alone.

Heads are built by :mod:`vcm.tasks.build`. State dicts of these sets name the tensors of weights files and checkpoints.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from torch import nn

from vcm.codecs.scalable.analysis import BaseAnalysis
from vcm.codecs.scalable.config import Architecture, LayerSpec
from vcm.codecs.scalable.latent_model import LatentModel
from vcm.codecs.scalable.layer_networks import LayerNetworks
from vcm.codecs.scalable.picture import PictureAnalysis, PictureSynthesis, Preview
from vcm.nn.blocks import fuse_batchnorm

__all__ = ["ShippedNetworks", "as_shipped", "base_analysis", "base_modules", "picture_modules"]

_Module = TypeVar("_Module", bound=nn.Module)
_Entropy = Callable[[LayerSpec, tuple[float, float]], nn.Module]


def base_analysis(a: Architecture) -> BaseAnalysis:
    """The base's ``g_a``, in training form."""
    return BaseAnalysis(a.base.channels, a.merge, a.blocks, a.stem)


def base_modules(a: Architecture, entropy: _Entropy = LatentModel) -> dict[str, nn.Module]:
    """``analysis`` and ``base`` (its entropy model), in training form."""
    return {"analysis": base_analysis(a), "base": entropy(a.base, a.base_gain)}


def picture_modules(a: Architecture, entropy: _Entropy = LatentModel) -> dict[str, nn.Module]:
    """``picture_analysis``, ``picture`` (its entropy model), ``synthesis`` and ``preview``, in training form."""
    return {
        "picture_analysis": PictureAnalysis(a.picture.channels, a.analysis),
        "picture": entropy(a.picture, a.picture_gain),
        "synthesis": PictureSynthesis(a.picture.channels, a.base.channels, a.synthesis),
        "preview": Preview(a.base.channels, a.preview),
    }


def as_shipped(module: _Module) -> _Module:
    """``module`` in the form in which it ships: BatchNorm folded, single precision, no gradients; changed in place."""
    fuse_batchnorm(module)
    # Single precision whatever torch's default is: pictures and latents come as float32.
    module.float().eval().requires_grad_(False)
    return module


class ShippedNetworks(nn.Module):
    """All networks of a codec in the form in which they ship, entropy networks integer. They hold no logic.

    Args:
        architecture: the widths.
        base_id, picture_id: names for the meaning of the latents; part of the layers' fingerprints.
    """

    analysis: BaseAnalysis
    base: LayerNetworks
    picture_analysis: PictureAnalysis
    picture: LayerNetworks
    synthesis: PictureSynthesis
    preview: Preview

    def __init__(self, architecture: Architecture, base_id: str, picture_id: str) -> None:
        super().__init__()
        self.architecture, self.base_id, self.picture_id = architecture, base_id, picture_id
        for modules in (base_modules(architecture, _shipped), picture_modules(architecture, _shipped)):
            for name, module in modules.items():
                self.add_module(name, module)
        as_shipped(self)


def _shipped(spec: LayerSpec, gain: tuple[float, float]) -> nn.Module:
    return LayerNetworks(spec)
