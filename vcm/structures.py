"""The small typed contracts that rooms hand to each other. Imports numpy; conversions import their target lazily."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from vcm.errors import FingerprintError, HeadError, OptionError

if TYPE_CHECKING:
    import torch

__all__ = [
    "COCO_CATEGORY_IDS", "COCO_CLASSES", "COCO_NAMES", "DEFAULT_SCORE", "Classes", "Classification", "Detections",
    "Keypoints", "LatentSpec", "Latents",
]  # fmt: skip

COCO_NAMES: tuple[str, ...] = (
    "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat", "traffic light",
    "fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat", "dog", "horse", "sheep", "cow",
    "elephant", "bear", "zebra", "giraffe", "backpack", "umbrella", "handbag", "tie", "suitcase", "frisbee",
    "skis", "snowboard", "sports ball", "kite", "baseball bat", "baseball glove", "skateboard", "surfboard",
    "tennis racket", "bottle", "wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple",
    "sandwich", "orange", "broccoli", "carrot", "hot dog", "pizza", "donut", "cake", "chair", "couch",
    "potted plant", "bed", "dining table", "toilet", "tv", "laptop", "mouse", "remote", "keyboard",
    "cell phone", "microwave", "oven", "toaster", "sink", "refrigerator", "book", "clock", "vase", "scissors",
    "teddy bear", "hair drier", "toothbrush",
)  # fmt: skip
"""The 80 COCO classes in the order of their official category ids."""

COCO_CATEGORY_IDS: tuple[int, ...] = tuple(i for i in range(1, 91) if i not in (12, 26, 29, 30, 45, 66, 68, 69, 71, 83))
"""Official COCO category id of class index 0 … 79 (91 ids with gaps)."""

DEFAULT_SCORE = 0.3
"""Least score of a detection where nothing is asked for, in Python and on the command line: what a person wants to see
drawn. Average precision is an integral over all scores, so that an evaluation asks for less (0.001)."""


@dataclass(frozen=True, slots=True)
class LatentSpec:
    """What a head needs to know of the latents that it reads.

    Attributes:
        channels: channels of ``y_hat``.
        stride: pixels of the *coded* base picture per latent position, along each axis.
        fingerprint: of the base layer whose latents they are, 16 hexadecimal digits; empty: not known, or any.
    """

    channels: int
    stride: int
    fingerprint: str = ""

    def check(self, found: LatentSpec) -> None:
        """Refuses latents that a head which reads ``self`` was not made for.

        Args:
            found: what the latents are.

        Raises:
            HeadError: they have other channels or another stride.
            FingerprintError: they are of another base layer than the head was trained on.
        """
        if (self.channels, self.stride) != (found.channels, found.stride):
            expected, there = (f"{s.channels} channels at stride {s.stride}" for s in (self, found))
            raise HeadError("the latents are of another kind", expected=expected, found=there)
        if self.fingerprint and found.fingerprint and self.fingerprint != found.fingerprint:
            what = "the head was trained on another base layer (allow_other_base=True takes it all the same)"
            raise FingerprintError(what, expected=self.fingerprint, found=found.fingerprint)


@dataclass(frozen=True, slots=True)
class Classes:
    """The classes that a head knows.

    Attributes:
        names: by class index, each once.
        category_ids: the data set's id by class index; by default 1, 2, 3 …

    Raises:
        OptionError: no names, a name or id twice, or not as many ids as names.
    """

    names: tuple[str, ...]
    category_ids: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not self.category_ids:
            object.__setattr__(self, "category_ids", tuple(range(1, len(self.names) + 1)))
        if not self.names or len(set(self.names)) != len(self.names):
            raise OptionError("classes need names of their own", expected="different names", found=self.names)
        if len(self.category_ids) != len(self.names) or len(set(self.category_ids)) != len(self.names):
            expected = f"{len(self.names)} different ids"
            raise OptionError("classes need category ids of their own", expected=expected, found=self.category_ids)

    def __len__(self) -> int:
        return len(self.names)

    @classmethod
    def numbered(cls, count: int) -> Classes:
        """COCO's where there are 80; else ``class 0``, ``class 1`` …"""
        return COCO_CLASSES if count == len(COCO_NAMES) else cls(tuple(f"class {i}" for i in range(count)))


