"""Kinds of heads that a head file can hold, by name. A package adds its own as an entry point of group ``vcm.heads``.

[project.entry-points."vcm.heads"]
segmentation = "my_package.segmentation:KIND"      # a HeadKind
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any

from torch import nn

from vcm.errors import HeadError
from vcm.plugins import with_plugins
from vcm.structures import Classes, LatentSpec
from vcm.tasks.classification import ClassificationHead, ClassificationTask
from vcm.tasks.detection import DetectionHead, DetectionTask
from vcm.tasks.keypoints import KeypointHead, KeypointTask
from vcm.tasks.protocol import Detect, Head
from vcm.tasks.shapes import (
    ClassificationShape,
    DetectionShape,
    EmbeddingShape,
    KeypointShape,
    SegmentationShape,
    SingleLabelShape,
    TorchvisionShape,
)
from vcm.tasks.whole import EmbeddingHead, SegmentationHead, SingleLabelHead, WholeTask

__all__ = ["HeadKind", "head_kinds", "kind_of"]


@dataclass(frozen=True, slots=True)
class HeadKind:
    """A kind of head.

    Attributes:
        name: in head files.
        network: class of the module, or ``module:Class`` where importing it takes long. It has ``spec`` (a
            :class:`vcm.LatentSpec`), ``shape``, ``names`` (a
            :class:`vcm.structures.Classes`, or names alone), and may have ``check()``, which refuses weights by
            :class:`vcm.errors.WeightsError`.
        shape: class of its shape: a frozen dataclass of numbers that refuses by :class:`vcm.errors.OptionError` what
            is out of range. Sizes in a file are hostile: a shape that is admitted must be affordable.
        build: the module with any weights, in training form, from latents, names and shape; raises
            :class:`vcm.errors.HeadError` for what it cannot be built for.
        task: the head, from the module and from what finds boxes where it needs some.
    """

    name: str
    network: type[nn.Module] | str
    shape: type[Any]
    build: Callable[[LatentSpec, Classes, Any], nn.Module]
    task: Callable[[Any, Detect], Head]

    @property
    def class_name(self) -> str:
        """Of the module."""
        return self.network.rpartition(":")[2] if isinstance(self.network, str) else self.network.__name__

    def made(self, module: object) -> bool:
        """Whether a module is of this kind."""
        if not isinstance(self.network, str):
            return isinstance(module, self.network)
        home, _, name = self.network.partition(":")
        loaded = sys.modules.get(home)  # what was not imported has made nothing
        return loaded is not None and type(module) is getattr(loaded, name)


def _detection(spec: LatentSpec, names: Classes, shape: DetectionShape) -> nn.Module:
    return DetectionHead(spec, shape.classes, shape.width, shape.feature, names=names)


def _classification(spec: LatentSpec, names: Classes, shape: ClassificationShape) -> nn.Module:
    return ClassificationHead(spec, shape.classes, shape.width, names=names)


def _keypoints(spec: LatentSpec, names: Classes, shape: KeypointShape) -> nn.Module:
    return KeypointHead(spec, names.names, shape)


_TORCHVISION = "vcm.tasks.torchvision_heads"


def _detector(name: str, class_name: str) -> HeadKind:
    """A detector of torchvision's, which is imported when there is need of it."""

    def build(spec: LatentSpec, names: Classes, shape: TorchvisionShape) -> nn.Module:
        module: nn.Module = getattr(import_module(_TORCHVISION), class_name)(spec, names, shape)
        return module

    def task(network: Any, _: Detect) -> Head:
        head: Head = import_module(_TORCHVISION).LatentDetector(network)
        return head

    return HeadKind(name, f"{_TORCHVISION}:{class_name}", TorchvisionShape, build, task)


_OURS = (
    HeadKind("detection", DetectionHead, DetectionShape, _detection, lambda network, _: DetectionTask(network)),
    HeadKind(
        "classification", ClassificationHead, ClassificationShape, _classification,
        lambda network, _: ClassificationTask(network),
    ),
    HeadKind("keypoints", KeypointHead, KeypointShape, _keypoints, KeypointTask),
    HeadKind("single-label", SingleLabelHead, SingleLabelShape, SingleLabelHead, lambda network, _: WholeTask(network)),
    HeadKind(
        "segmentation", SegmentationHead, SegmentationShape, SegmentationHead, lambda network, _: WholeTask(network)
    ),
    HeadKind("embedding", EmbeddingHead, EmbeddingShape, EmbeddingHead, lambda network, _: WholeTask(network)),
    _detector("fcos", "FcosHead"), _detector("retinanet", "RetinaNetHead"), _detector("faster_rcnn", "FasterRcnnHead"),
    _detector("mask_rcnn", "MaskRcnnHead"), _detector("keypoint_rcnn", "KeypointRcnnHead"),
)  # fmt: skip


@cache
def head_kinds() -> dict[str, HeadKind]:
    """All kinds by name, ours and those of installed packages.

    Raises:
        HeadError: two have one name, or one cannot be loaded or is no :class:`HeadKind`.
    """
    return with_plugins(_OURS, "vcm.heads", HeadKind, HeadError, "kind of heads")


def kind_of(network: object) -> HeadKind:
    """The kind of a module.

    Raises:
        HeadError: it is of no kind.
    """
    for kind in head_kinds().values():
        if kind.made(network):
            return kind
    expected = ", ".join(kind.class_name for kind in head_kinds().values())
    raise HeadError("no kind of head", expected=expected, found=type(network).__name__)
