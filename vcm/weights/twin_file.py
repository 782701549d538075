"""A pixel twin's file for torch; what it holds, :mod:`vcm.weights.twin_tensors` says."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from torch import nn

from vcm.codecs.scalable.analysis import BaseAnalysis
from vcm.codecs.scalable.build import as_shipped, base_analysis
from vcm.codecs.scalable.config import Architecture
from vcm.tasks.build import head_modules
from vcm.tasks.detection import DetectionHead
from vcm.tasks.shapes import SHIPPED_HEADS
from vcm.weights.twin_tensors import TwinTensors, read_tensors

__all__ = ["LoadedTwin", "read_twin", "twin_modules"]


@dataclass(frozen=True, slots=True)
class LoadedTwin:
    """Networks of one twin file, ready to run.

    Attributes:
        stored: the file.
        analysis, detect: the networks, BatchNorm folded.
    """

    stored: TwinTensors
    analysis: BaseAnalysis
    detect: DetectionHead


def twin_modules(architecture: Architecture) -> nn.ModuleDict:
    """``analysis`` and ``detect`` in the form in which they ship, BatchNorm folded; weights not loaded yet."""
    heads = head_modules(SHIPPED_HEADS[architecture.name], architecture.latents)
    return as_shipped(nn.ModuleDict({"analysis": base_analysis(architecture), "detect": heads["detect"]}))


def read_twin(path: Path, trunk: str | Path | None = None) -> LoadedTwin:
    """Read a twin's file, and the trunk that it takes; nothing in them is executed.

    Args:
        path: the file.
        trunk: as of :func:`vcm.load_twin`.

    Raises:
        ModelNotFoundError, TrunkError, WeightsError: as of :func:`vcm.load_twin`.
    """
    stored = read_tensors(path, trunk)
    modules = twin_modules(stored.architecture)
    modules.load_state_dict({key: torch.from_numpy(tensor) for key, tensor in stored.tensors.items()})
    return LoadedTwin(stored, cast(BaseAnalysis, modules["analysis"]), cast(DetectionHead, modules["detect"]))
