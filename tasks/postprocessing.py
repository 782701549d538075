"""From a detector's raw arrays to boxes, in numpy: distances, thresholds, and the one non-maximum suppression."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from vcm.errors import OptionError
from vcm.structures import Classes, Detections, Latents

__all__ = [
    "AVERAGE_SHARE",
    "BINS",
    "LARGE_IOU",
    "LARGE_SIDE",
    "MAX_DETECTIONS",
    "NMS_IOU",
    "STRIDES",
    "SUPPRESSION",
    "average",
    "boxes_from_arrays",
    "check_options",
    "detections_from_arrays",
    "suppress",
]

STRIDES = (8, 16, 32, 64)
"""Pixels of the coded picture per position, of each of the detector's grids."""
BINS = 8
"""Values of the distribution over distances to each side of a box, in strides."""
# All four chosen on the 200 held-out pictures (docs/training-log.md).
NMS_IOU = 0.5
"""Overlap above which the weaker of two boxes of one class is dropped."""
# A position of stride 32 reaches 7 · 32 = 224 px to each side. From off the middle of a larger object its boxes end too
# soon, each at another place, and overlap by 0.3 to 0.5.
LARGE_SIDE = 256
"""Longer side from which on a box counts as large, pixels of the coded picture."""
LARGE_IOU = 0.3
"""Overlap above which the weaker of two large boxes of one class is dropped."""
AVERAGE_SHARE = 0.5
"""Share of a kept box's score that a dropped one must have to count in the average of their places."""
SUPPRESSION = (
    f"{NMS_IOU:g}, {LARGE_IOU:g} above {LARGE_SIDE} px, longer first, averaged from {AVERAGE_SHARE:g} of the score"
)
"""All of it in words, for records of evaluation: a result is another where this is another."""
MAX_DETECTIONS = 100
"""Most boxes of a picture by default."""
_CANDIDATES = 1000

_Floats = npt.NDArray[np.float32]
_Ints = npt.NDArray[np.int64]


def boxes_from_arrays(
    logits: Sequence[_Floats],
    bins: Sequence[_Floats],
    *,
    coded_size: tuple[int, int],
    source_size: tuple[int, int],
    score: float,
    nms_iou: float = NMS_IOU,
    agnostic: bool = False,
    max_det: int = MAX_DETECTIONS,
    only: Sequence[int] | None = None,
) -> tuple[_Floats, _Floats, _Ints]:
    """The best boxes of one picture.

    Args:
        logits: float32 (K, h, w) for each of :data:`STRIDES`, K classes.
        bins: float32 (4 · BINS, h, w) likewise: logits of the distances to left, top, right and bottom.
        coded_size: (width, height) of the coded picture, pixels; boxes are clipped to it.
        source_size: (width, height) of the source picture, pixels.
        score: least probability kept, 0 … 1.
        nms_iou: overlap above which the weaker box of one class is dropped; at most :data:`LARGE_IOU` counts where
            both are longer than :data:`LARGE_SIDE`.
        agnostic: drop the weaker box of two classes as well.
        max_det: most boxes.
        only: indexes of the classes that are wanted; the others neither count nor drop anything.

    Returns:
        boxes float32 (N, 4) x1 y1 x2 y2 in source pixels, scores float32 (N,), classes int64 (N,); best first, N at
        most ``max_det``.
    """
    if only is not None:
        logits = [np.where(np.isin(np.arange(len(g)), only)[:, None, None], g, np.float32(-np.inf)) for g in logits]
    # What averages may use, so that a box's place does not depend on the least score that is asked for.
    least = score * AVERAGE_SHARE
    found = [(level, *_likely(grid.reshape(len(grid), -1), least)) for level, grid in enumerate(logits)]
    levels = np.concatenate([np.full(len(scores), level) for level, scores, _, _ in found])
    scores, positions, classes = (np.concatenate([part[i] for part in found]) for i in (1, 2, 3))
    order = np.argsort(-scores, kind="stable")[:_CANDIDATES]
    levels, scores, positions, classes = levels[order], scores[order], positions[order], classes[order]
    boxes = np.empty((len(order), 4), dtype=np.float32)
    for level, (grid, stride) in enumerate(zip(bins, STRIDES, strict=True)):
        here = levels == level
        boxes[here] = _decoded(grid, positions[here], stride)
    limit = np.array(coded_size * 2, dtype=np.float32)
    np.clip(boxes, 0, limit, out=boxes)
    good = np.flatnonzero((boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1]))
    boxes, scores, classes = boxes[good], scores[good], classes[good]
    # Of large boxes with nearly equal scores the longer one has not been cut by its stride's reach.
    longer = (boxes[:, 2:] - boxes[:, :2]).max(axis=1, initial=0)
    ranks = scores * np.sqrt(np.maximum(longer / np.float32(LARGE_SIDE), 1))
    large = LARGE_SIDE, min(LARGE_IOU, nms_iou)
    groups = np.zeros_like(classes) if agnostic else classes
    kept = suppress(boxes, ranks, groups, nms_iou, max_det, large=large, wanted=scores >= score)
    kept = kept[np.argsort(-scores[kept], kind="stable")]
    kept = kept[scores[kept] >= score]
    factor = np.array([s / c for s, c in zip(source_size, coded_size, strict=True)] * 2, dtype=np.float32)
    # Rounding may carry a side past the picture's; clipped again.
    places = average(boxes, scores, groups, kept, nms_iou)
    scaled = np.minimum(places * factor, np.array(source_size * 2, dtype=np.float32))
    return scaled, scores[kept], classes[kept]


