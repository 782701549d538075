"""From candidates to detections: clipping, thresholds and suppression, in numpy."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from vcm.structures import Detections
from vcm.tasks.postprocessing import suppress

__all__ = ["keep_best"]

_Floats = npt.NDArray[np.float32]


def keep_best(
    boxes: _Floats,
    scores: _Floats,
    labels: npt.NDArray[np.int64],
    width: int,
    height: int,
    *,
    iou: float,
    score: float,
    limit: int,
) -> Detections:
    """Clip candidates to the picture, drop weak and empty ones, suppress overlaps within each class, and keep the best.

    Args:
        boxes: float32 ``(N, 4)`` x1 y1 x2 y2 in source pixels.
        scores: float32 ``(N,)``.
        labels: int64 ``(N,)``.
        width, height: of the picture.
        iou: boxes of one class that overlap a better one by more are dropped.
        score: least score kept.
        limit: most boxes kept.
    """
    boxes = np.clip(boxes, 0, np.array([width, height, width, height], np.float32))
    good = (scores >= score) & (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1]) & np.isfinite(scores)
    boxes, scores, labels = (
        boxes[good].astype(np.float32),
        scores[good].astype(np.float32),
        labels[good].astype(np.int64),
    )
    kept = suppress(boxes, scores, labels, iou, limit)
    return Detections(boxes[kept], scores[kept], labels[kept], width, height)
