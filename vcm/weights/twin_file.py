"""A pixel twin on disk: one safetensors file, usually without the trunk, which is that of a codec.

``trunk`` in the metadata names the codec, ``trunk_sha256`` is over the trunk's tensors. Convolutions are int8 with one
half-precision scale per output channel, everything else, and a trunk of its own, is half precision.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from vcm.codecs.scalable.analysis import BaseAnalysis
from vcm.codecs.scalable.build import as_shipped, base_analysis
from vcm.codecs.scalable.config import Architecture
from vcm.errors import ModelNotFoundError, TrunkError, WeightsError
from vcm.tasks.build import head_modules
from vcm.tasks.detection import DetectionHead
from vcm.tasks.shapes import SHIPPED_HEADS
from vcm.weights.metadata import architecture_of, check_format
from vcm.weights.registry import FORMAT, MODEL_NAME, TWIN_FORMAT, find_weights, printable_text
from vcm.weights.safetensors_file import MAX_WEIGHTS_BYTES, Layout
from vcm.weights.tensors import TensorFile

__all__ = [
    "OWN_TRUNK", "SCALE", "TRUNK", "LoadedTwin", "read_codec_trunk", "read_twin", "stored_layout", "trunk_digest",
    "twin_modules",
]  # fmt: skip

OWN_TRUNK = "own"
"""Metadata ``trunk`` of a twin whose file holds its trunk."""
TRUNK = "analysis.trunk."
"""Prefix of the trunk's tensors in a twin."""
SCALE = ".scale"
"""Suffix of the scales of an int8 tensor."""
_CODEC_TRUNK = "model.analysis.trunk."
_MAX_BYTES = 1 << 28


@dataclass(frozen=True, slots=True)
class LoadedTwin:
    """Networks of one twin file, ready to run.

    Attributes:
        name: of the twin.
        architecture: the codec's, whose parts it has.
        analysis, detect: the networks, BatchNorm folded.
        trunk: the codec whose trunk it takes, or :data:`OWN_TRUNK`.
        trained: one line on the training run.
    """

    name: str
    architecture: Architecture
    analysis: BaseAnalysis
    detect: DetectionHead
    trunk: str
    trained: str


def twin_modules(architecture: Architecture) -> nn.ModuleDict:
    """``analysis`` and ``detect`` in the form in which they ship, BatchNorm folded; weights not loaded yet."""
    heads = head_modules(SHIPPED_HEADS[architecture.name], architecture.latents)
    return as_shipped(nn.ModuleDict({"analysis": base_analysis(architecture), "detect": heads["detect"]}))


def stored_layout(state: Mapping[str, Tensor], *, own_trunk: bool) -> Layout:
    """Types and shapes in a twin's file of the tensors of :func:`twin_modules`."""
    layout: dict[str, tuple[str, tuple[int, ...]]] = {}
    for name, tensor in state.items():
        shape = tuple(tensor.shape)
        if name.startswith(TRUNK):
            if own_trunk:
                layout[name] = ("F16", shape)
        elif tensor.dim() == 4:
            layout[name] = ("I8", shape)
            layout[name + SCALE] = ("F16", shape[:1])
        else:
            layout[name] = ("F16", shape)
    return layout


def trunk_digest(trunk: Mapping[str, Tensor]) -> str:
    """SHA-256, hexadecimal, of a trunk's half-precision tensors: name, shape and little-endian values, by name."""
    digest = sha256()
    for name, tensor in sorted(trunk.items()):
        values = tensor.detach().cpu().contiguous().numpy().astype("<f2")
        digest.update(f"{name}\0{tuple(tensor.shape)}\0".encode() + values.tobytes())
    return digest.hexdigest()