COCO_CLASSES = Classes(COCO_NAMES, COCO_CATEGORY_IDS)
"""COCO's 80."""


@dataclass(frozen=True, slots=True)
class Latents:
    """Decoded base latents of one picture.

    Attributes:
        y_hat: float32 tensor ``(1, C, h, w)``, dequantised.
        spec: channels and stride.
        coded_size: ``(width, height)`` of the picture that the base was coded from, before padding.
        source_size: ``(width, height)`` of the source picture, upright.
        quality: base quality, 0 … 100.
    """

    y_hat: torch.Tensor
    spec: LatentSpec
    coded_size: tuple[int, int]
    source_size: tuple[int, int]
    quality: float

    @property
    def scale(self) -> tuple[float, float]:
        """Source pixels per coded pixel, (x, y)."""
        return self.source_size[0] / self.coded_size[0], self.source_size[1] / self.coded_size[1]


def _check(name: str, array: npt.NDArray[Any], shape: tuple[int | None, ...]) -> None:
    if array.ndim != len(shape) or any(
        want is not None and want != got for want, got in zip(shape, array.shape, strict=True)
    ):
        wanted = "(" + ", ".join("N" if s is None else str(s) for s in shape) + ")"
        raise OptionError(f"{name} has the wrong shape", expected=wanted, found=array.shape)


@dataclass(frozen=True, slots=True)
class Detections:
    """Detected objects of one picture, best first.

    Attributes:
        boxes: float32 ``(N, 4)``, x1 y1 x2 y2 in source pixels, clipped to the picture.
        scores: float32 ``(N,)`` in 0 … 1.
        labels: int64 ``(N,)``, class index 0 … 79 into ``names``.
        width, height: size of the source picture, pixels.
        bytes_read: bytes of the file that were read to get these.
        names: class names by index.
        category_ids: dataset category id by index (COCO's, with its gaps).
    """

    boxes: npt.NDArray[np.float32]
    scores: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]
    width: int
    height: int
    bytes_read: int = 0
    names: tuple[str, ...] = field(default=COCO_NAMES, repr=False)
    category_ids: tuple[int, ...] = field(default=COCO_CATEGORY_IDS, repr=False)

    def __post_init__(self) -> None:
        _check("boxes", self.boxes, (None, 4))
        _check("scores", self.scores, (self.boxes.shape[0],))
        _check("labels", self.labels, (self.boxes.shape[0],))

    def __len__(self) -> int:
        return int(self.boxes.shape[0])

    def above(self, score: float) -> Detections:
        """Those with a score of at least ``score``."""
        keep = self.scores >= score
        return replace(self, boxes=self.boxes[keep], scores=self.scores[keep], labels=self.labels[keep])

    def label_names(self) -> list[str]:
        """Class name of each detection."""
        return [self.names[int(i)] for i in self.labels]

    def to_json(self) -> list[dict[str, Any]]:
        """The form that ``vcm detect --json`` prints: box, score, label, category_id."""
        return [
            {
                "box": [round(float(v), 2) for v in box],
                "score": round(float(score), 4),
                "label": self.names[int(label)],
                "category_id": self.category_ids[int(label)],
            }
            for box, score, label in zip(self.boxes, self.scores, self.labels, strict=True)
        ]

    def to_coco(self, image_id: int) -> list[dict[str, Any]]:
        """COCO *results* rows: bbox is x y width height."""
        return [
            {
                "image_id": image_id,
                "category_id": self.category_ids[int(label)],
                "bbox": [float(x1), float(y1), float(x2 - x1), float(y2 - y1)],
                "score": float(score),
            }
            for (x1, y1, x2, y2), score, label in zip(self.boxes, self.scores, self.labels, strict=True)
        ]

    def to_torchvision(self) -> dict[str, torch.Tensor]:
        """``{"boxes", "scores", "labels"}`` as torchvision's detectors return them (labels are category ids)."""
        import torch

        ids = np.asarray(self.category_ids, dtype=np.int64)[self.labels]
        return {
            "boxes": torch.from_numpy(self.boxes.copy()),
            "scores": torch.from_numpy(self.scores.copy()),
            "labels": torch.from_numpy(ids),
        }

    def to_detectron2(self) -> Any:
        """Detectron2 ``Instances`` (Detectron2 must be installed)."""
        import torch

        try:
            from detectron2.structures import Boxes, Instances
        except ImportError as error:
            from vcm.errors import MissingDependencyError

            raise MissingDependencyError("detectron2 is not installed; see docs/detectron2.md") from error
        out = Instances((self.height, self.width))
        out.pred_boxes = Boxes(torch.from_numpy(self.boxes.copy()))
        out.scores = torch.from_numpy(self.scores.copy())
        out.pred_classes = torch.from_numpy(self.labels.copy())
        return out

    def to_supervision(self) -> Any:
        """``supervision.Detections`` (supervision must be installed)."""
        try:
            import supervision
        except ImportError as error:
            from vcm.errors import MissingDependencyError

            raise MissingDependencyError("supervision is not installed: pip install supervision") from error
        return supervision.Detections(xyxy=self.boxes, confidence=self.scores, class_id=self.labels)


