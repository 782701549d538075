"""BD-rate and BD-accuracy of one curve against another, with intervals, or the reason why there is none."""

from __future__ import annotations

from dataclasses import dataclass

from vcm.errors import CurveError
from vcm.eval.bd import BDResult, bd_accuracy, bd_rate
from vcm.eval.bootstrap import ResampledCurve, bootstrap_bd_rate

__all__ = ["Deltas", "compare_curves"]


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


def _remarks(result: BDResult) -> list[str]:
    remarks = [f"common range {result.interval[0]:.4g} to {result.interval[1]:.4g} ({result.overlap:.0%})"]
    for name, dropped in ((result.anchor, result.anchor_dropped), (result.test, result.test_dropped)):
        if dropped:
            labels = ", ".join(point.label or f"{point.rate:.3g} bpp" for point in dropped)
            remarks.append(f"Pareto filter left out {labels} of {name}")
    return remarks
