"""The module sets of a model, built here and nowhere else: for training, for shipping, or its base alone.

Heads are built by :mod:`vcm.tasks.build`. State dicts of these sets name the tensors of weights files and checkpoints.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from torch import nn

from vcm.codecs.scalable.analysis import BaseAnalysis
from vcm.codecs.scalable.config import Architecture, LayerSpec
from vcm.codecs.scalable.latent_coder import LatentCoder
from vcm.codecs.scalable.latent_model import LatentModel
from vcm.codecs.scalable.picture import PictureAnalysis, PictureSynthesis, Preview
from vcm.nn.blocks import fuse_batchnorm

__all__ = ["as_shipped", "base_analysis", "base_modules", "picture_modules", "shipped_modules"]

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


def shipped_modules(a: Architecture) -> nn.ModuleDict:
    """All networks of a codec in the form in which they ship, entropy networks integer; weights not loaded yet."""

    def coder(spec: LayerSpec, gain: tuple[float, float]) -> nn.Module:
        return LatentCoder(spec)

    return as_shipped(nn.ModuleDict({**base_modules(a, coder), **picture_modules(a, coder)}))
