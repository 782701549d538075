"""Detection accuracy by pycocotools, as typed results, with the match tables that the bootstrap resamples.

All accuracies are percent, 0 … 100. AP is COCO's mAP@[.50:.95] over 101 recall points, with at most 100 detections a
picture and class, over all object sizes; a class without annotated boxes has no AP and is left out of means. Matching
is :meth:`COCOeval.evaluateImg`, averaging :meth:`COCOeval.accumulate`.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from vcm.errors import OptionError
from vcm.eval.metrics.matching import MAX_DETECTIONS, MatchTable, match_table, run_coco
from vcm.io.coco import CocoGroundTruth
from vcm.structures import Detections

__all__ = ["FREQUENT_BOXES", "ClassAccuracy", "DetectionAccuracy", "evaluate_detections"]

FREQUENT_BOXES = 30
"""Non-crowd boxes from which a class counts as frequent."""


@dataclass(frozen=True, slots=True)
class ClassAccuracy:
    """Accuracy of one class.

    Attributes:
        category_id: the data set's id.
        name: the class.
        boxes: annotated boxes in the pictures evaluated, crowds not counted.
        ap: AP@[.50:.95] in percent, ``None`` where ``boxes`` is 0.
        ap50: AP at IoU 0.50 in percent, ``None`` where ``boxes`` is 0.
    """

    category_id: int
    name: str
    boxes: int
    ap: float | None
    ap50: float | None


@dataclass(frozen=True, slots=True)
class DetectionAccuracy:
    """Accuracy of one set of detections, percent throughout.

    Attributes:
        ground_truth: name of the ground truth; pseudo ground truth says so in its name.
        pseudo: whether that is pseudo ground truth.
        images: pictures evaluated.
        boxes: annotated boxes in them, crowds not counted.
        ap: mAP@[.50:.95]: mean over the classes that have boxes.
        ap50: the same at IoU 0.50.
        ap75: the same at IoU 0.75.
        person_ap: AP of the class ``person``, ``None`` where it has no boxes.
        person_ap50: AP50 of the class ``person``, ``None`` where it has no boxes.
        ap50_frequent: mean AP50 over the classes with at least ``frequent_boxes`` boxes, ``None`` where there is none.
        frequent_boxes: that number of boxes.
        frequent_category_ids: those classes.
        person_category_id: the class taken as ``person``, ``None`` where the ground truth has none.
        other_detections: detections of classes that the ground truth does not have; they are not counted at all.
        per_class: every class of the ground truth, by ascending category id.
        matches: the match table that :mod:`vcm.eval.metrics.bootstrap` resamples.
    """

    ground_truth: str
    pseudo: bool
    images: int
    boxes: int
    ap: float
    ap50: float
    ap75: float
    person_ap: float | None
    person_ap50: float | None
    ap50_frequent: float | None
    frequent_boxes: int
    frequent_category_ids: tuple[int, ...]
    person_category_id: int | None
    other_detections: int
    per_class: tuple[ClassAccuracy, ...] = field(repr=False)
    matches: MatchTable = field(repr=False, compare=False)


def evaluate_detections(
    ground_truth: CocoGroundTruth,
    results: Mapping[int, Detections] | Sequence[Mapping[str, Any]],
    image_ids: Collection[int] | None = None,
    *,
    frequent_boxes: int = FREQUENT_BOXES,
    person: str = "person",
) -> DetectionAccuracy:
    """Evaluate detections with pycocotools.

    Args:
        ground_truth: the boxes.
        results: either by picture id, with an entry (maybe empty) for every picture evaluated, or COCO *results* rows
            ``{"image_id", "category_id", "bbox": [x, y, width, height], "score"}``.
        image_ids: evaluate these pictures only; ``None`` takes all of the ground truth. Results of other pictures of
            the ground truth are left out.
        frequent_boxes: boxes that a class needs to enter ``ap50_frequent``.
        person: name of the class reported as person.

    Raises:
        OptionError: an id that is not in the ground truth, a picture without an entry in a mapping, a box or score
            that is not finite, or no annotated box in the pictures evaluated.
        MissingDependencyError: pycocotools is not installed.

    pycocotools prints its progress; standard output is redirected for the whole process while it runs, so call this
    from one thread at a time.
    """
    known_images = set(ground_truth.image_ids)
    if image_ids is not None:
        ground_truth = ground_truth.select(image_ids)
    boxes = ground_truth.boxes_per_category()
    if sum(boxes) == 0:
        raise OptionError(
            f"{ground_truth.name!r} has no boxes to find",
            expected="at least one box",
            found=f"{len(ground_truth.images)} pictures",
        )
    rows, other = _rows(ground_truth, results, known_images)
    evaluation = run_coco(ground_truth.to_coco(), rows, "bbox", MAX_DETECTIONS)
    # (T, R, K): thresholds, recall points, classes; -1 where a class has no boxes.
    precision: npt.NDArray[np.float64] = evaluation.eval["precision"][:, :, :, 0, 0]
    by_threshold = 100.0 * precision.mean(axis=1)
    per_class = tuple(
        ClassAccuracy(
            category_id=category.id,
            name=category.name,
            boxes=boxes[k],
            ap=float(by_threshold[:, k].mean()) if boxes[k] else None,
            ap50=float(by_threshold[0, k]) if boxes[k] else None,
        )
        for k, category in enumerate(ground_truth.categories)
    )
    annotated = np.array(boxes) > 0
    frequent = tuple(c for c in per_class if c.boxes >= max(frequent_boxes, 1))
    person_id = ground_truth.category_id(person)
    people = next((c for c in per_class if c.category_id == person_id), None)
    return DetectionAccuracy(
        ground_truth=ground_truth.name,
        pseudo=ground_truth.pseudo,
        images=len(ground_truth.images),
        boxes=sum(boxes),
        ap=float(by_threshold[:, annotated].mean()),
        ap50=float(by_threshold[0, annotated].mean()),
        ap75=float(by_threshold[5, annotated].mean()),
        person_ap=people.ap if people else None,
        person_ap50=people.ap50 if people else None,
        ap50_frequent=sum(c.ap50 or 0.0 for c in frequent) / len(frequent) if frequent else None,
        frequent_boxes=frequent_boxes,
        frequent_category_ids=tuple(c.category_id for c in frequent),
        person_category_id=person_id,
        other_detections=other,
        per_class=per_class,
        matches=match_table(evaluation, ground_truth),
    )


def _rows(
    ground_truth: CocoGroundTruth,
    results: Mapping[int, Detections] | Sequence[Mapping[str, Any]],
    known_images: set[int],
) -> tuple[list[dict[str, Any]], int]:
    """Checked rows of the pictures evaluated, and how many are of classes that the ground truth does not have."""
    wanted, categories = set(ground_truth.image_ids), set(ground_truth.category_ids)
    if isinstance(results, Mapping):
        missing = sorted(wanted - results.keys())
        if missing:
            raise OptionError("pictures without a detections entry", expected="one a picture", found=missing[:5])
        rows: list[Mapping[str, Any]] = [row for i, found in results.items() for row in found.to_coco(int(i))]
        unknown = sorted(results.keys() - known_images)
        if unknown:
            raise OptionError("detections of a picture that is not in the ground truth", found=unknown[:5])
    else:
        rows = list(results)
    kept: list[dict[str, Any]] = []
    other = 0
    for k, row in enumerate(rows):
        image_id, category_id, box, score = _row(row, k)
        if image_id not in known_images:
            raise OptionError("detections of a picture that is not in the ground truth", found=image_id)
        if image_id not in wanted:
            continue
        if category_id not in categories:
            other += 1
            continue
        area = box[2] * box[3]
        kept.append(
            # Numbered from 1: pycocotools takes id 0 for "not matched".
            {"id": len(kept) + 1, "image_id": image_id, "category_id": category_id, "bbox": box, "score": score,
             "area": area, "iscrowd": 0}
        )  # fmt: skip
    return kept, other


def _row(row: Mapping[str, Any], k: int) -> tuple[int, int, list[float], float]:
    try:
        box = [float(v) for v in row["bbox"]]
        image_id, category_id, score = int(row["image_id"]), int(row["category_id"]), float(row["score"])
    except (KeyError, TypeError, ValueError) as error:
        raise OptionError(
            f"results row {k} is not a COCO result", expected="image_id, category_id, bbox, score", found=repr(error)
        ) from error
    if len(box) != 4 or not all(map(math.isfinite, [*box, score])):
        raise OptionError(f"results row {k}", expected="four finite numbers and a finite score", found=(box, score))
    return image_id, category_id, box, score