def read_twin(path: Path, trunk: str | Path | None = None) -> LoadedTwin:
    """Read a twin's file, and the trunk that it takes; nothing in them is executed.

    Args:
        path: the file.
        trunk: as of :func:`vcm.load_twin`.

    Raises:
        ModelNotFoundError, TrunkError, WeightsError: as of :func:`vcm.load_twin`.
    """
    with TensorFile(path, _MAX_BYTES) as file:
        meta = file.metadata
        check_format(path, meta, TWIN_FORMAT, "holds no pixel twin")
        architecture = architecture_of(meta)
        name, source = meta.get("name", ""), meta.get("trunk", "")
        if not MODEL_NAME.fullmatch(name):  # it is printed, and names a column of results
            raise WeightsError(f"{path} has no name to be called by", expected="a model's name", found=repr(name))
        if not MODEL_NAME.fullmatch(source):
            raise WeightsError(f"{path} names no trunk", expected=f"a model's name or {OWN_TRUNK}", found=repr(source))
        modules = twin_modules(architecture)
        state = modules.state_dict()
        stored = file.read(stored_layout(state, own_trunk=source == OWN_TRUNK))
    for key, tensor in stored.items():
        _check_values(key, tensor)
    if source != OWN_TRUNK:
        shapes = {key.removeprefix(TRUNK): t for key, t in state.items() if key.startswith(TRUNK)}
        codec = _find_trunk(path, source, trunk)
        found = read_codec_trunk(codec, shapes)
        digest = trunk_digest(found)
        if digest != meta.get("trunk_sha256"):
            what = f"{path} was trained with another trunk than that of {codec}"
            raise TrunkError(what, expected=repr(meta.get("trunk_sha256")), found=repr(digest))
        stored |= {TRUNK + key: tensor for key, tensor in found.items()}
    with torch.no_grad():
        for key, own in state.items():
            own.copy_(_restored(key, stored))
    return LoadedTwin(
        name, architecture, cast(BaseAnalysis, modules["analysis"]),
        cast(DetectionHead, modules["detect"]), source, printable_text(meta.get("trained")),
    )  # fmt: skip


def read_codec_trunk(path: Path, wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The trunk in a codec's weights file, half precision as it is stored.

    Args:
        path: the codec's file.
        wanted: the trunk's tensors by name, for their shapes.

    Raises:
        WeightsError: no codec's file, or its trunk has another shape.
    """
    with TensorFile(path, MAX_WEIGHTS_BYTES) as file:
        check_format(path, file.metadata, FORMAT, "holds no VCM weights to take a trunk from")
        layout = {_CODEC_TRUNK + name: ("F16", tuple(tensor.shape)) for name, tensor in wanted.items()}
        tensors = file.read(layout, only=_CODEC_TRUNK)
    return {name.removeprefix(_CODEC_TRUNK): tensor for name, tensor in tensors.items()}


def _find_trunk(path: Path, model: str, asked: str | Path | None) -> Path:
    """The file of the codec whose trunk the twin at ``path`` takes."""
    if asked is not None:
        return find_weights(asked)
    beside = path.with_name(f"{model}.safetensors")
    if beside.is_file():
        return beside
    try:
        return find_weights(model)
    except ModelNotFoundError as error:
        what = f"{path} takes its trunk from the codec {model}, which is not there"
        raise ModelNotFoundError(what, expected=f"{beside.name} beside it, or a shipped model", found=model) from error


def _restored(name: str, stored: Mapping[str, Tensor]) -> Tensor:
    tensor = stored[name].float()
    scale = stored.get(name + SCALE)
    return tensor if scale is None else tensor * scale.float()[:, None, None, None]


def _check_values(name: str, tensor: Tensor) -> None:
    if tensor.dtype == torch.int8 and bool((tensor == -128).any()):
        raise WeightsError(f"{name} is out of range", expected="-127 to 127", found=-128)
    if name.endswith(SCALE) and bool((tensor < 0).any()):
        raise WeightsError(f"{name} is out of range", expected="scales of at least 0", found=float(tensor.min()))
