"""Curves on all pictures together with the same curves in each draw of pictures, and intervals of their deltas."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from vcm.errors import CurveError, OptionError
from vcm.eval.curves.bd import BDResult, Curve, Method, RDPoint, bd_rate
from vcm.eval.metrics.bootstrap import ConfidenceInterval, percentile_interval

__all__ = ["MAX_REFUSED", "ResampledCurve", "bootstrap_bd_rate"]

MAX_REFUSED = 0.1
"""Share of draws in which a delta may be undefined (no overlap, say) before the interval is refused."""


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
    draws = anchor.rates.shape[1]
    if test.rates.shape[1] != draws:
        raise OptionError("curves have different numbers of draws", expected=draws, found=test.rates.shape[1])

    def delta(a: Curve, t: Curve) -> BDResult:
        return bd_rate(a, t, method=method, accuracy_range=accuracy_range, within=within)

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
