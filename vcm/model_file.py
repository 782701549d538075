"""Weights on disk: one safetensors file holds a model's picture path, integer entropy networks and heads."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from vcm.codecs.scalable.config import ARCHITECTURES, Architecture
from vcm.codecs.scalable.model import ScalableModel
from vcm.errors import WeightsError
from vcm.models import FORMAT
from vcm.nn.blocks import fuse_batchnorm
from vcm.tasks.classification import ClassificationHead
from vcm.tasks.detection import DetectionHead

__all__ = ["LoadedModel", "assemble", "load_weights"]

_MAX_BYTES = 1 << 30


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """Networks of one weights file, ready to run."""

    name: str
    model: ScalableModel
    detect: DetectionHead
    classify: ClassificationHead
    trained: str


def assemble(architecture: Architecture, base_id: str, picture_id: str) -> nn.ModuleDict:
    """Networks in the form in which they ship: BatchNorm folded, entropy networks integer; weights not loaded yet."""
    a = architecture
    modules = nn.ModuleDict(
        {
            "model": ScalableModel(a, base_id, picture_id),
            "detect": DetectionHead(a.latents, width=a.head, feature=a.feature),
            "classify": ClassificationHead(a.latents, width=a.classify),
        }
    )
    fuse_batchnorm(modules)
    # Single precision whatever torch's default is: pictures and latents come as float32.
    modules.float().eval().requires_grad_(False)
    return modules


def load_weights(path: Path) -> LoadedModel:
    """Read a weights file; nothing in it is executed.

    Raises:
        WeightsError: not a safetensors file of ours, a tensor is missing or has another shape or type, or an integer
            network is out of the range on which exact decoding rests.
    """
    size = path.stat().st_size
    if size > _MAX_BYTES:
        raise WeightsError("the weights file is too large", expected=f"at most {_MAX_BYTES} bytes", found=size)
    try:
        with safe_open(str(path), "pt") as file:
            meta = file.metadata() or {}
            tensors: dict[str, Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path} is not a readable safetensors file", found=str(error).partition("\n")[0]) from error
    if meta.get("format") != FORMAT:
        raise WeightsError(f"{path} holds no VCM weights", expected=FORMAT, found=meta.get("format"))
    architecture = ARCHITECTURES.get(meta.get("architecture", ""))
    if architecture is None:
        raise WeightsError("unknown architecture", expected=", ".join(ARCHITECTURES), found=meta.get("architecture"))
    modules = assemble(architecture, meta.get("base_id", ""), meta.get("picture_id", ""))
    state = modules.state_dict()
    _compare(path, state, tensors)
    with torch.no_grad():
        for name, own in state.items():
            own.copy_(tensors[name])
    model = cast(ScalableModel, modules["model"])
    model.base.check()
    model.picture.check()
    return LoadedModel(
        meta.get("name", path.stem), model, cast(DetectionHead, modules["detect"]),
        cast(ClassificationHead, modules["classify"]), meta.get("trained", ""),
    )  # fmt: skip


def _compare(path: Path, wanted: dict[str, Tensor], found: dict[str, Tensor]) -> None:
    for name in sorted(wanted.keys() | found.keys()):
        if name not in found:
            raise WeightsError(f"{path} lacks a tensor", expected=name)
        if name not in wanted:
            raise WeightsError(f"{path} has a tensor too many", found=name)
        own, new = wanted[name], found[name]
        if own.shape != new.shape:
            raise WeightsError(f"{name} has the wrong shape", expected=tuple(own.shape), found=tuple(new.shape))
        if own.is_floating_point():
            if not new.is_floating_point() or not bool(torch.isfinite(new.to(own.dtype)).all()):
                raise WeightsError(f"{name} is not a tensor of finite real numbers", found=new.dtype)
        elif own.dtype != new.dtype:
            raise WeightsError(f"{name} has the wrong type", expected=own.dtype, found=new.dtype)
