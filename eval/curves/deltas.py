"""BD-rate and BD-accuracy of one curve against another, with intervals, or the reason why there is none."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from vcm.errors import CurveError
from vcm.eval.curves.bd import BDResult, Curve, Method, bd_accuracy, bd_rate
from vcm.eval.curves.resampled import ResampledCurve, bootstrap_bd_rate

__all__ = ["Delta", "accuracy_delta", "rate_delta", "relative"]


@dataclass(frozen=True, slots=True)
class Delta:
    """A delta of a test curve against an anchor, or the reason why there is none.

    Attributes:
        value: percent of the anchor's rate, or a difference of the metric; ``None`` where it was refused.
        low, high: 95 % interval over pictures, ``None`` where none was asked for or it was refused.
        refusal: why there is no value, or why there is no interval; empty where there are both.
        start, end: where it was integrated: metric values of a rate delta, rates of an accuracy delta.
        overlap: the curves' common range over the union of their ranges, 0 … 1.
        dropped, against_dropped: labels of the points that the Pareto filter left out of the test curve and the anchor.
        undefined, draws: draws without a value, of how many.
    """

    value: float | None = None
    low: float | None = None
    high: float | None = None
    refusal: str = ""
    start: float | None = None
    end: float | None = None
    overlap: float | None = None
    dropped: tuple[str, ...] = ()
    against_dropped: tuple[str, ...] = ()
    undefined: int = 0
    draws: int = 0


def rate_delta(
    anchor: ResampledCurve,
    test: ResampledCurve,
    *,
    within: tuple[float, float] | None = None,
    method: Method = "pchip",
    intervals: bool = True,
) -> Delta:
    """BD-rate in percent. Never raises for curves that cannot be compared.

    Args:
        anchor, test: the curves.
        within: metric interval outside of which nothing is compared.
        method: of interpolation.
        intervals: compute the interval over pictures too.
    """
    try:
        found = _delta(bd_rate(anchor.curve, test.curve, within=within, method=method))
    except CurveError as error:
        return Delta(refusal=str(error))
    if not intervals:
        return found
    try:
        interval = bootstrap_bd_rate(anchor, test, within=within, method=method)
    except CurveError as error:
        return replace(found, refusal=str(error))
    draws = interval.resamples + interval.refused
    return replace(found, low=interval.low, high=interval.high, undefined=interval.refused, draws=draws)


def accuracy_delta(anchor: ResampledCurve, test: ResampledCurve) -> Delta:
    """BD-accuracy in the metric's unit. Never raises for curves that cannot be compared."""
    try:
        return _delta(bd_accuracy(anchor.curve, test.curve))
    except CurveError as error:
        return Delta(refusal=str(error))


def relative(curve: ResampledCurve, ceiling: float, samples: npt.NDArray[np.float64]) -> ResampledCurve:
    """A curve in percent of a ceiling, which was measured on the same draws.

    Args:
        curve: the curve.
        ceiling: on all pictures, above 0.
        samples: float64 ``(B,)``, the ceiling in each draw; a draw without one has no curve.
    """
    points = tuple(replace(point, metric=100 * point.metric / ceiling) for point in curve.curve.points)
    with np.errstate(divide="ignore", invalid="ignore"):
        metrics = 100 * curve.metrics / samples
    return ResampledCurve(Curve(curve.curve.name, points, curve.curve.higher_is_better), curve.rates, metrics)


def _delta(result: BDResult) -> Delta:
    test, anchor = (
        tuple(point.label or f"{point.rate:.3g} bpp" for point in dropped)
        for dropped in (result.test_dropped, result.anchor_dropped)
    )
    start, end = result.interval
    return Delta(result.value, start=start, end=end, overlap=result.overlap, dropped=test, against_dropped=anchor)
