"""Rows that compare curves: shares of the ceiling, BD-rates over what curves share and over the protocol's interval."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from vcm.eval.curves.bd import Curve, RDPoint
from vcm.eval.curves.deltas import Delta, accuracy_delta, rate_delta, relative
from vcm.eval.curves.resampled import ResampledCurve
from vcm.eval.metrics.distortion import metric
from vcm.eval.report.rows import DeltaKind, DeltaRow, RowWriter, ShareRow, interval_of
from vcm.eval.run.runner import CodecRun, Run
from vcm.eval.run.views import UNCOMPRESSED, Measured, View
from vcm.eval.run.worker import HEAD

__all__ = ["Curves", "add_deltas", "add_interval_deltas", "add_shares"]


@dataclass(slots=True)
class Curves:
    """What was measured, as curves.

    Attributes:
        run: the records.
        views: through whose eyes.
        heads: codecs with a head of their own.
        points: by codec, view and quantity: (point, rate, value) in the order of the points.
    """

    run: Run
    views: tuple[View, ...]
    heads: list[str] = field(default_factory=list)
    points: dict[tuple[str, str, str], list[tuple[str, Measured, Measured]]] = field(default_factory=dict)

    def add(self, codec: str, view: str, quantity: str, point: str, rate: Measured, value: Measured) -> None:
        """Add a point at the end of a curve."""
        self.points.setdefault((codec, view, quantity), []).append((point, rate, value))

    def higher_is_better(self, quantity: str) -> bool:
        """Whether more of a quantity is better."""
        return self.run.protocol.task == "detection" or metric(quantity).higher_is_better

    def anchor(self) -> CodecRun | None:
        """The first of the protocol's anchors that was run."""
        by_name = {codec.info.name: codec for codec in self.run.codecs}
        return next((by_name[name] for name in self.run.protocol.anchors if name in by_name), None)

    def ceiling(self, view: str, quantity: str) -> tuple[str, Measured] | None:
        """Whose accuracy on uncompressed pictures is the ceiling, and that: a group's if there is one."""
        judge = next((v for v in self.views if v.group), next(v for v in self.views if v.name == view))
        points = self.points.get((UNCOMPRESSED, judge.name, quantity), [])
        whose = judge.members[0] if judge.group else judge.name
        return (whose, points[0][2]) if points and points[0][2].value > 0 else None

    def lines(self, view: str, quantity: str) -> list[_Line]:
        """Curves of the codecs, then for each that also ran on smaller pictures the curve of all its points."""
        found = []
        for codec in self.run.codecs:
            points = self.points.get((codec.info.name, view, quantity))
            if points:
                curve = self._resampled(codec.info.name, points, quantity)
                found.append(_Line(codec.info.name, codec.family, False, curve))
        fronts = []
        for line in found:
            family = [other for other in found if other.family == line.name]
            if line.family == line.name and len(family) > 1:
                fronts.append(_Line(line.name, line.name, True, _joined(line.name, [other.curve for other in family])))
        return found + fronts

    def published(self, quantity: str) -> list[_Line]:
        """The references' curves, the same in every draw: nothing is known of their pictures one by one."""
        found = []
        for reference in self.run.references:
            if quantity in reference.values:
                rates, values = reference.rate, reference.values[quantity]
                higher = self.higher_is_better(quantity)
                curve = Curve.from_arrays(reference.name, rates, values, higher_is_better=higher)
                shape = (len(rates), self.run.protocol.bootstrap)
                constant = (np.broadcast_to(np.array(row)[:, None], shape) for row in (rates, values))
                found.append(_Line(reference.name, reference.name, False, ResampledCurve(curve, *constant)))
        return found

    def _resampled(self, name: str, points: Sequence[tuple[str, Measured, Measured]], quantity: str) -> ResampledCurve:
        labelled = tuple(RDPoint(rate.value, value.value, label) for label, rate, value in points)
        rates = np.stack([rate.samples for _, rate, _ in points])
        values = np.stack([value.samples for _, _, value in points])
        return ResampledCurve(Curve(name, labelled, self.higher_is_better(quantity)), rates, values)


@dataclass(frozen=True, slots=True)
class _Line:
    """A curve and whose it is."""

    name: str
    family: str
    front: bool
    curve: ResampledCurve

    @property
    def size(self) -> int:
        return len(self.curve.curve.points)

    def is_same(self, other: _Line) -> bool:
        return (self.name, self.front) == (other.name, other.front)

    def relative(self, ceiling: Measured) -> _Line:
        return replace(self, curve=relative(self.curve, ceiling.value, ceiling.samples))


