"""Rate–accuracy curves and what lies between two of them."""

from __future__ import annotations

from vcm.eval.curves.bd import BDResult, Curve, RDPoint, bd_accuracy, bd_rate, pareto_front
from vcm.eval.curves.resampled import ResampledCurve, bootstrap_bd_rate

__all__ = [
    "BDResult",
    "Curve",
    "RDPoint",
    "ResampledCurve",
    "bd_accuracy",
    "bd_rate",
    "bootstrap_bd_rate",
    "pareto_front",
]
