"""A head's file for onnxruntime, without torch; :mod:`vcm.weights.head_file` is the same for torch."""

from __future__ import annotations

from pathlib import Path

from vcm.runtime.onnx import OnnxNetworks, StoredTensors
from vcm.structures import Classes, LatentSpec
from vcm.tasks.array_heads import ARRAY_KINDS
from vcm.tasks.protocol import Detect, Head
from vcm.weights.head_metadata import HEAD_FORMAT, MAX_HEAD_BYTES, described
from vcm.weights.metadata import check_format
from vcm.weights.safetensors_file import Layout

__all__ = ["load_onnx_head"]


def load_onnx_head(path: Path, detect: Detect, *, threads: int | None = None) -> Head | None:
    """Read a head's file; nothing in it is executed. Numbers are read when they are needed.

    Args:
        path: the file.
        detect: finds boxes, for kinds that need some.
        threads: see :class:`vcm.runtime.onnx.OnnxNetworks`.

    Returns:
        the head; ``None`` for a kind that is not ours, which may need torch.

    Raises:
        WeightsError: no head's file, or inconsistent.
        MissingDependencyError: onnxruntime is not installed, or too old.
    """
    tensors = StoredTensors(path, MAX_HEAD_BYTES)
    meta = tensors.metadata
    check_format(path, meta, HEAD_FORMAT, "holds no head")
    name = meta.get("kind", "")
    kind = ARRAY_KINDS.get(name)
    if kind is None:
        return None

    def build(spec: LatentSpec, classes: Classes, shape: object) -> tuple[LatentSpec, Classes, object, Layout]:
        return spec, classes, shape, kind.layout(spec, classes, shape)

    spec, classes, shape, layout = described(path, meta, name, kind.shape, build)
    tensors.check(layout)
    networks = OnnxNetworks(kind.networks(tensors, spec, shape), threads=threads)
    return kind.head(networks, spec, classes, shape, detect)