def detections_from_arrays(
    logits: Sequence[_Floats],
    bins: Sequence[_Floats],
    latents: Latents,
    names: Classes,
    score: float,
    nms_iou: float = NMS_IOU,
    *,
    agnostic: bool = False,
    max_det: int = MAX_DETECTIONS,
    only: Sequence[int] | None = None,
) -> Detections:
    """The best boxes of the picture that ``latents`` are of, with names; see :func:`boxes_from_arrays`."""
    boxes, scores, labels = boxes_from_arrays(
        logits, bins, coded_size=latents.coded_size, source_size=latents.source_size, score=score, nms_iou=nms_iou,
        agnostic=agnostic, max_det=max_det, only=only,
    )  # fmt: skip
    return Detections(boxes, scores, labels, *latents.source_size, names=names.names, category_ids=names.category_ids)


def check_options(score: float, nms_iou: float, max_det: int) -> None:
    """Checks what a caller asks of :func:`boxes_from_arrays`.

    Raises:
        OptionError: ``score`` or ``nms_iou`` is outside 0 … 1, or ``max_det`` is no whole number from 1 to 1000.
    """
    for name, value in (("score", score), ("iou", nms_iou)):
        if not 0 <= value <= 1:
            raise OptionError(f"{name} is out of range", expected="0 to 1", found=value)
    if not (isinstance(max_det, int | np.integer) and 1 <= int(max_det) <= _CANDIDATES):
        raise OptionError("max_det is out of range", expected=f"1 to {_CANDIDATES}", found=max_det)


def _likely(logits: _Floats, score: float) -> tuple[_Floats, _Ints, _Ints]:
    """Probabilities of at least ``score`` in logits (K, n), with their positions and classes, position by position."""
    # By the logit first, a little too low: few positions are likely, and exponentials cost.
    least = -np.inf if score <= 0 else np.log(score) - np.log1p(-min(score, 1 - 1e-7)) - 1e-3
    # In the order in which they lie in memory, which is a tenth of the time of searching the other way round.
    classes, positions = np.divmod(np.flatnonzero(logits.reshape(-1) >= least), logits.shape[1])
    order = np.lexsort((classes, positions))
    classes, positions = classes[order], positions[order]
    with np.errstate(over="ignore"):
        scores = np.float32(1) / (np.float32(1) + np.exp(-logits[classes, positions]))
    keep = scores >= score
    return scores[keep], positions[keep], classes[keep]


