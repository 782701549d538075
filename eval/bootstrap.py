"""Confidence intervals by the bootstrap over pictures (percentile method; B. Efron, 1979).

A set of some hundred pictures gives an mAP that another set of that size would move by points. Here whole pictures are
drawn with replacement, and everything that a picture brings goes with it: its boxes, its detections and its bytes. Two
codecs are compared on the *same* draws, so that what makes a picture hard for both cancels.

Matching is done once (:class:`~vcm.eval.accuracy.MatchTable`); a draw only weights pictures, and average precision is
accumulated anew for all draws at once. With all weights one this equals pycocotools.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from vcm.errors import CurveError, OptionError
from vcm.eval.accuracy import RECALL_THRESHOLDS, DetectionAccuracy, MatchTable
from vcm.eval.bd import BDResult, Curve, Method, RDPoint, bd_accuracy, bd_rate

__all__ = [
    "MAX_REFUSED",
    "AccuracyIntervals",
    "AccuracySamples",
    "ConfidenceInterval",
    "ResampledCurve",
    "Resamples",
    "accumulate",
    "bootstrap",
    "bootstrap_bd_accuracy",
    "bootstrap_bd_rate",
    "bootstrap_difference",
    "draw_resamples",
    "percentile_interval",
    "resample_accuracy",
    "resample_bpp",
    "resample_mean",
]

MAX_REFUSED = 0.1
"""Share of draws in which a delta may be undefined (no overlap, say) before the interval is refused."""

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


@dataclass(frozen=True, slots=True)
class AccuracyIntervals:
    """Intervals of a :class:`~vcm.eval.accuracy.DetectionAccuracy`, or of the difference of two.

    Attributes:
        ap: of mAP@[.50:.95].
        ap50: of AP50.
        person_ap50: of the AP50 of ``person``, ``None`` where there are no such boxes.
        ap50_frequent: of the mean AP50 of the classes that are frequent *in the full set*, ``None`` where there are
            none.
    """

    ap: ConfidenceInterval
    ap50: ConfidenceInterval
    person_ap50: ConfidenceInterval | None
    ap50_frequent: ConfidenceInterval | None


@dataclass(frozen=True, slots=True, eq=False)
class ResampledCurve:
    """A curve on the full set together with the same curve in each draw.

    Attributes:
        curve: the ``P`` operating points on all pictures.
        rates: float64 ``(P, B)``, rate of each point in each draw, in the order of ``curve.points``.
        metrics: float64 ``(P, B)``, the metric likewise.
    """

    curve: Curve
    rates: npt.NDArray[np.float64] = field(repr=False)
    metrics: npt.NDArray[np.float64] = field(repr=False)

    def __post_init__(self) -> None:
        points = len(self.curve.points)
        if self.rates.ndim != 2 or len(self.rates) != points or self.rates.shape != self.metrics.shape:
            raise OptionError(
                f"draws of curve {self.curve.name!r} are of the wrong shape",
                expected=f"rates and metrics ({points}, B)",
                found=(self.rates.shape, self.metrics.shape),
            )


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


def bootstrap(
    accuracy: DetectionAccuracy, resamples: Resamples | None = None, *, level: float = 0.95
) -> AccuracyIntervals:
    """Confidence intervals of a detection accuracy over pictures.

    Args:
        accuracy: result of :func:`~vcm.eval.accuracy.evaluate_detections`.
        resamples: the draws; ``None`` draws 1,000 with seed 0.
        level: share of draws inside.

    Raises:
        OptionError: when the draws are of another number of pictures or ``level`` is out of range.
    """
    draws = resamples or draw_resamples(accuracy.images)
    samples = resample_accuracy(accuracy, draws)
    return _intervals(samples, (accuracy.ap, accuracy.ap50, accuracy.person_ap50, accuracy.ap50_frequent), level)


def bootstrap_difference(
    anchor: DetectionAccuracy, test: DetectionAccuracy, resamples: Resamples | None = None, *, level: float = 0.95
) -> AccuracyIntervals:
    """Confidence intervals of test minus anchor, in percent points, on the same draws of pictures for both.

    Raises:
        OptionError: when the two were not evaluated on the same pictures and ground truth, or as :func:`bootstrap`.
    """
    if anchor.matches.image_ids != test.matches.image_ids or anchor.ground_truth != test.ground_truth:
        raise OptionError(
            "a paired comparison needs the same pictures and ground truth",
            expected=f"{anchor.ground_truth}, {anchor.images} pictures",
            found=f"{test.ground_truth}, {test.images} pictures",
        )
    draws = resamples or draw_resamples(anchor.images)
    a, t = resample_accuracy(anchor, draws), resample_accuracy(test, draws)
    difference = AccuracySamples(
        t.ap - a.ap, t.ap50 - a.ap50, t.person_ap50 - a.person_ap50, t.ap50_frequent - a.ap50_frequent
    )
    estimates = (
        test.ap - anchor.ap,
        test.ap50 - anchor.ap50,
        _minus(test.person_ap50, anchor.person_ap50),
        _minus(test.ap50_frequent, anchor.ap50_frequent),
    )
    return _intervals(difference, estimates, level)


def _minus(a: float | None, b: float | None) -> float | None:
    return None if a is None or b is None else a - b


def _intervals(
    samples: AccuracySamples, estimates: tuple[float, float, float | None, float | None], level: float
) -> AccuracyIntervals:
    ap, ap50, person, frequent = estimates
    return AccuracyIntervals(
        ap=percentile_interval(samples.ap, ap, level=level),
        ap50=percentile_interval(samples.ap50, ap50, level=level),
        person_ap50=None if person is None else percentile_interval(samples.person_ap50, person, level=level),
        ap50_frequent=None if frequent is None else percentile_interval(samples.ap50_frequent, frequent, level=level),
    )


def bootstrap_bd_rate(
    anchor: ResampledCurve,
    test: ResampledCurve,
    *,
    method: Method = "pchip",
    accuracy_range: tuple[float, float] | None = None,
    within: tuple[float, float] | None = None,
    level: float = 0.95,
) -> ConfidenceInterval:
    """Confidence interval of a BD-rate: rate and accuracy of both codecs on the same draws of pictures.

    Draws in which the BD-rate is undefined are left out and counted in ``refused``.

    Raises:
        CurveError: the BD-rate of the full set is undefined, or that of more than :data:`MAX_REFUSED` of the draws.
        OptionError: the curves have different numbers of draws.
        MissingDependencyError: scipy is not installed.
    """
    return _bootstrap_bd(
        anchor, test, level, lambda a, t: bd_rate(a, t, method=method, accuracy_range=accuracy_range, within=within)
    )


def bootstrap_bd_accuracy(
    anchor: ResampledCurve, test: ResampledCurve, *, method: Method = "pchip", level: float = 0.95
) -> ConfidenceInterval:
    """Confidence interval of a BD-accuracy (BD-mAP, BD-PSNR); otherwise as :func:`bootstrap_bd_rate`."""
    return _bootstrap_bd(anchor, test, level, lambda a, t: bd_accuracy(a, t, method=method))


def _bootstrap_bd(
    anchor: ResampledCurve, test: ResampledCurve, level: float, delta: Callable[[Curve, Curve], BDResult]
) -> ConfidenceInterval:
    draws = anchor.rates.shape[1]
    if test.rates.shape[1] != draws:
        raise OptionError("curves have different numbers of draws", expected=draws, found=test.rates.shape[1])
    estimate = delta(anchor.curve, test.curve).value
    samples = np.full(draws, np.nan)
    for b in range(draws):
        try:
            samples[b] = delta(_drawn(anchor, b), _drawn(test, b)).value
        except CurveError:
            continue  # counted below: the sample stays NaN
    refused = int(np.isnan(samples).sum())
    if refused > MAX_REFUSED * draws:
        raise CurveError(
            f"the delta of {test.curve.name!r} against {anchor.curve.name!r} is undefined in too many draws",
            expected=f"at most {MAX_REFUSED:.0%}",
            found=f"{refused} of {draws}",
        )
    return percentile_interval(samples, estimate, level=level)


def _drawn(resampled: ResampledCurve, b: int) -> Curve:
    pairs: Sequence[tuple[float, float]] = list(
        zip(resampled.rates[:, b].tolist(), resampled.metrics[:, b].tolist(), strict=True)
    )
    points = tuple(RDPoint(rate, metric) for rate, metric in pairs)
    return Curve(resampled.curve.name, points, resampled.curve.higher_is_better)
