"""What a training folder says of its pictures: true boxes, regions that nobody annotated, and the teacher's classes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from vcm.errors import AnnotationError
from vcm.io.coco import CocoGroundTruth, CocoResults, read_results
from vcm.structures import COCO_CLASSES, Classes

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
        labels: int64 (K,), class indexes.
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
    """Annotations of a folder, by path below its folder of pictures.

    Attributes:
        truth: pictures that ``instances.json`` lists, with the size (width, height) that its boxes are for.
        seen: classes that the teacher saw (class index → best score), from ``pseudo.json``.
    """

    truth: Mapping[str, tuple[GroundTruth, tuple[float, float]]]
    seen: Mapping[str, Mapping[int, float]]


def read_annotations(folder: Path, classes: Classes = COCO_CLASSES) -> FolderAnnotations:
    """Read ``instances.json`` (COCO) and ``pseudo.json`` (COCO results) of ``folder``, each where it exists.

    Crowds are ignored. Where fewer classes are annotated than there are, so is what the teacher saw with a score of at
    least :data:`LEAST_SCORE` and what no true box overlaps by more than :data:`MOST_OVERLAP`: it is not background.

    Args:
        folder: the data folder.
        classes: what is learned. COCO's go by their ids, others by their names; boxes of other classes are left out.

    Raises:
        AnnotationError: a file does not validate, or has boxes of a class that is none of COCO's.
    """
    instances, results = folder / "instances.json", folder / "pseudo.json"
    marked = CocoGroundTruth.from_json(instances, partial=True) if instances.is_file() else None
    images = () if marked is None else marked.images
    # The teacher knows COCO's classes and no others.
    seen = read_results(results, images) if results.is_file() and classes == COCO_CLASSES else None
    doubtful = {} if seen is None else {name: seen.corners[rows][seen.scores[rows] >= LEAST_SCORE].astype(np.float32)
                                        for name, rows in seen.rows().items()}  # fmt: skip
    if marked is None:
        return FolderAnnotations({}, _best_scores(seen))
    index = _class_indexes(marked, classes)
    partial = len(set(marked.box_categories.tolist())) < len(classes)
    corners, rows = marked.corners.astype(np.float32), marked.rows()
    truth = {}
    for image in marked.images:
        own = rows[image.file_name]
        own = own[[index[int(c)] >= 0 for c in marked.box_categories[own]]] if len(own) else own
        crowd = marked.crowd[own]
        boxes, ignore = corners[own[~crowd]], corners[own[crowd]]
        if partial and (others := doubtful.get(image.file_name)) is not None:
            ignore = np.concatenate([ignore, others[~(_overlaps(others, boxes) > MOST_OVERLAP).any(1)]])
        labels = np.array([index[int(c)] for c in marked.box_categories[own[~crowd]]], np.int64)
        truth[image.file_name] = GroundTruth(boxes, labels, ignore), (float(image.width), float(image.height))
    return FolderAnnotations(truth, _best_scores(seen))


def _class_indexes(marked: CocoGroundTruth, classes: Classes) -> dict[int, int]:
    """Class index by category id; -1 for what is not learned."""
    if classes == COCO_CLASSES:
        index = {category: i for i, category in enumerate(classes.category_ids)}
        unknown = sorted(set(marked.box_categories.tolist()) - index.keys())
        if unknown:
            raise AnnotationError(f"{marked.name} has boxes of a class that is not COCO's", found=unknown[0])
        return index
    names = {name: i for i, name in enumerate(classes.names)}
    return {category.id: names.get(category.name, -1) for category in marked.categories}


def _best_scores(results: CocoResults | None) -> dict[str, dict[int, float]]:
    """By picture: best score of each class that the teacher saw."""
    if results is None:
        return {}
    index = {category: i for i, category in enumerate(COCO_CLASSES.category_ids)}
    out: dict[str, dict[int, float]] = {}
    for name, rows in results.rows().items():
        best = out.setdefault(name, {})
        for category, score in zip(results.box_categories[rows].tolist(), results.scores[rows].tolist(), strict=True):
            best[index[category]] = max(best.get(index[category], 0.0), score)
    return out


def _overlaps(a: Boxes, b: Boxes) -> npt.NDArray[np.float32]:
    """Intersection over union of every pair, (len(a), len(b))."""
    low, high = np.maximum(a[:, None, :2], b[:, :2]), np.minimum(a[:, None, 2:], b[:, 2:])
    inter = (high - low).clip(min=0).prod(2)
    both = (a[:, 2:] - a[:, :2]).prod(1)[:, None] + (b[:, 2:] - b[:, :2]).prod(1)
    return np.asarray(inter / (both - inter).clip(min=1e-6), np.float32)
