"""Pseudo ground truth: what a detector finds on the uncompressed pictures, for data that nobody has annotated.

It measures how much of *that detector's* opinion a codec keeps, not how right the detector is, so it carries its own
name into every report and is never mixed with annotated ground truth.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from vcm.errors import OptionError
from vcm.io.coco import Category, CocoGroundTruth, CocoImage
from vcm.structures import Detections

__all__ = ["DEFAULT_SCORE", "pseudo_ground_truth"]

DEFAULT_SCORE = 0.3
"""Score from which a detection counts as an object."""


def pseudo_ground_truth(
    images: Sequence[CocoImage],
    detections: Mapping[int, Detections],
    *,
    machine: str,
    score: float = DEFAULT_SCORE,
) -> CocoGroundTruth:
    """Ground truth of a detector's boxes on the uncompressed pictures.

    The classes are those that the detector knows, whether found or not. The name is
    ``"pseudo:<machine>@<score>"``.

    Args:
        images: the pictures; boxes are in their pixels.
        detections: by picture id, one entry for each picture, found on the *uncompressed* picture.
        machine: what the detector is called.
        score: detections with at least this score become boxes, 0 … 1.

    Raises:
        OptionError: ``score`` out of range, a picture without an entry or with one of another size, or entries of
            different classes.
    """
    if not 0.0 <= score <= 1.0:
        raise OptionError("score is out of range", expected="0 … 1", found=score)
    categories: tuple[Category, ...] = ()
    boxes = {}
    for image in images:
        if image.id not in detections:
            raise OptionError("a picture without a detections entry", expected="one a picture", found=image.id)
        found = detections[image.id]
        if (found.width, found.height) != (image.width, image.height):
            raise OptionError(
                f"detections of picture {image.id} are of another size",
                expected=f"{image.width}x{image.height}",
                found=f"{found.width}x{found.height}",
            )
        known = tuple(Category(i, n) for i, n in zip(found.category_ids, found.names, strict=True))
        if categories and known != categories:
            raise OptionError("detections are of different classes", expected=len(categories), found=len(known))
        categories = known
        kept = found.filter(score=score)
        boxes[image.id] = (kept.boxes, [found.category_ids[int(k)] for k in kept.labels])
    return CocoGroundTruth.from_boxes(f"pseudo:{machine}@{score:g}", images, categories, boxes, pseudo=True)
