"""Bjøntegaard deltas between two rate–accuracy curves, with everything that was left out said in the result.

BD-rate is the mean difference of log-rate at equal metric, BD-accuracy the mean difference of the metric at equal
log-rate (G. Bjøntegaard, VCEG-M33, 2001). The curves are interpolated by PCHIP, as JVET and MPEG do, or by Akima
splines (C. Herglotz et al., "The Bjøntegaard Bible", 2024, finds Akima the most accurate). No cubic polynomial fit: it
oscillates on rate–mAP curves.

Only points on a curve's Pareto front are interpolated; the others are listed in the result. Two curves with fewer than
four such points, or without a common range, are refused with :class:`~vcm.errors.CurveError`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from vcm.errors import CurveError, MissingDependencyError, OptionError

__all__ = [
    "MIN_POINTS",
    "BDResult",
    "Curve",
    "Method",
    "ParetoFront",
    "RDPoint",
    "bd_accuracy",
    "bd_rate",
    "pareto_front",
]

Method = Literal["pchip", "akima"]

MIN_POINTS = 4
"""Pareto points that each curve must have (MPEG VCM and JVET common test conditions)."""


@dataclass(frozen=True, slots=True)
class RDPoint:
    """One operating point of a codec.

    Attributes:
        rate: bits per source pixel, or any other positive rate in the same unit on both curves.
        metric: accuracy or quality at that rate.
        label: what the operating point is called, such as ``"q=30"``.
    """

    rate: float
    metric: float
    label: str = ""


@dataclass(frozen=True, slots=True)
class Curve:
    """The operating points of one codec, in any order.

    Attributes:
        name: what the codec is called.
        points: the operating points.
        higher_is_better: whether more of the metric is better (PSNR, mAP) or worse (NLPD).
    """

    name: str
    points: tuple[RDPoint, ...]
    higher_is_better: bool = True

    @classmethod
    def from_arrays(
        cls, name: str, rates: Sequence[float], metrics: Sequence[float], *, higher_is_better: bool = True
    ) -> Curve:
        """A curve of unlabelled points.

        Raises:
            OptionError: when there are not as many rates as metrics.
        """
        if len(rates) != len(metrics):
            raise OptionError("a curve needs as many rates as metrics", expected=len(rates), found=len(metrics))
        points = tuple(RDPoint(float(r), float(m)) for r, m in zip(rates, metrics, strict=True))
        return cls(name, points, higher_is_better)


@dataclass(frozen=True, slots=True)
class ParetoFront:
    """A curve split into its Pareto front and the rest.

    Attributes:
        kept: points that no other point beats, by ascending rate; rate and accuracy both strictly improve along it.
        dropped: points for which another point has no higher rate and no worse metric, by ascending rate.
    """

    kept: tuple[RDPoint, ...]
    dropped: tuple[RDPoint, ...]


@dataclass(frozen=True, slots=True)
class BDResult:
    """A Bjøntegaard delta of a test curve against an anchor, and what it rests on.

    Attributes:
        value: BD-rate in percent (negative: the test codec needs fewer bits), or BD-accuracy in the metric's own unit
            (test minus anchor, whichever direction is better).
        kind: ``"rate"`` or ``"accuracy"``.
        method: how the curves were interpolated.
        interval: where the two curves were compared: metric values for BD-rate, rates for BD-accuracy; low, high.
        overlap: length of the curves' common range over that of the union of their ranges, 0 … 1 (log-rate for
            BD-accuracy).
        anchor: name of the anchor curve.
        test: name of the test curve.
        anchor_used: Pareto points of the anchor, by ascending rate.
        test_used: Pareto points of the test curve, by ascending rate.
        anchor_dropped: points of the anchor that the Pareto filter left out.
        test_dropped: points of the test curve that the Pareto filter left out.
    """

    value: float
    kind: Literal["rate", "accuracy"]
    method: Method
    interval: tuple[float, float]
    overlap: float
    anchor: str
    test: str
    anchor_used: tuple[RDPoint, ...]
    test_used: tuple[RDPoint, ...]
    anchor_dropped: tuple[RDPoint, ...]
    test_dropped: tuple[RDPoint, ...]


def pareto_front(curve: Curve) -> ParetoFront:
    """Split ``curve`` into the points that no other point beats and the rest.

    Of two points with the same rate and the same metric the first is kept. To get the front over several curves
    (scales of a resampled anchor, say), join their points into one :class:`Curve`.

    Raises:
        CurveError: when a rate is not a positive number or a metric is not finite (a lossless point has no finite
            PSNR).
    """
    for point in curve.points:
        if not (math.isfinite(point.rate) and point.rate > 0):
            raise CurveError(f"a rate of curve {curve.name!r} is unusable", expected="a number > 0", found=point.rate)
        if not math.isfinite(point.metric):
            raise CurveError(f"a metric of curve {curve.name!r} is unusable", expected="a number", found=point.metric)
    sign = 1.0 if curve.higher_is_better else -1.0
    kept: list[RDPoint] = []
    dropped: list[RDPoint] = []
    for point in sorted(curve.points, key=lambda p: (p.rate, -sign * p.metric)):
        beaten = kept and sign * point.metric <= sign * kept[-1].metric
        (dropped if beaten else kept).append(point)
    return ParetoFront(tuple(kept), tuple(dropped))


def bd_rate(
    anchor: Curve,
    test: Curve,
    *,
    method: Method = "pchip",
    accuracy_range: tuple[float, float] | None = None,
    within: tuple[float, float] | None = None,
) -> BDResult:
    """Mean difference of rate at equal metric, in percent of the anchor's rate.

    log10(rate) is interpolated as a function of the metric and averaged over the metric values that both curves reach,
    or over ``accuracy_range``.

    Args:
        anchor: the curve to compare with.
        test: the curve under test.
        method: ``"pchip"`` or ``"akima"``.
        accuracy_range: fixed metric interval ``(low, high)``, which both curves must cover.
        within: metric interval ``(low, high)`` outside of which nothing is compared; both curves must reach into it,
            and are compared over the part that both reach.

    Raises:
        CurveError: fewer than four Pareto points, no common range, a curve that does not cover ``accuracy_range``, or
            one that does not reach into ``within``.
        OptionError: an unknown method, an empty range, or curves of opposite direction.
        MissingDependencyError: scipy is not installed.
    """
    anchor_front, test_front = _fronts(anchor, test)
    # Along a Pareto front of a lower-is-better metric the metric falls as the rate grows; abscissae must ascend.
    a, t = (_ascending([(p.metric, math.log10(p.rate)) for p in f.kept]) for f in (anchor_front, test_front))
    if within is not None:
        for curve, (metrics, _) in ((anchor, a), (test, t)):
            _check_reach(curve, metrics, within)
    low, high, overlap = _common_range(a[0], t[0], anchor, test, "metric")
    if within is not None:
        low, high = max(low, within[0]), min(high, within[1])
        if high <= low:
            raise CurveError(
                f"curves {anchor.name!r} and {test.name!r} have no common range inside the interval",
                expected=f"some of {within[0]:.6g} … {within[1]:.6g}",
                found=f"{max(a[0][0], t[0][0]):.6g} … {min(a[0][-1], t[0][-1]):.6g}",
            )
    if accuracy_range is not None:
        low, high = _fixed_range(accuracy_range, low, high)
    delta = _mean_difference(a, t, low, high, method)
    return _result(
        100.0 * (10.0**delta - 1.0), "rate", method, (low, high), overlap, anchor, test, anchor_front, test_front
    )


def bd_accuracy(anchor: Curve, test: Curve, *, method: Method = "pchip") -> BDResult:
    """Mean difference of the metric (test minus anchor) at equal log-rate, in the metric's unit.

    With mAP as metric this is BD-mAP, with PSNR it is BD-PSNR. The metric is interpolated as a function of log10(rate)
    and averaged over the rates that both curves reach.

    Args:
        anchor: the curve to compare with.
        test: the curve under test.
        method: ``"pchip"`` or ``"akima"``.

    Raises:
        CurveError: fewer than four Pareto points or no common range of rates.
        OptionError: an unknown method, or curves of opposite direction.
        MissingDependencyError: scipy is not installed.
    """
    anchor_front, test_front = _fronts(anchor, test)
    a, t = (_ascending([(math.log10(p.rate), p.metric) for p in f.kept]) for f in (anchor_front, test_front))
    low, high, overlap = _common_range(a[0], t[0], anchor, test, "log10 rate")
    delta = _mean_difference(a, t, low, high, method)
    interval = (10.0**low, 10.0**high)
    return _result(delta, "accuracy", method, interval, overlap, anchor, test, anchor_front, test_front)


def _fronts(anchor: Curve, test: Curve) -> tuple[ParetoFront, ParetoFront]:
    if anchor.higher_is_better != test.higher_is_better:
        raise OptionError(
            "two curves of opposite direction cannot be compared",
            expected=f"higher_is_better={anchor.higher_is_better}",
            found=f"higher_is_better={test.higher_is_better}",
        )
    fronts = pareto_front(anchor), pareto_front(test)
    for curve, front in zip((anchor, test), fronts, strict=True):
        if len(front.kept) < MIN_POINTS:
            raise CurveError(
                f"curve {curve.name!r} has too few Pareto points",
                expected=f"at least {MIN_POINTS}",
                found=f"{len(front.kept)} ({len(front.dropped)} of {len(curve.points)} points are beaten by others)",
            )
    return fronts


def _ascending(pairs: list[tuple[float, float]]) -> tuple[list[float], list[float]]:
    ordered = sorted(pairs)
    return [x for x, _ in ordered], [y for _, y in ordered]


def _common_range(a: list[float], t: list[float], anchor: Curve, test: Curve, axis: str) -> tuple[float, float, float]:
    """Low and high end of the common range of two ascending lists, and its share of their union."""
    low, high = max(a[0], t[0]), min(a[-1], t[-1])
    if high <= low:
        raise CurveError(
            f"curves {anchor.name!r} and {test.name!r} have no common range of {axis}",
            expected=f"some of {a[0]:.6g} … {a[-1]:.6g}",
            found=f"{t[0]:.6g} … {t[-1]:.6g}",
        )
    return low, high, (high - low) / (max(a[-1], t[-1]) - min(a[0], t[0]))


def _check_reach(curve: Curve, metrics: Sequence[float], within: tuple[float, float]) -> None:
    """``metrics`` ascend."""
    if not within[0] < within[1]:
        raise OptionError("within is empty", expected="low < high", found=within)
    if metrics[-1] <= within[0] or metrics[0] >= within[1]:
        raise CurveError(
            f"curve {curve.name!r} does not reach into the interval",
            expected=f"some of {within[0]:.6g} … {within[1]:.6g}",
            found=f"{metrics[0]:.6g} … {metrics[-1]:.6g}",
        )


def _fixed_range(wanted: tuple[float, float], low: float, high: float) -> tuple[float, float]:
    if not wanted[0] < wanted[1]:
        raise OptionError("accuracy_range is empty", expected="low < high", found=wanted)
    if wanted[0] < low or wanted[1] > high:
        raise CurveError(
            "the fixed accuracy range is not covered by both curves",
            expected=f"{wanted[0]:.6g} … {wanted[1]:.6g}",
            found=f"common range {low:.6g} … {high:.6g}",
        )
    return wanted


def _mean_difference(
    a: tuple[list[float], list[float]], t: tuple[list[float], list[float]], low: float, high: float, method: Method
) -> float:
    """Mean over [low, high] of the interpolated test curve minus the interpolated anchor."""
    interpolate = _interpolator(method)
    integral = [float(interpolate(np.asarray(x), np.asarray(y)).integrate(low, high)) for x, y in (a, t)]
    return (integral[1] - integral[0]) / (high - low)


def _interpolator(method: Method) -> Callable[..., Any]:
    try:
        from scipy.interpolate import Akima1DInterpolator, PchipInterpolator
    except ImportError as error:
        raise MissingDependencyError("scipy is not installed: pip install 'vcm[eval]'") from error
    interpolators: dict[str, Callable[..., Any]] = {"pchip": PchipInterpolator, "akima": Akima1DInterpolator}
    if method not in interpolators:
        raise OptionError("no such interpolation", expected="pchip or akima", found=method)
    return interpolators[method]


def _result(
    value: float,
    kind: Literal["rate", "accuracy"],
    method: Method,
    interval: tuple[float, float],
    overlap: float,
    anchor: Curve,
    test: Curve,
    anchor_front: ParetoFront,
    test_front: ParetoFront,
) -> BDResult:
    return BDResult(
        value=value,
        kind=kind,
        method=method,
        interval=interval,
        overlap=overlap,
        anchor=anchor.name,
        test=test.name,
        anchor_used=anchor_front.kept,
        test_used=test_front.kept,
        anchor_dropped=anchor_front.dropped,
        test_dropped=test_front.dropped,
    )
