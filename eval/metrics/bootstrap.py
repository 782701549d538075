"""Confidence intervals by the bootstrap over pictures (percentile method; B. Efron, 1979).

A set of some hundred pictures gives an mAP that another set of that size would move by points. Here whole pictures are
drawn with replacement, and everything that a picture brings goes with it: its boxes, its detections and its bytes. Two
codecs are compared on the *same* draws, so that what makes a picture hard for both cancels.

Matching is done once (:class:`~vcm.eval.metrics.matching.MatchTable`); a draw only weights pictures, and average
precision is accumulated anew for all draws at once. With all weights one this equals pycocotools.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vcm.errors import OptionError
from vcm.eval.metrics.detection import DetectionAccuracy
from vcm.eval.metrics.matching import RECALL_THRESHOLDS, MatchTable

__all__ = [
    "AccuracySamples",
    "ConfidenceInterval",
    "Resamples",
    "accumulate",
    "draw_resamples",
    "percentile_interval",
    "resample_accuracy",
    "resample_bpp",
    "resample_mean",
]

_BLOCK = 1 << 21
"""Weights gathered at once: bounds memory to some tens of MB whatever the number of detections."""


@dataclass(frozen=True, slots=True)
class ConfidenceInterval:
    """A value of the full set of pictures and its percentile interval.

    Attributes:
        estimate: value on all pictures, each once.
        low: lower end.
        high: upper end.
        level: share of draws inside, such as 0.95.
        resamples: draws that gave a value.
        refused: draws that gave none (no annotated box of the class drawn, curves that do not overlap, …).
    """

    estimate: float
    low: float
    high: float
    level: float
    resamples: int
    refused: int


@dataclass(frozen=True, slots=True, eq=False)
class Resamples:
    """Draws of pictures with replacement.

    Attributes:
        counts: int64 ``(B, N)``, how often each of ``N`` pictures is in each of ``B`` draws; rows sum to ``N``.
        seed: what they were drawn from.
    """

    counts: npt.NDArray[np.int64]
    seed: int


@dataclass(frozen=True, slots=True, eq=False)
class AccuracySamples:
    """Accuracy in each draw: float64 ``(B,)`` each, percent, NaN where a draw has no box of the classes concerned."""

    ap: npt.NDArray[np.float64]
    ap50: npt.NDArray[np.float64]
    person_ap50: npt.NDArray[np.float64]
    ap50_frequent: npt.NDArray[np.float64]


def draw_resamples(pictures: int, count: int = 1000, *, seed: int = 0) -> Resamples:
    """Draw ``count`` sets of ``pictures`` pictures with replacement. The same arguments give the same draws.

    Raises:
        OptionError: when either number is not positive.
    """
    if pictures < 1 or count < 1:
        raise OptionError("nothing to draw", expected="pictures >= 1 and count >= 1", found=(pictures, count))
    rng = np.random.default_rng(seed)
    return Resamples(rng.multinomial(pictures, np.full(pictures, 1.0 / pictures), size=count).astype(np.int64), seed)


def accumulate(table: MatchTable, counts: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Average precision of every class at every IoU threshold with every picture counted several times or never.

    Args:
        table: the matches.
        counts: int64 ``(B, N)``, how often each picture counts.

    Returns:
        float64 ``(B, K, T)`` in percent, NaN where the pictures drawn hold no annotated box of the class.

    Raises:
        OptionError: when ``counts`` is not of the table's number of pictures.
    """
    pictures = len(table.image_ids)
    if counts.ndim != 2 or counts.shape[1] != pictures:
        raise OptionError("draws are of another set of pictures", expected=f"(B, {pictures})", found=counts.shape)
    classes, thresholds = len(table.category_ids), len(table.matched)
    positives = counts @ table.positives.T
    result = np.full((len(counts), classes, thresholds), np.nan)
    for k in range(classes):
        rows = slice(int(table.starts[k]), int(table.starts[k + 1]))
        picture = table.picture[rows]
        step = max(1, _BLOCK // max(1, len(picture)))
        for first in range(0, len(counts), step):
            block = slice(first, first + step)
            weights = counts[block][:, picture]
            for t in range(thresholds):
                result[block, k, t] = _average_precision(
                    weights, table.matched[t, rows], table.ignored[t, rows], positives[block, k]
                )
    return 100.0 * result


def _average_precision(
    weights: npt.NDArray[np.int64],
    matched: npt.NDArray[np.bool_],
    ignored: npt.NDArray[np.bool_],
    positives: npt.NDArray[np.int64],
) -> npt.NDArray[np.float64]:
    """COCO's interpolated average precision, 0 … 1, for ``(B, D)`` weights of detections in descending score."""
    kept = np.flatnonzero(~ignored)
    hits = np.flatnonzero(matched[kept])
    value = np.where(positives > 0, 0.0, np.nan)
    if len(hits) == 0:
        return value
    # Precision can only rise at a true positive, so its envelope and the recall steps need these columns only. Copies
    # of one detection stand side by side, and along such a run the precision of a true positive only rises: the last
    # copy, which this column is, gives the envelope of them all.
    detections = np.cumsum(weights[:, kept], axis=1)[:, hits].astype(np.float64)
    true = np.cumsum(weights[:, kept[hits]], axis=1).astype(np.float64)
    precision = true / (detections + np.spacing(1))
    envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    recall = true / np.maximum(positives, 1)[:, None]
    # How many of the 101 recall points this column is the first to reach.
    reached = np.searchsorted(RECALL_THRESHOLDS, recall, side="right")
    reached[:, 1:] -= reached[:, :-1].copy()
    value += (envelope * reached).sum(axis=1) / len(RECALL_THRESHOLDS)
    return value


def resample_accuracy(accuracy: DetectionAccuracy, resamples: Resamples) -> AccuracySamples:
    """Accuracy in each draw.

    Raises:
        OptionError: when the draws are of another number of pictures.
    """
    table = accuracy.matches
    by_class = accumulate(table, resamples.counts)
    frequent = np.isin(table.category_ids, accuracy.frequent_category_ids)
    person = np.asarray(table.category_ids) == accuracy.person_category_id
    ap50 = by_class[:, :, 0]
    return AccuracySamples(
        ap=_mean_over_classes(by_class.mean(axis=2)),
        ap50=_mean_over_classes(ap50),
        person_ap50=_mean_over_classes(ap50[:, person]),
        ap50_frequent=_mean_over_classes(ap50[:, frequent]),
    )


def _mean_over_classes(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Mean over axis 1 of the classes that have boxes in the draw, NaN where none has."""
    present = ~np.isnan(values)
    count = present.sum(axis=1)
    total = np.where(present, values, 0.0).sum(axis=1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def resample_bpp(file_bytes: npt.ArrayLike, pixels: npt.ArrayLike, resamples: Resamples) -> npt.NDArray[np.float64]:
    """Bits per source pixel in each draw: all bits over all pixels, each picture as often as it was drawn.

    Args:
        file_bytes: ``(N,)``, bytes of each picture's file, header included, in the order of the evaluation's pictures.
        pixels: ``(N,)``, width × height of each source picture.
        resamples: the draws.

    Raises:
        OptionError: when a length differs from the draws' number of pictures or a picture has no pixels.
    """
    size, area = _per_picture(file_bytes, resamples), _per_picture(pixels, resamples)
    if not (area > 0).all():
        raise OptionError("a picture has no pixels", expected="pixels > 0", found=float(area.min()))
    return np.asarray(8.0 * (resamples.counts @ size) / (resamples.counts @ area), np.float64)


def resample_mean(values: npt.ArrayLike, resamples: Resamples) -> npt.NDArray[np.float64]:
    """Mean over pictures of a per-picture value (PSNR, say) in each draw.

    Raises:
        OptionError: when there is not one value a picture.
    """
    return np.asarray((resamples.counts @ _per_picture(values, resamples)) / resamples.counts.sum(axis=1), np.float64)


def _per_picture(values: npt.ArrayLike, resamples: Resamples) -> npt.NDArray[np.float64]:
    array = np.asarray(values, np.float64)
    if array.shape != (resamples.counts.shape[1],):
        raise OptionError("needs one value a picture", expected=(resamples.counts.shape[1],), found=array.shape)
    return array


def percentile_interval(
    samples: npt.NDArray[np.float64], estimate: float, *, level: float = 0.95
) -> ConfidenceInterval:
    """Percentile interval of draws; NaN draws are left out and counted.

    Raises:
        OptionError: when ``level`` is not between 0 and 1 or no draw has a value.
    """
    if not 0.0 < level < 1.0:
        raise OptionError("level is out of range", expected="0 < level < 1", found=level)
    valid = samples[~np.isnan(samples)]
    if len(valid) == 0:
        raise OptionError("no draw has a value", expected="at least one", found=f"{len(samples)} draws without")
    low, high = np.quantile(valid, [(1.0 - level) / 2.0, (1.0 + level) / 2.0])
    return ConfidenceInterval(estimate, float(low), float(high), level, len(valid), len(samples) - len(valid))