def _joined(name: str, family: Sequence[ResampledCurve]) -> ResampledCurve:
    """All points of a codec at every scale; BD takes their Pareto front."""
    points = tuple(RDPoint(p.rate, p.metric, f"{c.curve.name} {p.label}") for c in family for p in c.curve.points)
    rates, values = np.concatenate([c.rates for c in family]), np.concatenate([c.metrics for c in family])
    return ResampledCurve(Curve(f"{name} at best scales", points, family[0].curve.higher_is_better), rates, values)


def add_shares(out: RowWriter, curves: Curves, quantities: Sequence[str]) -> None:
    """What heads reach, in percent of the ceiling, on the same draws of pictures."""
    if not curves.views:
        return
    first = curves.views[0].name
    for name in curves.heads:
        for quantity in quantities:
            ceiling = curves.ceiling(first, quantity)
            if ceiling is None:
                continue
            whose, top = ceiling
            for point, _, measured in curves.points.get((name, first, quantity), []):
                with np.errstate(divide="ignore", invalid="ignore"):
                    samples = 100 * measured.samples / top.samples
                share = Measured(100 * measured.value / top.value, np.where(np.isfinite(samples), samples, np.nan))
                out.add(
                    ShareRow, share.value, **interval_of(share), unit="%", codec=name, point=point, quantity=quantity,
                    of=whose, ceiling=top.value,
                )  # fmt: skip


def add_deltas(out: RowWriter, curves: Curves, view: str, quantities: Sequence[str]) -> None:
    """Each curve of a view against the anchor, the anchor's front over scales, and published curves."""
    anchor, wanted = curves.anchor(), curves.run.protocol.bd_mean_of
    means: dict[tuple[str, bool, str, bool], list[float]] = {}
    for quantity in quantities:
        lines = curves.lines(view, quantity)
        anchors = [line for line in lines if anchor is not None and line.name == anchor.info.name]
        for against in [*anchors, *curves.published(quantity)]:
            for line in lines:
                if line.is_same(against) or line.size < 2:
                    continue
                found = _add_pair(out, line, against, view, quantity)
                if found.value is not None and quantity in wanted:
                    key = (line.name, line.front, against.name, against.front)
                    means.setdefault(key, []).append(found.value)
    for (name, front, against_name, against_front), values in means.items():
        out.add(
            DeltaRow, statistics.fmean(values), kind="bd_rate_mean", codec=name, front=front, against=against_name,
            against_front=against_front, view=view, over="", unit="%", metrics=len(values), metrics_wanted=len(wanted),
        )  # fmt: skip


def _add_pair(out: RowWriter, line: _Line, against: _Line, view: str, quantity: str) -> Delta:
    found = rate_delta(against.curve, line.curve)
    _add(out, "bd_rate", line, against, view, quantity, found, "%")
    akima = rate_delta(against.curve, line.curve, method="akima", intervals=False)
    _add(out, "bd_rate_akima", line, against, view, quantity, akima, "%")
    unit = "%" if view else metric(quantity).unit
    _add(out, "bd_accuracy", line, against, view, quantity, accuracy_delta(against.curve, line.curve), unit)
    return found


def _add(
    out: RowWriter, kind: DeltaKind, line: _Line, against: _Line, view: str, quantity: str, delta: Delta, unit: str,
    **more: Any,
) -> None:  # fmt: skip
    values = asdict(delta)
    out.add(
        DeltaRow, values.pop("value"), kind=kind, codec=line.name, front=line.front, against=against.name,
        against_front=against.front, view=view, over=quantity, unit=unit, **values, **more,
    )  # fmt: skip


def add_interval_deltas(out: RowWriter, curves: Curves, view: str) -> None:
    """BD-rates over the protocol's interval: codecs against the anchor and its front, heads against every curve."""
    interval, anchor = curves.run.protocol.interval, curves.anchor()
    if interval is None:
        return
    low, high = 100 * interval.low, 100 * interval.high
    for quantity in interval.accuracy:
        ceiling = curves.ceiling(view, quantity)
        if ceiling is None:
            continue
        whose, top = ceiling
        lines = [line.relative(top) for line in curves.lines(view, quantity) if line.size > 1]
        for against in lines:
            is_anchor = anchor is not None and against.name == anchor.info.name
            for line in lines:
                if line.is_same(against) or not (is_anchor or line.name in curves.heads):
                    continue
                found = rate_delta(against.curve, line.curve, within=(low, high))
                covered = None
                if found.start is not None and found.end is not None:
                    covered = 100 * (found.end - found.start) / (high - low)
                _add(
                    out, "bd_rate_interval", line, against, view, quantity, found, "%", covered=covered,
                    ceiling_of=whose, ceiling=top.value,
                )  # fmt: skip


def shown_in(machine: str, views: Sequence[View]) -> tuple[str, ...]:
    """In which views a machine's values are a curve: a head's in all of them, a group's member's in none of its own."""
    if machine == HEAD:
        return tuple(view.name for view in views)
    return () if machine and machine not in [view.name for view in views] else (machine,)
