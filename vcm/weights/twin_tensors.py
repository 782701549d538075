"""What a pixel twin's file holds, in numpy: usually without the trunk, which is that of a codec.

``trunk`` in the metadata names the codec, ``trunk_sha256`` is over the trunk's tensors. Convolutions are int8 with one
half-precision scale per output channel, everything else, and a trunk of its own, is half precision.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b, sha256
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vcm.codecs.scalable.config import Architecture
from vcm.codecs.scalable.stored import analysis_layout
from vcm.errors import ModelNotFoundError, TrunkError, WeightsError
from vcm.runtime.onnx.layout import under
from vcm.tasks.onnx_heads import detection_layout
from vcm.tasks.shapes import SHIPPED_HEADS
from vcm.weights.metadata import architecture_of, check_format
from vcm.weights.registry import FORMAT, MODEL_NAME, TWIN_FORMAT, find_weights, printable_text
from vcm.weights.safetensors_file import MAX_WEIGHTS_BYTES, Layout, SafetensorsFile

__all__ = [
    "OWN_TRUNK", "SCALE", "TRUNK", "TwinTensors", "read_codec_trunk", "read_tensors", "stored_layout", "trunk_digest",
    "twin_layout",
]  # fmt: skip

OWN_TRUNK = "own"
"""Metadata ``trunk`` of a twin whose file holds its trunk."""
TRUNK = "analysis.trunk."
"""Prefix of the trunk's tensors in a twin."""
SCALE = ".scale"
"""Suffix of the scales of an int8 tensor."""
_CODEC_TRUNK = "model.analysis.trunk."
_MAX_BYTES = 1 << 28

_Tensors = Mapping[str, npt.NDArray[Any]]


@dataclass(frozen=True, slots=True, eq=False)
class TwinTensors:
    """All of one twin.

    Attributes:
        name: of the twin.
        architecture: the codec's, whose parts it has.
        tensors: float32, by the names of :func:`twin_layout`.
        trunk: the codec whose trunk it takes, or :data:`OWN_TRUNK`.
        trained: one line on the training run.
    """

    name: str
    architecture: Architecture
    tensors: dict[str, npt.NDArray[np.float32]]
    trunk: str
    trained: str

    def fingerprint(self) -> str:
        """Over the architecture's name and all tensors, the trunk's included; 16 hexadecimal digits."""
        digest = blake2b(self.architecture.name.encode(), digest_size=8)
        for part in ("analysis.", "detect."):
            for key, tensor in sorted(self.tensors.items()):
                if key.startswith(part):
                    digest.update(f"{key.removeprefix(part)}\0{tensor.shape}\0".encode() + tensor.tobytes())
        return digest.hexdigest()


def twin_layout(a: Architecture) -> Layout:
    """All tensors of a twin, BatchNorm folded, as half precision. A test compares them with those of the modules."""
    detect = detection_layout(SHIPPED_HEADS[a.name].detect, a.base.channels)
    return {**under("analysis", analysis_layout(a)), **under("detect", detect)}


def stored_layout(layout: Layout, *, own_trunk: bool) -> Layout:
    """Types and shapes in a twin's file of the tensors of :func:`twin_layout`."""
    stored: dict[str, tuple[str, tuple[int, ...]]] = {}
    for name, (_, shape) in layout.items():
        if name.startswith(TRUNK):
            if own_trunk:
                stored[name] = ("F16", shape)
        elif len(shape) == 4:
            stored[name] = ("I8", shape)
            stored[name + SCALE] = ("F16", shape[:1])
        else:
            stored[name] = ("F16", shape)
    return stored


def trunk_digest(trunk: _Tensors) -> str:
    """SHA-256, hexadecimal, of a trunk's half-precision tensors: name, shape and little-endian values, by name."""
    digest = sha256()
    for name, tensor in sorted(trunk.items()):
        digest.update(f"{name}\0{tensor.shape}\0".encode() + np.ascontiguousarray(tensor.astype("<f2")).tobytes())
    return digest.hexdigest()


def read_tensors(path: Path, trunk: str | Path | None = None) -> TwinTensors:
    """Read a twin's file, and the trunk that it takes; nothing in them is executed.

    Args:
        path: the file.
        trunk: as of :func:`vcm.load_twin`.

    Raises:
        ModelNotFoundError, TrunkError, WeightsError: as of :func:`vcm.load_twin`.
    """
    with SafetensorsFile(path, _MAX_BYTES) as file:
        meta = file.metadata
        check_format(path, meta, TWIN_FORMAT, "holds no pixel twin")
        architecture = architecture_of(meta)
        name, source = meta.get("name", ""), meta.get("trunk", "")
        if not MODEL_NAME.fullmatch(name):  # it is printed, and names a column of results
            raise WeightsError(f"{path} has no name to be called by", expected="a model's name", found=repr(name))
        if not MODEL_NAME.fullmatch(source):
            raise WeightsError(f"{path} names no trunk", expected=f"a model's name or {OWN_TRUNK}", found=repr(source))
        layout = twin_layout(architecture)
        there = stored_layout(layout, own_trunk=source == OWN_TRUNK)
        file.check(there)
        stored = {key: file.tensor(key) for key in there}
    for key, tensor in stored.items():
        _check_values(key, tensor)
    if source != OWN_TRUNK:
        codec = _find_trunk(path, source, trunk)
        found = read_codec_trunk(codec, architecture)
        digest = trunk_digest(found)
        if digest != meta.get("trunk_sha256"):
            what = f"{path} was trained with another trunk than that of {codec}"
            raise TrunkError(what, expected=repr(meta.get("trunk_sha256")), found=repr(digest))
        stored |= {TRUNK + key: tensor for key, tensor in found.items()}
    tensors = {key: _restored(key, stored) for key in layout}
    return TwinTensors(name, architecture, tensors, source, printable_text(meta.get("trained")))


def read_codec_trunk(path: Path, architecture: Architecture) -> dict[str, npt.NDArray[np.float16]]:
    """The trunk in a codec's weights file, half precision as it is stored; names without a prefix.

    Args:
        path: the codec's file.
        architecture: what the trunk must be of.

    Raises:
        WeightsError: no codec's file, or its trunk has another shape.
    """
    trunk = {key: what for key, what in twin_layout(architecture).items() if key.startswith(TRUNK)}
    layout = {_CODEC_TRUNK + key.removeprefix(TRUNK): what for key, what in trunk.items()}
    with SafetensorsFile(path, MAX_WEIGHTS_BYTES) as file:
        check_format(path, file.metadata, FORMAT, "holds no VCM weights to take a trunk from")
        file.check(layout, only=_CODEC_TRUNK)
        return {key.removeprefix(_CODEC_TRUNK): file.tensor(key) for key in layout}


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


def _restored(name: str, stored: _Tensors) -> npt.NDArray[np.float32]:
    tensor = stored[name].astype(np.float32)
    scale = stored.get(name + SCALE)
    if scale is not None:
        tensor *= scale.astype(np.float32)[:, None, None, None]
    return tensor


def _check_values(name: str, tensor: npt.NDArray[Any]) -> None:
    if tensor.dtype == np.int8 and bool((tensor == -128).any()):
        raise WeightsError(f"{name} is out of range", expected="-127 to 127", found=-128)
    if name.endswith(SCALE) and bool((tensor < 0).any()):
        raise WeightsError(f"{name} is out of range", expected="scales of at least 0", found=float(tensor.min()))
