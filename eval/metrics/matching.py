"""Which detections match which boxes, by pycocotools: run once, laid out so that pictures can be resampled."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from vcm.errors import MissingDependencyError
from vcm.io.coco import CocoGroundTruth

__all__ = [
    "IOU_THRESHOLDS", "MAX_DETECTIONS", "RECALL_THRESHOLDS", "MatchTable", "match_table", "run_coco",
]  # fmt: skip

IOU_THRESHOLDS: npt.NDArray[np.float64] = np.linspace(0.5, 0.95, 10)
"""COCO's ten IoU thresholds, 0.50 … 0.95."""

RECALL_THRESHOLDS: npt.NDArray[np.float64] = np.linspace(0.0, 1.0, 101)
"""COCO's 101 recall points."""

MAX_DETECTIONS = 100
"""Detections of one class that count in one picture, best first."""


@dataclass(frozen=True, slots=True, eq=False)
class MatchTable:
    """Which detections matched, picture by picture: all that average precision needs, so that pictures can be
    resampled.

    Detections stand class after class (class ``k`` has rows ``starts[k]:starts[k+1]``), within a class by descending
    score, equal scores in the order of the pictures.

    Attributes:
        image_ids: the ``N`` pictures evaluated, ascending.
        category_ids: the ``K`` classes, ascending.
        positives: int64 ``(K, N)``, annotated boxes by class and picture, crowds not counted.
        starts: int64 ``(K + 1,)``.
        picture: int64 ``(D,)``, index into ``image_ids``.
        matched: bool ``(T, D)``, true positive at IoU threshold ``t``.
        ignored: bool ``(T, D)``, lies on a crowd at threshold ``t`` and so counts neither way.
    """

    image_ids: tuple[int, ...]
    category_ids: tuple[int, ...]
    positives: npt.NDArray[np.int64]
    starts: npt.NDArray[np.int64]
    picture: npt.NDArray[np.int64]
    matched: npt.NDArray[np.bool_]
    ignored: npt.NDArray[np.bool_]


def run_coco(
    truth: dict[str, Any],
    rows: list[dict[str, Any]],
    kind: Literal["bbox", "keypoints"],
    most: int,
    sigmas: Sequence[float] | None = None,
) -> Any:
    """A COCOeval that has evaluated and accumulated, all object sizes only.

    Args:
        truth: content of an annotation file.
        rows: annotation rows of what was found, numbered from 1, with area.
        kind: what is compared.
        most: objects counted in a picture and class.
        sigmas: of keypoints, one each.

    Raises:
        MissingDependencyError: pycocotools is not installed.
    """
    try:
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval
    except ImportError as error:
        raise MissingDependencyError("pycocotools is not installed: pip install 'vcm[eval]'") from error
    with contextlib.redirect_stdout(io.StringIO()):
        annotated, found = COCO(), COCO()
        annotated.dataset = truth
        annotated.createIndex()
        # COCO.loadRes fails on an empty list, so the results are laid out as it would.
        found.dataset = {**truth, "annotations": rows}
        found.createIndex()
        evaluation = COCOeval(annotated, found, kind)
        if sigmas is not None:
            evaluation.params.kpt_oks_sigmas = np.asarray(sigmas, np.float64)
        evaluation.params.iouThrs = IOU_THRESHOLDS
        evaluation.params.recThrs = RECALL_THRESHOLDS
        evaluation.params.maxDets = [most]
        evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0.0, 1e10]], ["all"]
        evaluation.evaluate()
        evaluation.accumulate()
    return evaluation


def match_table(evaluation: Any, ground_truth: CocoGroundTruth) -> MatchTable:
    """Every detection's matches of an accumulated pycocotools evaluation, in the form that resampling reads."""
    images, categories = ground_truth.image_ids, ground_truth.category_ids
    thresholds = len(IOU_THRESHOLDS)
    positives = np.zeros((len(categories), len(images)), np.int64)
    starts = np.zeros(len(categories) + 1, np.int64)
    empty = np.zeros((thresholds, 0), np.bool_)
    picture, matched, ignored = [np.zeros(0, np.int64)], [empty], [empty]
    for k in range(len(categories)):
        # COCOeval lists its results class by class, each in the order of the pictures (one area range).
        results = evaluation.evalImgs[k * len(images) : (k + 1) * len(images)]
        scores, pictures, hits, skips = [np.zeros(0)], [np.zeros(0, np.int64)], [empty], [empty]
        for n, result in enumerate(results):
            if result is None:
                continue
            positives[k, n] = np.count_nonzero(np.asarray(result["gtIgnore"]) == 0)
            scores.append(np.asarray(result["dtScores"], np.float64))
            pictures.append(np.full(len(result["dtScores"]), n, np.int64))
            skip = np.asarray(result["dtIgnore"], np.bool_).reshape(thresholds, -1)
            hits.append((np.asarray(result["dtMatches"]).reshape(thresholds, -1) > 0) & ~skip)
            skips.append(skip)
        order = np.argsort(-np.concatenate(scores), kind="mergesort")
        picture.append(np.concatenate(pictures)[order])
        matched.append(np.concatenate(hits, axis=1)[:, order])
        ignored.append(np.concatenate(skips, axis=1)[:, order])
        starts[k + 1] = starts[k] + len(order)
    return MatchTable(
        image_ids=images,
        category_ids=categories,
        positives=positives,
        starts=starts,
        picture=np.concatenate(picture),
        matched=np.concatenate(matched, axis=1),
        ignored=np.concatenate(ignored, axis=1),
    )
