"""Weights on disk: one safetensors file holds a model's picture path, integer entropy networks and heads."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from torch import nn

from vcm.codecs.scalable.build import ShippedNetworks, as_shipped
from vcm.codecs.scalable.config import Architecture
from vcm.tasks.build import head_modules
from vcm.tasks.classification import ClassificationHead
from vcm.tasks.detection import DetectionHead
from vcm.tasks.shapes import SHIPPED_HEADS
from vcm.weights.metadata import architecture_of, check_format
from vcm.weights.registry import FORMAT, printable_name, printable_text
from vcm.weights.safetensors_file import MAX_WEIGHTS_BYTES
from vcm.weights.tensors import TensorFile, stored_type

__all__ = ["LoadedModel", "assemble", "load_weights"]


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """Networks of one weights file, ready to run.

    Attributes:
        path: the file.
        precision: what the picture's analysis and synthesis compute in: ``float32``, or ``bfloat16`` where torch thinks
            it safe.
    """

    name: str
    model: ShippedNetworks
    detect: DetectionHead
    classify: ClassificationHead
    trained: str
    path: Path
    precision: str = "float32"


def assemble(architecture: Architecture, base_id: str, picture_id: str) -> nn.ModuleDict:
    """Networks in the form in which they ship: BatchNorm folded, entropy networks integer; weights not loaded yet."""
    heads = head_modules(SHIPPED_HEADS[architecture.name], architecture.latents)
    return as_shipped(nn.ModuleDict({"model": ShippedNetworks(architecture, base_id, picture_id), **heads}))


def load_weights(path: Path) -> LoadedModel:
    """Read a weights file; nothing in it is executed.

    Raises:
        WeightsError: not a safetensors file of ours, a tensor is missing or has another shape or type, or an integer
            network is out of the range on which exact decoding rests.
    """
    with TensorFile(path, MAX_WEIGHTS_BYTES) as file:
        meta = file.metadata
        check_format(path, meta, FORMAT, "holds no VCM weights")
        architecture = architecture_of(meta)
        modules = assemble(architecture, meta.get("base_id", ""), meta.get("picture_id", ""))
        state = modules.state_dict()
        tensors = file.read({name: (stored_type(own), tuple(own.shape)) for name, own in state.items()})
    with torch.no_grad():
        for name, own in state.items():
            own.copy_(tensors[name])
    model = cast(ShippedNetworks, modules["model"])
    model.base.check()
    model.picture.check()
    return LoadedModel(
        printable_name(meta.get("name", ""), path.stem), model, cast(DetectionHead, modules["detect"]),
        cast(ClassificationHead, modules["classify"]), printable_text(meta.get("trained")), path,
    )  # fmt: skip
