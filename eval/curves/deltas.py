"""BD-rate and BD-accuracy of one curve against another, with intervals, or the reason why there is none."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from vcm.errors import CurveError
from vcm.eval.curves.bd import BDResult, Curve, bd_accuracy, bd_rate
from vcm.eval.curves.resampled import ResampledCurve, bootstrap_bd_rate

__all__ = ["Deltas", "IntervalDelta", "compare_curves", "compare_within", "relative"]


@dataclass(frozen=True, slots=True)
class Deltas:
    """Comparison of a test curve with an anchor.

    Attributes:
        rate: BD-rate in percent by PCHIP, ``None`` where it was refused.
        rate_low, rate_high: 95 % interval over pictures, ``None`` where it was refused.
        rate_akima: the same by Akima, as a check on the interpolation.
        accuracy: BD-accuracy in the quantity's unit.
        note: reason of a refusal; Pareto points that were left out; how far the curves overlap.
        accuracy_note: likewise for ``accuracy``.
    """

    rate: float | None
    rate_low: float | None
    rate_high: float | None
    rate_akima: float | None
    accuracy: float | None
    note: str
    accuracy_note: str


def compare_curves(anchor: ResampledCurve, test: ResampledCurve) -> Deltas:
    """Never raises for curves that cannot be compared: the notes then say why."""
    rate = low = high = akima = accuracy = None
    notes: list[str] = []
    accuracy_note = ""
    try:
        result = bd_rate(anchor.curve, test.curve)
        rate = result.value
        notes += _remarks(result)
        interval = bootstrap_bd_rate(anchor, test)
        low, high = interval.low, interval.high
        if interval.refused:
            notes.append(f"undefined in {interval.refused} of {interval.refused + interval.resamples} draws")
    except CurveError as error:
        notes.append(str(error))
    try:
        akima = bd_rate(anchor.curve, test.curve, method="akima").value
    except CurveError:
        akima = None  # for the reason that the PCHIP row gives
    try:
        accuracy = bd_accuracy(anchor.curve, test.curve).value
    except CurveError as error:
        accuracy_note = str(error)
    return Deltas(rate, low, high, akima, accuracy, "; ".join(notes), accuracy_note)


@dataclass(frozen=True, slots=True)
class IntervalDelta:
    """BD-rate over an interval of accuracy.

    Attributes:
        rate: in percent by PCHIP, ``None`` where it was refused.
        low, high: 95 % interval over pictures, ``None`` where it was refused.
        covered: how much of the interval of accuracy was integrated, percent; ``None`` where it was refused.
        note: which part of the interval was integrated, or the reason of a refusal.
    """

    rate: float | None
    low: float | None
    high: float | None
    covered: float | None
    note: str


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


def compare_within(anchor: ResampledCurve, test: ResampledCurve, low: float, high: float) -> IntervalDelta:
    """BD-rate over the part of ``low`` … ``high`` percent that both curves reach; refused where there is none.

    Args:
        anchor, test: from :func:`relative`.
        low, high: percent of the ceiling.
    """
    try:
        result = bd_rate(anchor.curve, test.curve, within=(low, high))
    except CurveError as error:
        return IntervalDelta(None, None, None, None, str(error))
    start, end = result.interval
    covered = 100 * (end - start) / (high - low)
    notes = [f"integrated {start:.1f} to {end:.1f} %, {covered:.0f}% of the interval"]
    notes += _remarks(result)[1:]
    bounds: tuple[float, float] | None = None
    try:
        interval = bootstrap_bd_rate(anchor, test, within=(low, high))
        bounds = interval.low, interval.high
        if interval.refused:
            notes.append(f"undefined in {interval.refused} of {interval.refused + interval.resamples} draws")
    except CurveError as error:
        notes.append(str(error))
    ends = bounds or (None, None)
    return IntervalDelta(result.value, ends[0], ends[1], covered, "; ".join(notes))


def _remarks(result: BDResult) -> list[str]:
    remarks = [f"common range {result.interval[0]:.4g} to {result.interval[1]:.4g} ({result.overlap:.0%})"]
    for name, dropped in ((result.anchor, result.anchor_dropped), (result.test, result.test_dropped)):
        if dropped:
            labels = ", ".join(point.label or f"{point.rate:.3g} bpp" for point in dropped)
            remarks.append(f"Pareto filter left out {labels} of {name}")
    return remarks
