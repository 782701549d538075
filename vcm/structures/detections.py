"""Objects in a picture, and their forms in other libraries, which are imported when they are asked for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, overload

import numpy as np
import numpy.typing as npt

from vcm.errors import MissingDependencyError, OptionError
from vcm.structures.arrays import Index, Rows, check_shape
from vcm.structures.classes import COCO_CATEGORY_IDS, COCO_NAMES, class_indexes

if TYPE_CHECKING:
    import pandas
    import torch
    from PIL import Image

__all__ = ["Detection", "Detections"]


@dataclass(frozen=True, slots=True)
class Detection:
    """One object.

    Attributes:
        box: x1 y1 x2 y2 in source pixels.
        score: 0 … 1.
        label: class index.
        name: of the class.
        category_id: the data set's id of the class.
    """

    box: tuple[float, float, float, float]
    score: float
    label: int
    name: str
    category_id: int


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Detections(Rows):
    """Detected objects of one picture, best first. A sequence of :class:`Detection`.

        >>> import numpy as np
        >>> boxes = np.array([[0, 0, 4, 4], [1, 1, 3, 3]], np.float32)
        >>> found = Detections(boxes, np.array([0.9, 0.4], np.float32), np.array([0, 16]), 640, 480)
        >>> found
        <Detections 2 in 640x480: person 0.90, dog 0.40>
        >>> found[0].name, len(found[:1]), len(found.filter(classes="dog"))
        ('person', 1, 1)

    Attributes:
        boxes: float32 ``(N, 4)``, x1 y1 x2 y2 in source pixels, clipped to the picture.
        scores: float32 ``(N,)`` in 0 … 1.
        labels: int64 ``(N,)``, class index into ``names``.
        width, height: size of the source picture, pixels.
        bytes_read: bytes of the file that were read to get these.
        names: class names by index.
        category_ids: dataset category id by index (COCO's, with its gaps).
    """

    _ROWS: ClassVar[tuple[str, ...]] = ("boxes", "scores", "labels")
    boxes: npt.NDArray[np.float32]
    scores: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]
    width: int
    height: int
    bytes_read: int = 0
    names: tuple[str, ...] = field(default=COCO_NAMES, repr=False)
    category_ids: tuple[int, ...] = field(default=COCO_CATEGORY_IDS, repr=False)

    def __post_init__(self) -> None:
        check_shape("boxes", self.boxes, (None, 4))
        check_shape("scores", self.scores, (self.boxes.shape[0],))
        check_shape("labels", self.labels, (self.boxes.shape[0],))

    @overload
    def __getitem__(self, index: int) -> Detection: ...
    @overload
    def __getitem__(self, index: Index) -> Detections: ...
    def __getitem__(self, index: int | Index) -> Detection | Detections:
        """One detection by its position; several by a slice, a mask or positions.

        Raises:
            IndexError: a position is not there, or a mask has another length.
        """
        if not isinstance(index, int | np.integer):
            return self._pick(index)
        x1, y1, x2, y2 = self.boxes[index].tolist()
        label = int(self.labels[index])
        return Detection(
            (x1, y1, x2, y2), float(self.scores[index]), label, self.names[label], self.category_ids[label]
        )

    def __iter__(self) -> Iterator[Detection]:
        return (self[i] for i in range(len(self)))

    def __repr__(self) -> str:
        shown = [f"{name} {score:.2f}" for name, score in zip(self[:3].label_names(), self.scores[:3], strict=True)]
        more = ["…"] if len(self) > len(shown) else []
        return f"<Detections {len(self)} in {self.width}x{self.height}: {', '.join(shown + more) or 'none'}>"

    def filter(
        self, *, score: float | None = None, classes: str | int | Iterable[str | int] | None = None
    ) -> Detections:
        """Those with a score of at least ``score`` and of one of ``classes``.

        Args:
            score: least score kept; ``None``: any.
            classes: names or indexes into ``names``, one or several; ``None``: any.

        Raises:
            OptionError: there is no such class.
        """
        keep = np.ones(len(self), np.bool_) if score is None else self.scores >= score
        if classes is not None:
            keep &= np.isin(self.labels, class_indexes(classes, self.names))
        return self._pick(keep)

    def label_names(self) -> list[str]:
        """Class name of each detection."""
        return [self.names[int(i)] for i in self.labels]

    def plot(self, picture: Image.Image | npt.NDArray[np.uint8]) -> Image.Image:
        """A picture with a box and a label for each detection, best on top; colours go by class.

        Args:
            picture: the source, or its decoded picture at any size: a PIL image, which is turned upright by its EXIF
                orientation, or a uint8 array (H, W, 3), RGB.

        Returns:
            RGB, of the picture's size. A Jupyter notebook shows it; ``.show()`` and ``.save(path)`` are Pillow's.

        Raises:
            OptionError: ``picture`` is neither.
        """
        from PIL import Image, ImageOps

        from vcm.structures.drawing import draw_detections

        if isinstance(picture, np.ndarray) and picture.dtype == np.uint8 and picture.shape[2:] == (3,):
            picture = Image.fromarray(picture)
        if not isinstance(picture, Image.Image):
            expected = "a PIL image or a uint8 array (H, W, 3)"
            raise OptionError("cannot draw on this", expected=expected, found=_kind(picture))
        return draw_detections(ImageOps.exif_transpose(picture), self)

    def to_pandas(self) -> pandas.DataFrame:
        """A table with one row for each detection: x1 y1 x2 y2 in source pixels, score, label, name, category_id.

        Raises:
            MissingDependencyError: pandas is not installed.
        """
        try:
            import pandas
        except ImportError as error:
            raise MissingDependencyError("pandas is not installed: pip install pandas") from error
        corners = dict(zip(("x1", "y1", "x2", "y2"), self.boxes.T, strict=True))
        ids = np.asarray(self.category_ids, dtype=np.int64)[self.labels]
        return pandas.DataFrame(
            {**corners, "score": self.scores, "label": self.labels, "name": self.label_names(), "category_id": ids}
        )

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
        """Detectron2 ``Instances``: ``pred_boxes``, ``scores`` and ``pred_classes`` (class indexes).

        Raises:
            MissingDependencyError: Detectron2 is not installed.
        """
        import torch

        try:
            from detectron2.structures import Boxes, Instances
        except ImportError as error:
            raise MissingDependencyError("detectron2 is not installed; see docs/detectron2.md") from error
        out = Instances((self.height, self.width))
        out.pred_boxes = Boxes(torch.from_numpy(self.boxes.copy()))
        out.scores = torch.from_numpy(self.scores.copy())
        out.pred_classes = torch.from_numpy(self.labels.copy())
        return out

    def to_supervision(self) -> Any:
        """``supervision.Detections``: boxes, scores, class indexes, and names in ``data["class_name"]``.

        Raises:
            MissingDependencyError: supervision is not installed.
        """
        try:
            import supervision
        except ImportError as error:
            raise MissingDependencyError("supervision is not installed: pip install supervision") from error
        return supervision.Detections(
            xyxy=self.boxes.copy(), confidence=self.scores.copy(), class_id=self.labels.copy(),
            data={"class_name": np.array(self.label_names(), np.str_)},
        )  # fmt: skip


def _kind(thing: object) -> str:
    """What was given, for a message."""
    kind = type(thing).__name__
    return f"{kind} {thing.dtype} {thing.shape}" if isinstance(thing, np.ndarray) else kind