def _decoded(bins: _Floats, positions: _Ints, stride: int) -> _Floats:
    """Boxes (n, 4) x1 y1 x2 y2 at some positions of a grid (4 · BINS, h, w): expected distances from its points."""
    width = bins.shape[2]
    chosen = bins.reshape(4, BINS, -1)[:, :, positions]
    weight = np.exp(chosen - chosen.max(axis=1, keepdims=True))
    weight /= weight.sum(axis=1, keepdims=True)
    distance = (weight * np.arange(BINS, dtype=np.float32)[:, None]).sum(axis=1) * np.float32(stride)
    y, x = (axis.astype(np.float32) * np.float32(stride) for axis in np.divmod(positions, width))
    return np.stack([x - distance[0], y - distance[1], x + distance[2], y + distance[3]], axis=1)


def suppress(
    boxes: _Floats,
    scores: _Floats,
    labels: _Ints,
    iou: float,
    limit: int,
    *,
    large: tuple[float, float] | None = None,
    wanted: npt.NDArray[np.bool_] | None = None,
) -> _Ints:
    """Greedy non-maximum suppression within each class.

    Args:
        boxes: float32 (N, 4) x1 y1 x2 y2, in any unit.
        scores: float32 (N,): which is better.
        labels: int64 (N,).
        iou: a box that overlaps a better one of its class by more is dropped.
        limit: most boxes kept.
        large: (side, iou): another threshold between two boxes whose longer sides are both above ``side``.
        wanted: bool (N,): boxes to find; of others those that come after the last of them may be missing. By default
            all.

    Returns:
        int64, indexes of the boxes kept, best first; of equal scores the earlier first.
    """
    order = np.argsort(-scores, kind="stable")
    boxes, labels = boxes[order], labels[order]
    longer = (boxes[:, 2:] - boxes[:, :2]).max(axis=1)
    side, large_iou = large or (np.inf, iou)
    left = np.ones(len(order), dtype=bool)
    sought = left if wanted is None else wanted[order]
    kept: list[int] = []
    while len(kept) < limit and (left & sought).any():
        best = int(left.argmax())
        kept.append(best)
        left[best] = False
        rivals = np.flatnonzero(left & (labels == labels[best]))
        if not len(rivals):
            continue
        # Compared in float64, as torchvision's NMS does.
        threshold = np.where((longer[rivals] > side) & (longer[best] > side), np.float64(large_iou), np.float64(iou))
        left[rivals[_overlaps(boxes[best], boxes[rivals]) > threshold]] = False
    return order[kept]


def average(boxes: _Floats, scores: _Floats, labels: _Ints, kept: _Ints, iou: float) -> _Floats:
    """Places of boxes, averaged over what suppression drops for them (box voting: Gidaris & Komodakis 2015, section 4).

    Args:
        boxes: float32 (N, 4) x1 y1 x2 y2, of positive area.
        scores: float32 (N,).
        labels: int64 (N,).
        kept: int64 (n,), indexes of those whose places are wanted.
        iou: those of its class that overlap a box by more count, if they have :data:`AVERAGE_SHARE` of its score.

    Returns:
        float32 (n, 4), weighted by score · IoU².
    """
    places = np.empty((len(kept), 4), dtype=np.float32)
    for row, best in enumerate(kept):
        near = np.flatnonzero((labels == labels[best]) & (scores >= AVERAGE_SHARE * scores[best]))
        overlaps = _overlaps(boxes[best], boxes[near])
        counts = (overlaps > iou) | (near == best)
        near, overlaps = near[counts], overlaps[counts]
        weights = np.maximum(scores[near], np.float32(1e-30)) * overlaps**2  # the least score of float32 is 0
        places[row] = (weights[:, None] * boxes[near]).sum(axis=0) / weights.sum()
    return places


def _overlaps(box: _Floats, others: _Floats) -> _Floats:
    """IoU of one box (4,) with others (n, 4)."""
    corner = np.minimum(box[2:], others[:, 2:])
    corner -= np.maximum(box[:2], others[:, :2])
    np.maximum(corner, 0, out=corner)
    shared = corner[:, 0] * corner[:, 1]  # a reduction over an axis of two takes three times as long
    areas = (others[:, 2] - others[:, 0]) * (others[:, 3] - others[:, 1])
    with np.errstate(invalid="ignore"):  # two boxes without area overlap by 0 / 0: not at all
        overlaps: _Floats = shared / ((box[2] - box[0]) * (box[3] - box[1]) + areas - shared)
    return overlaps
