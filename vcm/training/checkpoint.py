"""Checkpoints without pickle: tensors in safetensors shards, the rest in JSON, written atomically."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vcm.errors import WeightsError
from vcm.io.files import whole_file, write_atomically
from vcm.weights.tensors import load_tensors, save_tensors

__all__ = ["Checkpoint", "load_checkpoint", "optimizer_tensors", "restore_optimizer", "save_checkpoint"]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a resumed run needs: all tensors by name, and numbers."""

    tensors: dict[str, Tensor]
    meta: dict[str, Any]


def save_checkpoint(folder: Path, tensors: Mapping[str, Tensor], meta: Mapping[str, Any], shard_mib: int = 14) -> None:
    """Write ``folder`` so that a reader sees the old or the new checkpoint, never a mixture.

    Shards come first, the step in their names; the index ``checkpoint.json`` names them and is replaced in one move.
    """
    folder.mkdir(parents=True, exist_ok=True)
    shards: list[dict[str, Tensor]] = [{}]
    size = 0
    for name, tensor in tensors.items():
        length = tensor.numel() * tensor.element_size()
        if shards[-1] and size + length > shard_mib << 20:
            shards.append({})
            size = 0
        shards[-1][name] = tensor
        size += length
    names = []
    for i, shard in enumerate(shards):
        name = f"step{meta['step']:07d}-{i:02d}.safetensors"
        with whole_file(folder / name) as path:
            save_tensors(path, shard)
        names.append(name)
    write_atomically(folder / "checkpoint.json", json.dumps({**meta, "shards": names}, indent=1))
    for old in folder.glob("step*.safetensors"):
        if old.name not in names:
            old.unlink()


def load_checkpoint(folder: Path) -> Checkpoint | None:
    """The checkpoint of ``folder``, or ``None`` where there is none.

    Raises:
        WeightsError: index or a shard cannot be read.
    """
    index = folder / "checkpoint.json"
    if not index.is_file():
        return None
    try:
        meta = json.loads(index.read_text())
    except (OSError, ValueError) as error:
        raise WeightsError(f"cannot read {index}", found=str(error)) from error
    tensors: dict[str, Tensor] = {}
    for name in meta.pop("shards"):
        tensors.update(load_tensors(folder / name))
    return Checkpoint(tensors, meta)


def optimizer_tensors(optimizer: torch.optim.Optimizer, names: Mapping[int, str]) -> dict[str, Tensor]:
    """The optimiser's state as ``optimizer.<parameter>.<key>``; ``names`` maps ``id(parameter)`` to its name."""
    out: dict[str, Tensor] = {}
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            for key, value in optimizer.state.get(parameter, {}).items():
                out[f"optimizer.{names[id(parameter)]}.{key}"] = torch.as_tensor(value)
    return out


def restore_optimizer(
    optimizer: torch.optim.Optimizer, names: Mapping[int, str], tensors: Mapping[str, Tensor]
) -> None:
    """The inverse of :func:`optimizer_tensors`; parameters without saved state start afresh."""
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            prefix = f"optimizer.{names[id(parameter)]}."
            state = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
            if state:
                # The fused AdamW walks parameter and moments in memory order: they must share strides.
                optimizer.state[parameter] = {
                    k: v.clone().to(parameter.device) if k == "step" else torch.empty_like(parameter).copy_(v)
                    for k, v in state.items()
                }
