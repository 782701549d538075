"""Shapes of the heads that ship with a codec, as data: what they need beside the latents that they read."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["SHIPPED_HEADS", "ClassificationShape", "DetectionShape", "HeadShapes"]


@dataclass(frozen=True, slots=True)
class DetectionShape:
    """Size of a detection head.

    Attributes:
        width: channels of the stride-16 stem.
        feature: channels of each pyramid level.
        classes: number of classes.
    """

    width: int = 192
    feature: int = 96
    classes: int = 80


@dataclass(frozen=True, slots=True)
class ClassificationShape:
    """Size of a classification head.

    Attributes:
        width: channels.
        classes: number of classes, independent of each other.
    """

    width: int = 128
    classes: int = 80


@dataclass(frozen=True, slots=True)
class HeadShapes:
    """The two heads in a codec's weights file."""

    detect: DetectionShape = DetectionShape()
    classify: ClassificationShape = ClassificationShape()


SHIPPED_HEADS: dict[str, HeadShapes] = {
    "small": HeadShapes(),
    "tiny": HeadShapes(DetectionShape(width=16, feature=16), ClassificationShape(width=16)),
}
"""By the name of the codec's architecture."""
