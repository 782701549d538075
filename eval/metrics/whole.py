"""Accuracies of heads that read a picture as a whole: top-k, mean intersection over union, mean average precision at k.

All are shares of 100. Each is summed up from what one picture gives, so that pictures can be resampled.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from vcm.errors import OptionError

__all__ = ["LabelAccuracy", "RetrievalAccuracy", "SegmentationAccuracy", "confusion", "label_accuracy",
           "retrieval_accuracy", "segmentation_accuracy"]  # fmt: skip


@dataclass(frozen=True, slots=True)
class LabelAccuracy:
    """Of one class a picture.

    Attributes:
        pictures: how many.
        top1: percent whose most probable class is theirs.
        top5: percent whose class is among the five most probable.
    """

    pictures: int
    top1: float
    top5: float


def label_accuracy(scores: npt.NDArray[np.floating], labels: Sequence[int]) -> LabelAccuracy:
    """Top-1 and top-5.

    Args:
        scores: (N, K), higher is more probable. Of equal scores the class with the lower index counts as the better.
        labels: N class indexes.

    Raises:
        OptionError: shapes differ, there is no picture, or a label is none of the classes.
    """
    truth = np.asarray(labels, np.int64)
    if scores.ndim != 2 or truth.shape != scores.shape[:1] or not len(truth):
        raise OptionError("scores and labels", expected="(N, K) and (N,), N above 0", found=(scores.shape, truth.shape))
    if truth.min() < 0 or truth.max() >= scores.shape[1]:
        raise OptionError(
            "a label is none of the classes", expected=f"0 to {scores.shape[1] - 1}", found=int(truth.max())
        )
    order = np.argsort(-scores, axis=1, kind="stable")
    hits = order == truth[:, None]
    return LabelAccuracy(len(truth), 100 * float(hits[:, 0].mean()), 100 * float(hits[:, :5].any(1).mean()))


@dataclass(frozen=True, slots=True)
class SegmentationAccuracy:
    """Of a class for each pixel.

    Attributes:
        pictures: how many.
        miou: percent: mean over the classes of intersection over union, both over all pictures' pixels (Pascal
            VOC's). A
            class that neither truth nor answers have is left out.
        pixels: percent of pixels that are right.
        per_class: intersection over union of each class, percent; ``None`` where it is left out.
    """

    pictures: int
    miou: float
    pixels: float
    per_class: tuple[float | None, ...] = field(repr=False)


def confusion(
    truth: npt.NDArray[np.integer], found: npt.NDArray[np.integer], classes: int, unlabelled: int = 255
) -> npt.NDArray[np.int64]:
    """How many pixels of each class were taken for each: int64 (classes, classes), truth by row.

    Args:
        truth, found: class indexes of one size.
        classes: how many there are.
        unlabelled: value of pixels of ``truth`` that do not count.

    Raises:
        OptionError: sizes differ, or an index is none of the classes.
    """
    if truth.shape != found.shape:
        raise OptionError("maps of different sizes", expected=truth.shape, found=found.shape)
    keep = truth != unlabelled
    rows, columns = truth[keep].astype(np.int64), found[keep].astype(np.int64)
    for part in (rows, columns):
        if part.size and not 0 <= part.min() <= part.max() < classes:
            raise OptionError("a class that is none", expected=f"0 to {classes - 1}", found=int(part.max()))
    return np.bincount(rows * classes + columns, minlength=classes**2).reshape(classes, classes)


def segmentation_accuracy(confusions: Sequence[npt.NDArray[np.int64]]) -> SegmentationAccuracy:
    """Accuracy from :func:`confusion` of each picture.

    Raises:
        OptionError: there is no pixel.
    """
    total = np.sum(np.stack(confusions), axis=0) if len(confusions) else np.zeros((1, 1), np.int64)
    if not total.sum():
        raise OptionError("no pixel has a class", expected="at least one", found=f"{len(confusions)} pictures")
    both = np.diag(total).astype(np.float64)
    union = total.sum(0) + total.sum(1) - both
    ious = [100 * float(b / u) if u else None for b, u in zip(both, union, strict=True)]
    there = [iou for iou in ious if iou is not None]
    return SegmentationAccuracy(
        len(confusions), sum(there) / len(there), 100 * float(both.sum() / total.sum()), tuple(ious)
    )


@dataclass(frozen=True, slots=True)
class RetrievalAccuracy:
    """Of finding pictures that belong together.

    Attributes:
        queries: how many.
        k: how many answers of each count.
        map_at_k: percent: mean over queries of the average precision of the first ``k`` answers.
        recall_at_1: percent of queries whose first answer belongs.
    """

    queries: int
    k: int
    map_at_k: float
    recall_at_1: float


def retrieval_accuracy(
    vectors: npt.NDArray[np.floating], groups: Sequence[int], queries: Sequence[int], k: int = 10
) -> RetrievalAccuracy:
    """Each query against all others; what belongs to its group is right.

    Average precision at k: the sum over the first k answers of precision so far where the answer is right, over the
    lesser of k and how many are right at all.

    Args:
        vectors: (N, D) of unit length.
        groups: N group numbers.
        queries: positions of those that are asked for; each has company in its group.
        k: how many answers count.

    Raises:
        OptionError: shapes differ, no query, or a query is alone in its group.
    """
    belongs = np.asarray(groups)
    if vectors.ndim != 2 or belongs.shape != vectors.shape[:1] or not len(queries) or k < 1:
        expected = "(N, D), N groups, at least one query, k above 0"
        raise OptionError(
            "nothing to retrieve", expected=expected, found=(vectors.shape, belongs.shape, len(queries), k)
        )
    similar = vectors[list(queries)] @ vectors.T
    similar[np.arange(len(queries)), list(queries)] = -np.inf
    order = np.argsort(-similar, axis=1, kind="stable")[:, : min(k, len(vectors) - 1)]
    right = belongs[order] == belongs[list(queries)][:, None]
    company = np.array([(belongs == belongs[q]).sum() - 1 for q in queries])
    if company.min() < 1:
        raise OptionError("a query is alone", expected="at least one other of its group", found=int(company.argmin()))
    precision = right.cumsum(1) / np.arange(1, right.shape[1] + 1)
    scores = (precision * right).sum(1) / np.minimum(company, k)
    return RetrievalAccuracy(len(queries), k, 100 * float(scores.mean()), 100 * float(right[:, 0].mean()))
