"""A codec's weights file for onnxruntime: no torch, and no network is built before it is needed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy.typing as npt

from vcm.codecs.scalable.model import ScalableModel
from vcm.codecs.scalable.onnx_bytes import byte_networks
from vcm.codecs.scalable.onnx_networks import codec_networks
from vcm.codecs.scalable.stored import codec_layout
from vcm.codecs.scalable.tables import base_tables, picture_tables
from vcm.runtime.onnx import OnnxNetworks, StoredTensors
from vcm.tasks.onnx_heads import head_layout, head_networks
from vcm.tasks.shapes import SHIPPED_HEADS, HeadShapes
from vcm.weights.metadata import architecture_of, check_format
from vcm.weights.registry import FORMAT, printable_name, printable_text

__all__ = ["OnnxCodec", "load_onnx"]


@dataclass(frozen=True, slots=True, eq=False)
class OnnxCodec:
    """A codec of one weights file, run by onnxruntime.

    Attributes:
        name: of the model.
        model: the codec; its ``networks`` have ``detect`` and ``classify`` as well.
        heads: shapes of those two.
        trained: one line on the training run.
        path: the file.
        precision: what the picture's analysis and synthesis compute in: ``float32``, or ``int8`` for the most part.
    """

    name: str
    model: ScalableModel
    heads: HeadShapes
    trained: str
    path: Path
    precision: str = "float32"

    @property
    def threads(self) -> int | None:
        """Of each network."""
        networks = self.model.networks
        return networks.threads if isinstance(networks, OnnxNetworks) else None

    def with_threads(self, threads: int) -> OnnxCodec:
        """The same codec, whose networks have so many threads each; sessions are its own, weights are read again."""
        model, networks = self.model, self.model.networks
        if not isinstance(networks, OnnxNetworks) or networks.threads == threads:
            return self
        layers = model.base.tables, model.picture.tables
        return replace(self, model=ScalableModel(model.architecture, networks.with_threads(threads), *layers))


def load_onnx(path: Path, *, threads: int | None = None, precision: str = "float32") -> OnnxCodec:
    """Read a weights file; nothing in it is executed. Numbers that are not integers are read when they are needed.

    Args:
        path: the file.
        threads: of each network, see :class:`vcm.runtime.onnx.OnnxNetworks`.
        precision: see :class:`OnnxCodec`.

    Raises:
        WeightsError: not a safetensors file of ours, a tensor is missing or has another shape or type, or an integer is
            out of the range on which exact decoding rests.
        MissingDependencyError: onnxruntime is not installed, or too old.
    """
    tensors = StoredTensors(path)
    meta = tensors.metadata
    check_format(path, meta, FORMAT, "holds no VCM weights")
    a = architecture_of(meta)
    heads, channels = SHIPPED_HEADS[a.name], a.base.channels
    layout = {**codec_layout(a), **head_layout(heads, channels)}
    tensors.check(layout)

    def integers(prefix: str) -> dict[str, npt.NDArray[Any]]:
        names = [n for n, (dtype, _) in layout.items() if n.startswith(prefix) and dtype != "F16"]
        return {n.removeprefix(prefix): tensors(n) for n in names}

    base = base_tables(integers("model.base."), meta.get("base_id", ""))
    picture = picture_tables(integers("model.picture."), meta.get("picture_id", ""), base)
    makers = {**codec_networks(tensors, a), **head_networks(tensors, channels)}
    if precision == "int8":
        makers |= byte_networks(tensors, a)
    networks = OnnxNetworks(makers, threads=threads)
    model = ScalableModel(a, networks, base, picture)
    name, trained = printable_name(meta.get("name", ""), path.stem), printable_text(meta.get("trained"))
    return OnnxCodec(name, model, heads, trained, path, precision)
