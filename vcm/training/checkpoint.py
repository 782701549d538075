"""Checkpoints without pickle: tensors in safetensors shards, the rest in JSON, written atomically."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from vcm.errors import WeightsError
from vcm.io.files import whole_file, write_atomically
from vcm.weights.tensors import load_tensors, save_tensors

__all__ = [
    "Checkpoint",
    "forget_checkpoint",
    "has_checkpoint",
    "load_checkpoint",
    "optimizer_tensors",
    "restore_optimizer",
    "save_checkpoint",
]


_INDEX = "checkpoint.json"
_SHARD = re.compile(r"step\d+-\d+\.safetensors")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a resumed run needs: all tensors by name, and the steps done."""

    tensors: dict[str, Tensor]
    step: int


def save_checkpoint(folder: Path, tensors: Mapping[str, Tensor], step: int, shard_mib: int = 14) -> None:
    """Write ``folder`` so that a reader sees the old or the new checkpoint, never a mixture.

    Shards come first, the step in their names; the index names them and is replaced in one move. Each file is on the
    disk before the next is begun, and the old shards go last, so neither a kill nor a lost machine costs both.

    Args:
        folder: where; it is made.
        tensors: by name.
        step: steps done.
        shard_mib: largest size of a shard that holds more than one tensor.

    Raises:
        OutputError: a file cannot be written; the former checkpoint is then still there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    names = []
    for i, shard in enumerate(_shards(tensors, shard_mib << 20)):
        name = f"step{step:07d}-{i:02d}.safetensors"
        with whole_file(folder / name) as path:
            save_tensors(path, shard)
        names.append(name)
    write_atomically(folder / _INDEX, json.dumps({"step": step, "shards": names}, indent=1))
    for old in folder.glob("step*.safetensors"):
        if old.name not in names:
            old.unlink()


def _shards(tensors: Mapping[str, Tensor], limit: int) -> Iterator[dict[str, Tensor]]:
    """Consecutive tensors of at most ``limit`` bytes together, at least one at a time."""
    shard: dict[str, Tensor] = {}
    size = 0
    for name, tensor in tensors.items():
        length = tensor.numel() * tensor.element_size()
        if shard and size + length > limit:
            yield shard
            shard, size = {}, 0
        shard[name] = tensor
        size += length
    yield shard


def forget_checkpoint(folder: Path) -> None:
    """Let a new run in ``folder`` begin from its start."""
    (folder / _INDEX).unlink(missing_ok=True)


def has_checkpoint(folder: Path) -> bool:
    """Whether a run in ``folder`` can be resumed."""
    return (folder / _INDEX).is_file()


def load_checkpoint(folder: Path) -> Checkpoint | None:
    """The checkpoint of ``folder``, or ``None`` where there is none.

    Raises:
        WeightsError: index or a shard cannot be read.
    """
    index = folder / _INDEX
    if not index.is_file():
        return None
    try:
        content = json.loads(index.read_text())
        step, names = int(content["step"]), [str(name) for name in content["shards"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise WeightsError(f"cannot read {index}", found=f"{type(error).__name__}: {error}") from error
    tensors: dict[str, Tensor] = {}
    for name in names:
        if not _SHARD.fullmatch(name):
            raise WeightsError(f"{index} names no shard of its own", expected="step…-….safetensors", found=name)
        tensors.update(load_tensors(folder / name))
    return Checkpoint(tensors, step)


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
