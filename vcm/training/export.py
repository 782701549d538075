"""From training weights to the file that ships: BatchNorm folded, entropy networks integer, the rest half precision."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from vcm.codecs.scalable.build import base_modules, picture_modules
from vcm.codecs.scalable.config import ARCHITECTURES, Architecture
from vcm.codecs.scalable.latent_model import LatentModel
from vcm.codecs.scalable.torch_networks import torch_model
from vcm.io.files import whole_file
from vcm.nn.blocks import fuse_batchnorm
from vcm.tasks.build import head_modules
from vcm.tasks.shapes import SHIPPED_HEADS
from vcm.training.stages.networks import blind_to_base
from vcm.weights.codec_file import load_weights
from vcm.weights.registry import FORMAT
from vcm.weights.tensors import load_tensors, save_tensors

__all__ = ["export", "merged_weights", "shipping_tensors"]

_BASE_PARTS = ("analysis", "base", "detect", "classify")
_MODEL_PARTS = ("analysis", "base", "picture_analysis", "picture", "synthesis", "preview")


def training_modules(architecture: Architecture) -> nn.ModuleDict:
    """Every module of the recipe, in training form."""
    heads = head_modules(SHIPPED_HEADS[architecture.name], architecture.latents)
    return nn.ModuleDict({**base_modules(architecture), **heads, **picture_modules(architecture)})


@torch.no_grad()
def shipping_tensors(modules: nn.ModuleDict) -> dict[str, Tensor]:
    """The tensors of a weights file. ``modules`` is changed: its BatchNorms are folded."""
    fuse_batchnorm(modules)
    out: dict[str, Tensor] = {}
    for name, module in modules.items():
        state = module.frozen() if isinstance(module, LatentModel) else module.state_dict()
        prefix = f"model.{name}" if name in _MODEL_PARTS else name
        for key, value in state.items():
            out[f"{prefix}.{key}"] = value.half() if value.is_floating_point() else value
    return out


def write_weights(path: Path, modules: nn.ModuleDict, architecture: Architecture, name: str, trained: str) -> None:
    """Write the weights file of ``modules``, with its fingerprints in the metadata, and load it once to verify it."""
    tensors = shipping_tensors(modules)
    meta = {
        "format": FORMAT, "name": name, "architecture": architecture.name, "trained": trained,
        "base_id": f"{name}/base/1", "picture_id": f"{name}/enhancement/1",
    }  # fmt: skip
    with whole_file(path) as part:
        save_tensors(part, tensors, meta)
        model = torch_model(load_weights(part).model, torch.device("cpu"))
        prints = {"base": model.base_fingerprint.hex(), "enhancement": model.picture_fingerprint.hex()}
        save_tensors(part, tensors, {**meta, "fingerprints": json.dumps(prints)})


def merged_weights(stage_weights: Mapping[str, Path]) -> dict[str, Tensor]:
    """Base and heads of the ``bottleneck`` file, the rest of the ``picture`` file; a joint stage's file may be both."""
    out: dict[str, Tensor] = {}
    for kind in ("bottleneck", "picture"):
        for key, value in load_tensors(stage_weights[kind]).items():
            if (key.split(".")[0] in _BASE_PARTS) == (kind == "bottleneck"):
                out[key] = value
    return out


def export(
    stage_weights: Mapping[str, Path], architecture: str, name: str, path: Path, trained: str, blind: bool = False
) -> None:
    """Put the averaged weights of the bottleneck and picture stages into one shipping file.

    Args:
        stage_weights: ``bottleneck`` and ``picture`` to their ``ema.safetensors``.
        architecture: name of the architecture.
        name: of the model.
        path: where to write.
        trained: one line on the training run.
        blind: the picture path was trained without the base, and is made to ignore it.
    """
    a = ARCHITECTURES[architecture]
    modules = training_modules(a)
    modules.load_state_dict(merged_weights(stage_weights))
    if blind:
        blind_to_base(modules)
    write_weights(path, modules.eval(), a, name, trained)
