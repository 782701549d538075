"""What a training folder says of its pictures: true boxes, regions that nobody annotated, and the teacher's classes."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vcm.errors import AnnotationError
from vcm.structures import COCO_CATEGORY_IDS

__all__ = ["FolderAnnotations", "GroundTruth", "read_annotations"]

LEAST_SCORE = 0.3
MOST_OVERLAP = 0.5
"""A teacher's box of at least this score, overlapping no true box by more, is an object that was not annotated."""

Boxes = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class GroundTruth:
    """Objects of one annotated picture.

    Attributes:
        boxes: float32 (K, 4) x1 y1 x2 y2, pixels.
        labels: int64 (K,), class indexes 0 … 79.
        ignore: float32 (M, 4), where there are objects that ``boxes`` does not tell: crowds, unannotated classes.
    """

    boxes: Boxes
    labels: npt.NDArray[np.int64]
    ignore: Boxes

    def scaled(self, x: float, y: float) -> GroundTruth:
        """The same on a picture ``x`` times as wide and ``y`` times as high."""
        by = np.array([x, y, x, y], np.float32)
        return GroundTruth(self.boxes * by, self.labels, self.ignore * by)


@dataclass(frozen=True, slots=True)
class FolderAnnotations:
    """Annotations of a folder, by file name.

    Attributes:
        truth: pictures that ``instances.json`` lists, with the size (width, height) that its boxes are for.
        seen: classes that the teacher saw (class index → best score), from ``pseudo.json``.
    """

    truth: Mapping[str, tuple[GroundTruth, tuple[float, float]]]
    seen: Mapping[str, Mapping[int, float]]


def read_annotations(folder: Path) -> FolderAnnotations:
    """Read ``instances.json`` (COCO) and ``pseudo.json`` (COCO results) of ``folder``, each where it exists.

    Crowds are ignored. Where fewer than all 80 classes are annotated, so is what the teacher saw with a score of at
    least :data:`LEAST_SCORE` and what no true box overlaps by more than :data:`MOST_OVERLAP`: it is not background.

    Raises:
        AnnotationError: not JSON, a field is missing or of the wrong type, an unknown picture or category, a box that
            is not four finite numbers.
    """
    index = {c: i for i, c in enumerate(COCO_CATEGORY_IDS)}
    content = _load(folder / "instances.json") or {"images": [], "annotations": []}
    try:
        images = {i["id"]: i for i in content["images"]}
        names = {k: Path(str(i["file_name"])).name for k, i in images.items()}
        pseudo: dict[str, list[tuple[int, float, list[float]]]] = {}
        for row in _load(folder / "pseudo.json") or []:
            key = row.get("image_id", row.get("file_name"))
            name = names.get(key, Path(str(row.get("file_name", key))).name)
            pseudo.setdefault(name, []).append((index[row["category_id"]], float(row["score"]), _xyxy(row["bbox"])))
        objects: dict[str, list[tuple[int, bool, list[float]]]] = {name: [] for name in names.values()}
        for row in content.get("annotations", []):
            crowd = bool(row.get("iscrowd", 0))
            objects[names[row["image_id"]]].append((index[row["category_id"]], crowd, _xyxy(row["bbox"])))
        partial = len({c for rows in objects.values() for c, _, _ in rows}) < len(COCO_CATEGORY_IDS)
        truth = {}
        for key, name in names.items():
            rows = objects[name]
            boxes = _array([b for _, crowd, b in rows if not crowd])
            ignore = [b for _, crowd, b in rows if crowd]
            if partial:
                doubtful = _array([b for _, score, b in pseudo.get(name, []) if score >= LEAST_SCORE])
                ignore += doubtful[~(_overlaps(doubtful, boxes) > MOST_OVERLAP).any(1)].tolist()
            labels = np.array([c for c, crowd, _ in rows if not crowd], np.int64)
            # Boxes without a stated size are taken as of the file as it is.
            size = (float(images[key].get("width", 0)), float(images[key].get("height", 0)))
            truth[name] = (GroundTruth(boxes, labels, _array(ignore)), size)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        said = f"{type(error).__name__}: {error}"
        raise AnnotationError(f"the annotations of {folder.name} do not validate", found=said) from error
    seen: dict[str, dict[int, float]] = {}
    for name, results in pseudo.items():
        classes = seen.setdefault(name, {})
        for c, score, _ in results:
            classes[c] = max(classes.get(c, 0.0), score)
    return FolderAnnotations(truth, seen)


def _load(path: Path) -> Any:
    if not path.is_file():
        return None
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise AnnotationError(f"{path} is not JSON", found=str(error)) from error


def _xyxy(box: list[float]) -> list[float]:
    x, y, w, h = (float(v) for v in box)
    if not all(map(math.isfinite, (x, y, w, h))) or w < 0 or h < 0:
        raise ValueError(f"a box is x, y, width, height, finite: {box}")
    return [x, y, x + w, y + h]


def _array(boxes: list[list[float]]) -> Boxes:
    return np.array(boxes, np.float32).reshape(-1, 4)


def _overlaps(a: Boxes, b: Boxes) -> npt.NDArray[np.float32]:
    """Intersection over union of every pair, (len(a), len(b))."""
    low, high = np.maximum(a[:, None, :2], b[:, :2]), np.minimum(a[:, None, 2:], b[:, 2:])
    inter = (high - low).clip(min=0).prod(2)
    both = (a[:, 2:] - a[:, :2]).prod(1)[:, None] + (b[:, 2:] - b[:, :2]).prod(1)
    return np.asarray(inter / (both - inter).clip(min=1e-6), np.float32)
