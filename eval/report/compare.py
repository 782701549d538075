"""Two evaluations side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vcm.errors import CurveError
from vcm.eval.curves.bd import BDResult, Curve, RDPoint, bd_rate
from vcm.eval.report.results import Results
from vcm.eval.report.rows import PointRow, select
from vcm.eval.report.titles import higher_is_better

__all__ = ["Comparison", "compare"]


@dataclass(frozen=True, slots=True)
class Comparison:
    """One curve that two results share.

    Attributes:
        codec, machine, quantity: which.
        bd_rate: of B against A in percent, ``None`` where it was refused.
        refusal: why, else empty.
        same: whether codec, version and settings are the same in both.
        points: (point, rate in A, rate in B, value in A, value in B) of the points that both have.
    """

    codec: str
    machine: str
    quantity: str
    bd_rate: float | None
    refusal: str
    same: bool
    points: tuple[tuple[str, float, float, float, float], ...]


def compare(a: Results, b: Results) -> tuple[Comparison, ...]:
    """Every curve that both have, B against A.

    Args:
        a, b: of the same protocol and data, if the comparison is to say something.
    """
    codecs_a, codecs_b = ({codec.name: codec for codec in results.codecs} for results in (a, b))
    quantities = [quantity for quantity in a.quantities if quantity in b.quantities]
    found = []
    for name in codecs_a:
        if name not in codecs_b:
            continue
        rows = select(a.rows.points, codec=name)
        machines = dict.fromkeys(row.machine for row in rows if row.quantity in quantities)
        for machine in machines:
            for quantity in quantities:
                first, second = a.curve(name, machine, quantity), b.curve(name, machine, quantity)
                if first and second:
                    same = codecs_a[name] == codecs_b[name]
                    found.append(_compared(name, machine, quantity, first, second, same))
    return tuple(found)


def _compared(
    codec: str,
    machine: str,
    quantity: str,
    first: Sequence[tuple[PointRow, PointRow]],
    second: Sequence[tuple[PointRow, PointRow]],
    same: bool,
) -> Comparison:
    higher = higher_is_better(quantity)
    curves = []
    for label, pairs in (("A", first), ("B", second)):
        points = tuple(RDPoint(rate.value or 0.0, value.value or 0.0, value.point) for rate, value in pairs)
        curves.append(Curve(f"{codec} of {label}", points, higher))
    delta: BDResult | None = None
    refusal = ""
    try:
        delta = bd_rate(*curves)
    except CurveError as error:
        refusal = str(error)
    others = {point.label: point for point in curves[1].points}
    shared = tuple(
        (p.label, p.rate, others[p.label].rate, p.metric, others[p.label].metric)
        for p in curves[0].points
        if p.label in others
    )
    return Comparison(codec, machine, quantity, delta.value if delta else None, refusal, same, shared)
