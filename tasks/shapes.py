"""Shapes of the heads that ship with a codec, as data: what they need beside the latents that they read."""

from __future__ import annotations

from dataclasses import dataclass

from vcm.errors import HeadError, OptionError
from vcm.structures import Classes

__all__ = [
    "SHIPPED_HEADS", "ClassificationShape", "DetectionShape", "EmbeddingShape", "HeadShapes", "KeypointShape",
    "SegmentationShape", "SingleLabelShape", "TorchvisionShape", "names_of",
]  # fmt: skip

_MAX_WIDTH = 4096
_MAX_CLASSES = 10_000


def _check_ranges(shape: object, ranges: tuple[tuple[str, int, int], ...]) -> None:
    for name, low, high in ranges:
        if not low <= getattr(shape, name) <= high:
            raise OptionError(f"{name} is out of range", expected=f"{low} to {high}", found=getattr(shape, name))


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

    def __post_init__(self) -> None:
        _check_ranges(self, (("width", 1, _MAX_WIDTH), ("feature", 1, _MAX_WIDTH), ("classes", 1, _MAX_CLASSES)))


@dataclass(frozen=True, slots=True)
class ClassificationShape:
    """Size of a classification head.

    Attributes:
        width: channels.
        classes: number of classes, independent of each other.
    """

    width: int = 128
    classes: int = 80

    def __post_init__(self) -> None:
        _check_ranges(self, (("width", 1, _MAX_WIDTH), ("classes", 1, _MAX_CLASSES)))


@dataclass(frozen=True, slots=True)
class KeypointShape:
    """Size of a keypoint head.

    Attributes:
        grid: cells along each side of the cut-out latents.
        width: channels.
        depth: residual blocks of two convolutions.
        up: heatmap cells along each side of a grid cell.
        margin: side of the region that is cut out, over the side of the box.
        dropout: share of channels dropped before the heatmaps while training.
    """

    grid: int = 12
    width: int = 96
    depth: int = 2
    up: int = 2
    margin: float = 1.25
    dropout: float = 0.0

    def __post_init__(self) -> None:
        _check_ranges(self, (("grid", 2, 64), ("width", 1, 1024), ("depth", 1, 32), ("up", 1, 8)))
        if not 1 <= self.margin <= 4 or not 0 <= self.dropout < 1:
            expected = "margin 1 to 4, dropout 0 to below 1"
            raise OptionError("a head's shape is out of range", expected=expected, found=(self.margin, self.dropout))


@dataclass(frozen=True, slots=True)
class TorchvisionShape:
    """Size of a detector of torchvision's on latents.

    Attributes:
        classes: number of classes, background not counted.
        width: channels of the backbone's layers at stride 16.
        feature: channels of each level, a multiple of 32.
        finest: stride of the finest level: 8, 16 or 32.
        levels: how many; the coarsest has stride 128 at most.
        convs: convolutions of a tower (FCOS) or of the region proposal network; RetinaNet has four always.
        hidden: numbers that a region is brought to (Faster, Mask and Keypoint R-CNN).
        points: keypoints of an object (Keypoint R-CNN); else 0.
    """

    classes: int = 80
    width: int = 192
    feature: int = 96
    finest: int = 8
    levels: int = 4
    convs: int = 2
    hidden: int = 512
    points: int = 0

    def __post_init__(self) -> None:
        _check_ranges(
            self,
            (("classes", 1, _MAX_CLASSES), ("width", 1, 1024), ("feature", 32, 1024), ("finest", 8, 32),
             ("levels", 1, 5), ("convs", 1, 8), ("hidden", 1, 4096), ("points", 0, 1000)),
        )  # fmt: skip
        if self.feature % 32 or self.finest not in (8, 16, 32) or self.finest << (self.levels - 1) > 128:
            expected = "feature a multiple of 32, finest 8, 16 or 32, the coarsest level at most 128"
            raise OptionError("a head's shape is out of range", expected=expected, found=self)

    @property
    def strides(self) -> tuple[int, ...]:
        """Of the levels."""
        return tuple(self.finest << i for i in range(self.levels))


@dataclass(frozen=True, slots=True)
class SingleLabelShape:
    """Size of a head that names one class a picture.

    Attributes:
        width: channels.
        depth: residual blocks of two convolutions.
        dropout: share of features dropped before the classes while training.
    """

    width: int = 128
    depth: int = 1
    dropout: float = 0.2

    def __post_init__(self) -> None:
        _check_ranges(self, (("width", 1, 1024), ("depth", 0, 16)))
        if not 0 <= self.dropout < 1:
            raise OptionError("dropout is out of range", expected="0 to below 1", found=self.dropout)


@dataclass(frozen=True, slots=True)
class SegmentationShape:
    """Size of a head that names a class for each pixel.

    Attributes:
        width: channels at stride 16.
        feature: channels at the output's stride.
        up: output cells along each side of a latent position; 4 gives stride 4.
        depth: residual blocks of two convolutions at stride 16.
    """

    width: int = 128
    feature: int = 48
    up: int = 4
    depth: int = 2

    def __post_init__(self) -> None:
        _check_ranges(self, (("width", 1, 1024), ("feature", 1, 256), ("up", 1, 16), ("depth", 0, 16)))


@dataclass(frozen=True, slots=True)
class EmbeddingShape:
    """Size of a head that gives a picture's descriptor.

    Attributes:
        width: channels.
        depth: residual blocks of two convolutions.
        size: numbers of the descriptor.
    """

    width: int = 128
    depth: int = 1
    size: int = 256

    def __post_init__(self) -> None:
        _check_ranges(self, (("width", 1, 1024), ("depth", 0, 16), ("size", 1, 4096)))


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


def names_of(classes: int, names: Classes | None) -> Classes:
    """``names``, or numbers for so many classes (COCO's for 80).

    Raises:
        HeadError: there are not as many names as classes.
    """
    if names is not None and len(names) != classes:
        raise HeadError("a head needs a name for each class", expected=f"{classes} names", found=len(names))
    return names or Classes.numbered(classes)
