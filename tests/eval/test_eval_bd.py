"""BD-rate and BD-accuracy against the bjontegaard package and against closed forms."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest

from vcm.errors import CurveError, OptionError
from vcm.eval.curves.bd import Curve, RDPoint, bd_accuracy, bd_rate, pareto_front

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import bjontegaard

RATES = [0.086, 0.199, 0.406, 0.746, 1.2]
AP50 = [50.5, 57.3, 59.4, 61.4, 61.9]
OTHER_RATES = [0.129, 0.273, 0.406, 0.61]
OTHER_AP50 = [52.0, 57.8, 59.6, 60.9]

anchor = Curve.from_arrays("vvc", RATES, AP50)
test = Curve.from_arrays("webp", OTHER_RATES, OTHER_AP50)


@pytest.mark.parametrize("method", ["pchip", "akima"])
def test_bd_rate_equals_bjontegaard(method):
    expected = bjontegaard.bd_rate(
        RATES, AP50, OTHER_RATES, OTHER_AP50, method=method, require_matching_points=False, min_overlap=0
    )
    assert bd_rate(anchor, test, method=method).value == pytest.approx(expected, abs=1e-9)
    assert abs(expected) > 1  # a comparison of zeros would prove nothing


@pytest.mark.parametrize("method", ["pchip", "akima"])
def test_bd_accuracy_equals_bjontegaard(method):
    expected = bjontegaard.bd_psnr(
        RATES, AP50, OTHER_RATES, OTHER_AP50, method=method, require_matching_points=False, min_overlap=0
    )
    assert bd_accuracy(anchor, test, method=method).value == pytest.approx(expected, abs=1e-9)
    assert abs(expected) > 0.1


@pytest.mark.parametrize("method", ["pchip", "akima"])
@pytest.mark.parametrize("seed", range(20))
def test_random_curves_equal_bjontegaard(method, seed):
    rng = np.random.default_rng(seed)
    curves = []
    for _ in range(2):
        n = int(rng.integers(4, 8))
        curves.append((np.cumsum(rng.uniform(0.05, 0.5, n)), 20 + np.cumsum(rng.uniform(0.5, 3, n))))
    (r1, m1), (r2, m2) = curves
    expected = bjontegaard.bd_rate(r1, m1, r2, m2, method=method, require_matching_points=False, min_overlap=0)
    found = bd_rate(Curve.from_arrays("a", r1, m1), Curve.from_arrays("b", r2, m2), method=method)
    assert found.value == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("method", ["pchip", "akima"])
@pytest.mark.parametrize(("factor", "percent"), [(0.5, -50.0), (2.0, 100.0), (1.0, 0.0), (1.1, 10.0)])
def test_scaled_rates(method, factor, percent):
    scaled = Curve.from_arrays("scaled", [r * factor for r in RATES], AP50)
    result = bd_rate(anchor, scaled, method=method)
    assert result.value == pytest.approx(percent, abs=1e-9)
    assert result.overlap == 1.0
    assert result.interval == (50.5, 61.9)


@pytest.mark.parametrize("method", ["pchip", "akima"])
def test_shifted_metric(method):
    shifted = Curve.from_arrays("shifted", RATES, [m + 1.25 for m in AP50])
    result = bd_accuracy(anchor, shifted, method=method)
    assert result.value == pytest.approx(1.25, abs=1e-9)
    assert result.interval == pytest.approx((0.086, 1.2))


def test_straight_lines_by_hand():
    # metric = 10·log10(rate) + c: a shift of 3 dB at equal rate is a rate factor of 10^-0.3 at equal metric.
    rates = [0.1, 0.2, 0.4, 0.8, 1.6]
    line = [10 * math.log10(r) + 40 for r in rates]
    a = Curve.from_arrays("a", rates, line)
    b = Curve.from_arrays("b", rates, [m + 3 for m in line])
    for method in ("pchip", "akima"):
        assert bd_rate(a, b, method=method).value == pytest.approx(100 * (10**-0.3 - 1), abs=1e-9)
        assert bd_accuracy(a, b, method=method).value == pytest.approx(3, abs=1e-9)


def test_lower_is_better_mirrors_higher_is_better():
    negated = [
        Curve.from_arrays(c.name, [p.rate for p in c.points], [-p.metric for p in c.points], higher_is_better=False)
        for c in (anchor, test)
    ]
    assert bd_rate(*negated).value == pytest.approx(bd_rate(anchor, test).value, abs=1e-9)
    assert bd_accuracy(*negated).value == pytest.approx(-bd_accuracy(anchor, test).value, abs=1e-9)
    with pytest.raises(OptionError, match="opposite"):
        bd_rate(anchor, negated[1])


def test_order_of_points_does_not_matter():
    backwards = Curve("webp", tuple(reversed(test.points)))
    assert bd_rate(anchor, backwards).value == bd_rate(anchor, test).value


def test_pareto_filter_is_reported():
    worse = RDPoint(0.3, 55.0, "worse")
    dearer = RDPoint(0.5, 59.6, "same accuracy, more bits")
    noisy = Curve("webp", (*test.points, worse, dearer))
    result = bd_rate(anchor, noisy)
    assert result.test_dropped == (worse, dearer)
    assert result.test_used == test.points
    assert result.anchor_dropped == ()
    assert result.value == bd_rate(anchor, test).value


def test_pareto_front_by_brute_force():
    rng = np.random.default_rng(3)
    points = tuple(RDPoint(float(r), float(m)) for r, m in rng.integers(1, 12, (60, 2)))
    front = pareto_front(Curve("c", points))

    def beaten(p):
        return any(
            q.rate <= p.rate and q.metric >= p.metric and (q.rate, q.metric) != (p.rate, p.metric) for q in points
        )

    expected = sorted({(p.rate, p.metric) for p in points if not beaten(p)})
    assert [(p.rate, p.metric) for p in front.kept] == expected
    assert len(front.kept) + len(front.dropped) == len(points)


def test_fixed_range():
    whole = bd_rate(anchor, test)
    assert bd_rate(anchor, test, accuracy_range=whole.interval).value == pytest.approx(whole.value)
    part = bd_rate(anchor, test, accuracy_range=(53.0, 57.0))
    assert part.interval == (53.0, 57.0)
    assert part.value != pytest.approx(whole.value, abs=0.1)
    with pytest.raises(CurveError, match="not covered"):
        bd_rate(anchor, test, accuracy_range=(51.0, 57.0))
    with pytest.raises(OptionError, match="empty"):
        bd_rate(anchor, test, accuracy_range=(57.0, 53.0))


def test_refusals():
    with pytest.raises(CurveError, match=r"too few Pareto points.*found 3"):
        bd_rate(anchor, Curve.from_arrays("three", RATES[:3], AP50[:3]))
    with pytest.raises(CurveError, match=r"found 3 \(1 of 4"):
        bd_rate(anchor, Curve.from_arrays("beaten", RATES[:4], [50.0, 55.0, 54.0, 58.0]))
    with pytest.raises(CurveError, match="no common range of metric"):
        bd_rate(anchor, Curve.from_arrays("low", RATES, [m - 40 for m in AP50]))
    with pytest.raises(CurveError, match="no common range of log10 rate"):
        bd_accuracy(anchor, Curve.from_arrays("dear", [r * 100 for r in RATES], AP50))
    with pytest.raises(CurveError, match="unusable"):
        bd_rate(anchor, Curve.from_arrays("lossless", RATES, [*AP50[:4], math.inf]))
    with pytest.raises(CurveError, match="unusable"):
        bd_rate(Curve.from_arrays("free", [0.0, *RATES[1:]], AP50), test)
    with pytest.raises(OptionError, match="interpolation"):
        bd_rate(anchor, test, method="cubic")
    with pytest.raises(OptionError, match="as many"):
        Curve.from_arrays("odd", [1.0, 2.0], [1.0])


def test_touching_ranges_have_no_common_range():
    with pytest.raises(CurveError):
        bd_rate(Curve.from_arrays("a", [1, 2, 3, 4], [1, 2, 3, 4]), Curve.from_arrays("b", [1, 2, 3, 4], [4, 5, 6, 7]))
