"""A pixel twin's file for onnxruntime, without torch."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy.typing as npt

from vcm.codecs.scalable.onnx_networks import analysis_network
from vcm.runtime.onnx import OnnxNetworks
from vcm.runtime.onnx.stored import scoped
from vcm.tasks.onnx_heads import detection_network
from vcm.weights.twin_tensors import TwinTensors, read_tensors

__all__ = ["OnnxTwin", "read_onnx_twin"]


@dataclass(frozen=True, slots=True, eq=False)
class OnnxTwin:
    """A twin, run by onnxruntime.

    Attributes:
        stored: the file.
        networks: ``base.analysis`` and ``detect``.
    """

    stored: TwinTensors
    networks: OnnxNetworks


def read_onnx_twin(path: Path, trunk: str | Path | None = None, *, threads: int | None = None) -> OnnxTwin:
    """Read a twin's file, and the trunk that it takes; nothing in them is executed.

    Args:
        path: the file.
        trunk: as of :func:`vcm.load_twin`.
        threads: of each network, see :class:`vcm.runtime.onnx.OnnxNetworks`.

    Raises:
        ModelNotFoundError, TrunkError, WeightsError: as of :func:`vcm.load_twin`.
        MissingDependencyError: onnxruntime is not installed, or too old.
    """
    stored = read_tensors(path, trunk)
    a = stored.architecture

    def source(name: str) -> npt.NDArray[Any]:
        return stored.tensors[name]

    networks = {
        "base.analysis": partial(analysis_network, scoped(source, "analysis."), a),
        "detect": partial(detection_network, scoped(source, "detect."), a.base.channels),
    }
    return OnnxTwin(stored, OnnxNetworks(networks, threads=threads))
