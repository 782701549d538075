"""A head on disk: one safetensors file for any kind of head, half precision, BatchNorm folded.

Its metadata: ``format``, ``kind`` (:mod:`vcm.tasks.kinds`), ``name``, ``fingerprint`` of the base layer that it was
trained on (empty: any), and as JSON ``latents`` (channels, stride), ``shape``, ``names`` and ``category_ids``. Nothing
in a file is executed.
"""

from __future__ import annotations

import copy
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from vcm.errors import OptionError, WeightsError
from vcm.io.files import whole_file
from vcm.nn.blocks import fuse_batchnorm
from vcm.structures import Classes, LatentSpec
from vcm.tasks.kinds import HeadKind, head_kinds, kind_of
from vcm.tasks.protocol import Detect, Head
from vcm.weights.head_metadata import HEAD_FINGERPRINT, HEAD_FORMAT, MAX_HEAD_BYTES, described
from vcm.weights.metadata import check_format
from vcm.weights.registry import MODEL_NAME, printable_text
from vcm.weights.tensors import TensorFile, save_tensors, stored_type

__all__ = ["HEAD_FORMAT", "LoadedHead", "load_head", "save_head"]


@dataclass(frozen=True, slots=True)
class LoadedHead:
    """A head of a file, ready to run.

    Attributes:
        name: of the head.
        kind: of the head.
        network: the module, without gradients; ``network.spec`` says what it reads, ``network.names`` its classes.
        trained: one line on the training run.
    """

    name: str
    kind: HeadKind
    network: Any
    trained: str

    def task(self, detect: Detect) -> Head:
        """The head at work; ``detect`` finds boxes for kinds that need some."""
        return self.kind.task(self.network, detect)


def save_head(
    path: str | Path, network: nn.Module, *, fingerprint: str | None = None, name: str | None = None, trained: str = ""
) -> None:
    """Write a head, in one step; ``network`` stays as it is.

    Args:
        path: where to write.
        network: a :class:`~vcm.tasks.detection.DetectionHead`, :class:`~vcm.tasks.classification.ClassificationHead`,
            :class:`~vcm.tasks.keypoints.KeypointHead`, or of a kind of your own; in training form or as it ships. The
            number and names of its classes are those of ``network.names``.
        fingerprint: of the base layer that it was trained on (:attr:`vcm.Codec.fingerprint`), 16 hexadecimal digits;
            empty: any. By default that of ``network.spec``.
        name: what it is called; by default the file's name without its extension.
        trained: one line on the training run.

    Raises:
        HeadError: ``network`` is of no kind.
        OptionError: ``fingerprint`` or ``name`` is none.
        OutputError: it cannot be written.
    """
    path, kind = Path(path), kind_of(network)
    own: Any = network
    spec: LatentSpec = own.spec
    fingerprint = spec.fingerprint if fingerprint is None else fingerprint
    if not HEAD_FINGERPRINT.fullmatch(fingerprint):
        raise OptionError("no fingerprint", expected="16 hexadecimal digits, or nothing", found=fingerprint)
    name = path.name.removesuffix(".safetensors") if name is None else name
    if not MODEL_NAME.fullmatch(name):
        raise OptionError("no name for a head", expected="letters, digits and _.+-, at most 100", found=name)
    names = _classes(own.names)
    meta = {
        "format": HEAD_FORMAT, "kind": kind.name, "name": name, "fingerprint": fingerprint, "trained": trained,
        "latents": json.dumps({"channels": spec.channels, "stride": spec.stride}),
        "shape": json.dumps(asdict(own.shape)), "names": json.dumps(names.names),
        "category_ids": json.dumps(names.category_ids),
    }  # fmt: skip
    shipped = fuse_batchnorm(copy.deepcopy(network).eval())
    tensors = {key: t.half() if t.is_floating_point() else t for key, t in shipped.state_dict().items()}
    with whole_file(path) as part:
        save_tensors(part, tensors, meta)


def load_head(path: str | Path) -> LoadedHead:
    """Read what :func:`save_head` wrote. What a file claims is compared with what it holds before memory is taken.

    Raises:
        WeightsError: no head's file, of a kind that is not known here, or inconsistent.
    """
    path = Path(path)
    with TensorFile(path, MAX_HEAD_BYTES) as file:
        meta = file.metadata
        check_format(path, meta, HEAD_FORMAT, "holds no head")
        kind = head_kinds().get(meta.get("kind", ""))
        if kind is None:
            known = ", ".join(head_kinds())
            raise WeightsError(f"{path} holds a head of an unknown kind", expected=known, found=repr(meta.get("kind")))

        def build(spec: LatentSpec, classes: Classes, shape: object) -> nn.Module:
            """The module that the metadata describe, without memory for its weights."""
            with torch.device("meta"):
                return fuse_batchnorm(kind.build(spec, classes, shape))

        network = described(path, meta, kind.name, kind.shape, build)
        own = network.state_dict()
        tensors = file.read({key: (stored_type(t), tuple(t.shape)) for key, t in own.items()})
    tensors = {key: t.float() if t.is_floating_point() else t for key, t in tensors.items()}
    network.load_state_dict(tensors, assign=True)
    check = getattr(network, "check", None)
    if check is not None:
        check()
    network = network.eval().requires_grad_(False)
    return LoadedHead(meta["name"], kind, network, printable_text(meta.get("trained")))


def _classes(names: Classes | tuple[str, ...]) -> Classes:
    return names if isinstance(names, Classes) else Classes(names)
