"""Masks: of single objects, and of whole pictures. Kept small; made as large as the picture when asked for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from vcm.structures.arrays import Index, Rows, check_shape, same_fields
from vcm.structures.detections import Detections

__all__ = ["InstanceMasks", "Segmentation"]

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class InstanceMasks(Rows):
    """Objects of one picture with a mask each, best first.

    Attributes:
        boxes: float32 ``(N, 4)``, x1 y1 x2 y2 in source pixels.
        scores: float32 ``(N,)`` in 0 … 1.
        labels: int64 ``(N,)``, class index into ``names``.
        masks: float32 ``(N, M, M)``: probability that a cell of the box shows the object.
        width, height: size of the source picture, pixels.
        bytes_read: bytes of the file that were read to get these.
        names, category_ids: as of :class:`vcm.Detections`.
    """

    _ROWS: ClassVar[tuple[str, ...]] = ("boxes", "scores", "labels", "masks")
    boxes: npt.NDArray[np.float32]
    scores: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]
    masks: npt.NDArray[np.float32]
    width: int
    height: int
    bytes_read: int = 0
    names: tuple[str, ...] = field(default=(), repr=False)
    category_ids: tuple[int, ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        check_shape("boxes", self.boxes, (None, 4))
        check_shape("scores", self.scores, (len(self.boxes),))
        check_shape("labels", self.labels, (len(self.boxes),))
        check_shape("masks", self.masks, (len(self.boxes), None, None))

    @classmethod
    def of(cls, found: Detections, masks: npt.NDArray[np.float32]) -> InstanceMasks:
        """Detections with their masks (N, M, M)."""
        return cls(
            found.boxes, found.scores, found.labels, masks, found.width, found.height, found.bytes_read, found.names,
            found.category_ids,
        )  # fmt: skip

    @property
    def detections(self) -> Detections:
        """The same without masks."""
        return Detections(
            self.boxes, self.scores, self.labels, self.width, self.height, self.bytes_read, self.names,
            self.category_ids,
        )  # fmt: skip

    def __getitem__(self, index: Index) -> InstanceMasks:
        """Several by a slice, a mask or positions.

        Raises:
            IndexError: a position is not there, or a mask has another length.
        """
        return self._pick(index)

    def __repr__(self) -> str:
        return f"<InstanceMasks {len(self)} in {self.width}x{self.height}>"

    def filter(self, *, score: float | None = None) -> InstanceMasks:
        """Objects with a score of at least ``score``; ``None``: any."""
        return self if score is None else self._pick(self.scores >= score)

    def full(self, index: int, threshold: float = 0.5) -> Mask:
        """The mask of one object: bool ``(height, width)``, where its probability, interpolated, is above
        ``threshold``."""
        out = np.zeros((self.height, self.width), np.bool_)
        x1, y1, x2, y2 = (float(v) for v in self.boxes[index])
        left, top = max(0, int(np.floor(x1))), max(0, int(np.floor(y1)))
        right, bottom = min(self.width, int(np.ceil(x2))), min(self.height, int(np.ceil(y2)))
        if right <= left or bottom <= top or x2 <= x1 or y2 <= y1:
            return out
        rows = _weights(self.masks.shape[1], y1, y2, top, bottom)
        columns = _weights(self.masks.shape[2], x1, x2, left, right)
        out[top:bottom, left:right] = rows @ self.masks[index] @ columns.T > threshold
        return out

    def each(self, threshold: float = 0.5) -> Iterator[Mask]:
        """:meth:`full` of every object, one at a time: together they may be large."""
        return (self.full(i, threshold) for i in range(len(self)))

    def to_json(self) -> list[dict[str, Any]]:
        """Boxes as of :meth:`vcm.Detections.to_json`, each with its mask as COCO's uncompressed run lengths."""
        from vcm.structures.rle import encode_mask

        rows = self.detections.to_json()
        return [{**row, "mask": encode_mask(mask)} for row, mask in zip(rows, self.each(), strict=True)]

    def to_coco(self, image_id: int) -> list[dict[str, Any]]:
        """COCO *results* rows with ``segmentation`` as uncompressed run lengths, which pycocotools reads by
        ``frPyObjects``."""
        from vcm.structures.rle import encode_mask

        rows = self.detections.to_coco(image_id)
        return [{**row, "segmentation": encode_mask(mask)} for row, mask in zip(rows, self.each(), strict=True)]


def _weights(cells: int, low: float, high: float, first: int, end: int) -> npt.NDArray[np.float32]:
    """Linear interpolation between cells that lie evenly from ``low`` to ``high``, at the centres of some pixels:
    float32
    (pixels, cells). Beyond the outermost centres their values go on."""
    at = ((np.arange(first, end) + 0.5 - low) / (high - low) * cells - 0.5).clip(0, cells - 1)
    weights: npt.NDArray[np.float32] = np.maximum(0, 1 - np.abs(at[:, None] - np.arange(cells))).astype(np.float32)
    return weights


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Segmentation:
    """The class of every place of one picture.

    Attributes:
        labels: uint16 ``(h, w)``: class index of each cell; cells lie evenly over the picture.
        names: class names by index.
        width, height: size of the source picture, pixels.
        bytes_read: bytes of the file that were read to get these.
    """

    labels: npt.NDArray[np.uint16]
    names: tuple[str, ...] = field(repr=False)
    width: int
    height: int
    bytes_read: int = 0

    def __post_init__(self) -> None:
        check_shape("labels", self.labels, (None, None))

    def __eq__(self, other: object) -> bool:
        """Whether all of it is the same."""
        return same_fields(self, other) if isinstance(other, Segmentation) else NotImplemented

    __hash__ = None  # type: ignore[assignment]  # as of any container that compares by value

    def __repr__(self) -> str:
        shares = ", ".join(f"{name} {100 * share:.0f} %" for name, share in self.shares()[:3])
        return f"<Segmentation {self.width}x{self.height}: {shares or 'nothing'}>"

    def shares(self) -> list[tuple[str, float]]:
        """Classes that are there with their share of the picture, 0 … 1, largest first."""
        counts = np.bincount(self.labels.reshape(-1), minlength=len(self.names))
        order = np.argsort(-counts, kind="stable")
        return [(self.names[i], float(counts[i] / self.labels.size)) for i in order if counts[i]]

    def full(self) -> npt.NDArray[np.uint16]:
        """uint16 ``(height, width)``: the class of each source pixel, that of the cell that it lies in."""
        rows = ((np.arange(self.height) + 0.5) * self.labels.shape[0] / self.height).astype(np.int64)
        columns = ((np.arange(self.width) + 0.5) * self.labels.shape[1] / self.width).astype(np.int64)
        out: npt.NDArray[np.uint16] = self.labels[rows[:, None], columns]
        return out

    def to_json(self) -> dict[str, Any]:
        """Size, and the share of each class that is there."""
        shares = {name: round(share, 5) for name, share in self.shares()}
        return {"width": self.width, "height": self.height, "shares": shares}
