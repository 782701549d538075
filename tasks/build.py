"""The heads that ship with a codec, as modules: built here and nowhere else."""

from __future__ import annotations

from torch import nn

from vcm.structures import LatentSpec
from vcm.tasks.classification import ClassificationHead
from vcm.tasks.detection import DetectionHead
from vcm.tasks.shapes import HeadShapes

__all__ = ["head_modules"]


def head_modules(shapes: HeadShapes, spec: LatentSpec) -> dict[str, nn.Module]:
    """``detect`` and ``classify`` in training form, with random weights.

    Args:
        shapes: theirs.
        spec: the latents that they read.
    """
    d, c = shapes.detect, shapes.classify
    return {
        "detect": DetectionHead(spec, d.classes, d.width, d.feature),
        "classify": ClassificationHead(spec, c.classes, c.width),
    }