@dataclass(frozen=True, slots=True)
class Classification:
    """Multi-label class probabilities of one picture.

    Attributes:
        scores: float32 ``(K,)``, independent probabilities 0 … 1.
        names: class names by index.
        bytes_read: bytes of the file that were read.
    """

    scores: npt.NDArray[np.float32]
    names: tuple[str, ...] = field(default=COCO_NAMES, repr=False)
    bytes_read: int = 0

    def __post_init__(self) -> None:
        _check("scores", self.scores, (len(self.names),))

    def top(self, k: int = 5) -> list[tuple[str, float]]:
        """The ``k`` most probable classes with their probabilities, best first."""
        order = np.argsort(-self.scores, kind="stable")[:k]
        return [(self.names[int(i)], float(self.scores[int(i)])) for i in order]


@dataclass(frozen=True, slots=True)
class Keypoints:
    """Named points of the objects of one picture; annotations take this form too.

    Attributes:
        points: float32 ``(N, K, 3)``: x, y in source pixels and a score 0 … 1 (of an annotation: 1 labelled, 0 not).
        boxes: float32 ``(N, 4)``, x1 y1 x2 y2 in source pixels: where each object was looked for.
        scores: float32 ``(N,)`` in 0 … 1, of each object as a whole.
        names: name of each of the ``K`` points.
        width, height: size of the source picture, pixels.
        bytes_read: bytes of the file that were read to get these.
    """

    points: npt.NDArray[np.float32]
    boxes: npt.NDArray[np.float32]
    scores: npt.NDArray[np.float32]
    names: tuple[str, ...] = field(repr=False)
    width: int
    height: int
    bytes_read: int = 0

    def __post_init__(self) -> None:
        _check("points", self.points, (None, len(self.names), 3))
        _check("boxes", self.boxes, (self.points.shape[0], 4))
        _check("scores", self.scores, (self.points.shape[0],))

    def __len__(self) -> int:
        return int(self.points.shape[0])

    def to_json(self) -> list[dict[str, Any]]:
        """One entry an object: its box, its score, and x, y, score of each point by name."""
        return [
            {
                "box": [round(float(v), 2) for v in box],
                "score": round(float(score), 4),
                "keypoints": {
                    name: [round(float(x), 2), round(float(y), 2), round(float(s), 4)]
                    for name, (x, y, s) in zip(self.names, points, strict=True)
                },
            }
            for box, score, points in zip(self.boxes, self.scores, self.points, strict=True)
        ]

    def to_coco(self, image_id: int, category_id: int = 1) -> list[dict[str, Any]]:
        """COCO keypoint *results* rows: x, y, score triplets, one after the other."""
        return [
            {
                "image_id": image_id,
                "category_id": category_id,
                "bbox": [float(x1), float(y1), float(x2 - x1), float(y2 - y1)],
                "keypoints": [float(v) for v in points.reshape(-1)],
                "score": float(score),
            }
            for (x1, y1, x2, y2), score, points in zip(self.boxes, self.scores, self.points, strict=True)
        ]
