"""Named points of objects."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar, overload

import numpy as np
import numpy.typing as npt

from vcm.structures.arrays import Index, Rows, check_shape

__all__ = ["Keypoints", "Pose"]


@dataclass(frozen=True, slots=True)
class Pose:
    """The points of one object.

    Attributes:
        box: x1 y1 x2 y2 in source pixels.
        score: 0 … 1.
        points: by name: x, y in source pixels and a score 0 … 1.
    """

    box: tuple[float, float, float, float]
    score: float
    points: dict[str, tuple[float, float, float]]


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Keypoints(Rows):
    """Named points of the objects of one picture, a sequence of :class:`Pose`; annotations take this form too.

    Attributes:
        points: float32 ``(N, K, 3)``: x, y in source pixels and a score 0 … 1 (of an annotation: 1 labelled, 0 not).
        boxes: float32 ``(N, 4)``, x1 y1 x2 y2 in source pixels: where each object was looked for.
        scores: float32 ``(N,)`` in 0 … 1, of each object as a whole.
        names: name of each of the ``K`` points.
        width, height: size of the source picture, pixels.
        bytes_read: bytes of the file that were read to get these.
    """

    _ROWS: ClassVar[tuple[str, ...]] = ("points", "boxes", "scores")
    points: npt.NDArray[np.float32]
    boxes: npt.NDArray[np.float32]
    scores: npt.NDArray[np.float32]
    names: tuple[str, ...] = field(repr=False)
    width: int
    height: int
    bytes_read: int = 0

    def __post_init__(self) -> None:
        check_shape("points", self.points, (None, len(self.names), 3))
        check_shape("boxes", self.boxes, (self.points.shape[0], 4))
        check_shape("scores", self.scores, (self.points.shape[0],))

    @overload
    def __getitem__(self, index: int) -> Pose: ...
    @overload
    def __getitem__(self, index: Index) -> Keypoints: ...
    def __getitem__(self, index: int | Index) -> Pose | Keypoints:
        """One object by its position; several by a slice, a mask or positions.

        Raises:
            IndexError: a position is not there, or a mask has another length.
        """
        if not isinstance(index, int | np.integer):
            return self._pick(index)
        x1, y1, x2, y2 = self.boxes[index].tolist()
        points = {
            name: (float(x), float(y), float(s)) for name, (x, y, s) in zip(self.names, self.points[index], strict=True)
        }
        return Pose((x1, y1, x2, y2), float(self.scores[index]), points)

    def __iter__(self) -> Iterator[Pose]:
        return (self[i] for i in range(len(self)))

    def __repr__(self) -> str:
        return f"<Keypoints {len(self)} objects of {len(self.names)} points in {self.width}x{self.height}>"

    def filter(self, *, score: float | None = None) -> Keypoints:
        """Objects with a score of at least ``score``; ``None``: any."""
        return self if score is None else self._pick(self.scores >= score)

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
