"""From records to results: curves with intervals, BD-rates, costs. Every number is one numbered :class:`Row`."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from vcm.eval.curves.bd import Curve, RDPoint
from vcm.eval.curves.deltas import Deltas, compare_curves, compare_within, relative
from vcm.eval.curves.resampled import ResampledCurve
from vcm.eval.metrics.bootstrap import (
    Resamples,
    draw_resamples,
    percentile_interval,
    resample_accuracy,
    resample_bpp,
    resample_mean,
)
from vcm.eval.metrics.detection import DetectionAccuracy, evaluate_detections
from vcm.eval.metrics.distortion import metric
from vcm.eval.run.records import Record
from vcm.eval.run.runner import CodecRun, Run
from vcm.eval.run.views import BEST, UNCOMPRESSED, Measured, Measurement, View, merge, views_of
from vcm.eval.run.worker import HEAD

__all__ = ["BEST", "UNITS", "Row", "Summary", "summarise"]

UNITS: Mapping[str, str] = {
    "bpp": "bit/px", "ap": "%", "ap50": "%", "person_ap50": "%", "ap50_frequent": "%", "ap75": "%", "person_ap": "%",
    "encode": "s", "decode": "s", "machine": "s", "peak": "MiB", "encode_kmac": "kMAC/px", "decode_kmac": "kMAC/px",
    "parameters": "", "bytes": "byte", "bd_rate": "%", "bd_rate_akima": "%", "bd_rate_mean": "%",
    "bd_rate_interval": "%", "bd_rate_covered": "%",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Row:
    """One number. ``results.csv`` has one line for each, and the report names it by ``row``.

    Attributes:
        row: number, from 1.
        section: ``point``, ``share``, ``class``, ``layer``, ``cost``, ``bd``, ``reference`` or ``count``.
        codec, point, machine: what it was measured on; empty where that does not apply. A ``bd`` row has the codec
            under test, in ``point`` the quantity that the curves show, and in ``against`` the anchor.
        quantity: what it is: a metric's name, ``bpp``, ``ap``, ``bd_rate``, …
        value: ``None`` where it could not be computed; ``note`` then says why.
        low, high: 95 % confidence interval over pictures, or ``None``.
        unit: of all three.
        pictures: that it was computed from.
        against: anchor of a ``bd`` row; class name of a ``class`` row; layer of a ``layer`` row; machine whose accuracy
            on uncompressed pictures a ``share`` row is of; of a ``point`` row of a group of machines, or of the best,
            the machine that was taken.
        note: anything that a reader must know.
    """

    row: int
    section: str
    codec: str
    point: str
    machine: str
    quantity: str
    value: float | None
    low: float | None = None
    high: float | None = None
    unit: str = ""
    pictures: int = 0
    against: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Summary:
    """All results of a run.

    Attributes:
        rows: every number.
        views: machines (and :data:`BEST`), or one empty name for a distortion protocol.
        quantities: what curves show, by name.
    """

    rows: tuple[Row, ...]
    views: tuple[str, ...]
    quantities: tuple[str, ...]

    def find(self, section: str, **fields: str) -> tuple[Row, ...]:
        """Rows of a section whose fields have these values."""
        return tuple(
            row for row in self.rows if row.section == section and all(getattr(row, k) == v for k, v in fields.items())
        )


@dataclass(slots=True)
class _Builder:
    """Collects rows."""

    pictures: int
    rows: list[Row] = field(default_factory=list)

    def add(
        self, section: str, codec: str, point: str, machine: str, quantity: str, value: float | None, *,
        low: float | None = None, high: float | None = None, unit: str | None = None, against: str = "",
        note: str = "", pictures: int | None = None,
    ) -> None:  # fmt: skip
        unit = UNITS.get(quantity, "") if unit is None else unit
        count = self.pictures if pictures is None else pictures
        number = len(self.rows) + 1
        self.rows.append(
            Row(number, section, codec, point, machine, quantity, value, low, high, unit, count, against, note)
        )

    def add_measured(
        self, codec: str, point: str, machine: str, quantity: str, measured: Measured, *, section: str = "point",
        unit: str | None = None, against: str = "", note: str = "",
    ) -> None:  # fmt: skip
        low = high = None
        if not np.isnan(measured.samples).all():
            interval = percentile_interval(measured.samples, measured.value)
            low, high = interval.low, interval.high
        self.add(
            section, codec, point, machine, quantity, measured.value, low=low, high=high, unit=unit, against=against,
            note=note,
        )  # fmt: skip


_Curves = dict[tuple[str, str, str], list[tuple[str, Measured, Measured]]]
"""By codec, view and quantity: (point, rate, value) in the order of the points."""


def summarise(run: Run, progress: Callable[[str], None] = lambda text: None) -> Summary:
    """Compute every number of a run.

    Args:
        run: the records.
        progress: told what is being computed; accuracies and intervals take a while.
    """
    pictures = sorted(run.dataset.pictures, key=lambda picture: picture.id)
    names = [picture.name for picture in pictures]
    draws = draw_resamples(len(names), run.protocol.bootstrap, seed=run.protocol.seed)
    build = _Builder(len(names))
    build.add("count", "", "", "", "pictures", float(len(names)), unit="")
    build.add("count", "", "", "", "pictures_skipped", float(len({s.picture for s in run.skipped})), unit="")
    frequent = _frequent_classes(run)
    if frequent is not None:
        note = f"classes with at least {run.protocol.frequent_boxes} boxes in these pictures"
        build.add("count", "", "", "", "frequent_classes", float(frequent), unit="", note=note)
    curves: _Curves = {}
    views = views_of(run.machines)
    heads: list[str] = []
    for codec in run.codecs:
        progress(codec.info.name)
        for point in codec.points:
            records = [codec.records[point.label][name] for name in names]
            rate = _rate(records, draws)
            build.add_measured(codec.info.name, point.label, "", "bpp", rate)
            _count_off_target(build, codec.info.name, point.label, point.target_bpp, run, records)
            _layers(build, codec.info.name, point.label, records)
            found = [
                *_distortion(run, records, draws),
                *_accuracies(build, run, codec.info.name, point.label, records, draws),
            ]
            for m in (*found, *merge(found, views, codec.info.name)):
                build.add_measured(
                    codec.info.name, point.label, m.machine, m.quantity, m.measured, unit=m.unit, against=m.taken,
                    note=m.note,
                )  # fmt: skip
                if m.machine == HEAD and codec.info.name not in heads:
                    heads.append(codec.info.name)
                for view in _views_of(m.machine, views):
                    curves.setdefault((codec.info.name, view, m.quantity), []).append((point.label, rate, m.measured))
        _costs(build, codec)
    quantities = run.protocol.accuracy if run.protocol.task == "detection" else run.metrics
    progress("BD")
    _references(build, run)
    _shares(build, curves, views, heads, quantities)
    shown = tuple(view.name for view in views) if run.protocol.task == "detection" else ("",)
    for name in shown:
        _deltas(build, run, curves, name, quantities)
        _interval_deltas(build, run, curves, name, views, heads)
    return Summary(tuple(build.rows), shown, tuple(quantities))


def _frequent_classes(run: Run) -> int | None:
    """How many classes ``ap50_frequent`` is a mean of: fewer where only some of a dataset's pictures are evaluated."""
    truth = run.dataset.ground_truth
    if run.protocol.task != "detection" or truth is None:
        return None
    ids = [picture.id for picture in run.dataset.pictures]
    found = evaluate_detections(truth, [], ids, frequent_boxes=run.protocol.frequent_boxes)
    return len(found.frequent_category_ids)


def _views_of(machine: str, views: Sequence[View]) -> tuple[str, ...]:
    """A head's curve stands beside those of every view; a group's member has none of its own."""
    if machine == HEAD:
        return tuple(view.name for view in views)
    return () if machine and machine not in [view.name for view in views] else (machine,)


def _rate(records: Sequence[Record], draws: Resamples) -> Measured:
    sizes, pixels = [r.bytes for r in records], [r.width * r.height for r in records]
    return Measured(8 * sum(sizes) / sum(pixels), resample_bpp(sizes, pixels, draws))


def _count_off_target(
    build: _Builder, codec: str, point: str, target: float | None, run: Run, records: Sequence[Record]
) -> None:
    if target is None:
        return
    rates = [8 * r.bytes / (r.width * r.height) for r in records]
    off = sum(abs(rate / target - 1) > run.protocol.rate_tolerance for rate in rates)
    note = f"pictures more than {run.protocol.rate_tolerance:.0%} off the target rate"
    build.add("count", codec, point, "", "off_target", float(off), unit="", note=note)


def _layers(build: _Builder, codec: str, point: str, records: Sequence[Record]) -> None:
    for layer in dict.fromkeys(name for record in records for name in record.layers):
        mean = statistics.fmean(record.layers.get(layer, 0) for record in records)
        build.add("layer", codec, point, "", "bytes", mean, unit="byte", against=layer, note="mean over pictures")


def _distortion(run: Run, records: Sequence[Record], draws: Resamples) -> list[Measurement]:
    found: list[Measurement] = []
    for name in run.metrics:
        values = np.array([record.metrics.get(name, np.nan) for record in records])
        if np.isnan(values).any():
            continue  # a head's codec has none, and a picture may be too small: a mean over others would not compare
        measured = Measured(float(values.mean()), resample_mean(values, draws))
        found.append(Measurement("", name, measured, metric(name).unit))
    return found


def _accuracies(
    build: _Builder, run: Run, codec: str, point: str, records: Sequence[Record], draws: Resamples
) -> list[Measurement]:
    truth = run.dataset.ground_truth
    found: list[Measurement] = []
    if run.protocol.task != "detection" or truth is None:
        return found
    ids = {picture.name: picture.id for picture in run.dataset.pictures}
    for machine in dict.fromkeys(name for record in records for name in record.found):
        results = {ids[r.picture]: r.found[machine].detections(r.width, r.height) for r in records}
        accuracy = evaluate_detections(truth, results, frequent_boxes=run.protocol.frequent_boxes)
        samples = resample_accuracy(accuracy, draws)
        for quantity in run.protocol.accuracy:
            value: float | None = getattr(accuracy, quantity)
            if value is not None:
                found.append(Measurement(machine, quantity, Measured(value, getattr(samples, quantity)), "%"))
        _further_accuracy(build, codec, point, machine, accuracy)
    return found


def _further_accuracy(build: _Builder, codec: str, point: str, machine: str, accuracy: DetectionAccuracy) -> None:
    """What is reported and is no curve: AP75, person AP, and each class."""
    build.add("point", codec, point, machine, "ap75", accuracy.ap75)
    build.add("point", codec, point, machine, "person_ap", accuracy.person_ap)
    for row in accuracy.per_class:
        if row.boxes:
            note = f"{row.boxes} boxes" + (", frequent" if row.boxes >= accuracy.frequent_boxes else "")
            build.add("class", codec, point, machine, "ap", row.ap, against=row.name, note=note)
            build.add("class", codec, point, machine, "ap50", row.ap50, against=row.name, note=note)


def _costs(build: _Builder, codec: CodecRun) -> None:
    records = [record for by_name in codec.records.values() for record in by_name.values()]
    name = codec.info.name
    note = "median over pictures and points"
    build.add("cost", name, "", "", "encode", statistics.median(r.encode_s for r in records), note=note)
    build.add("cost", name, "", "", "decode", statistics.median(r.decode_s for r in records), note=note)
    for machine in dict.fromkeys(m for record in records for m in record.found):
        seconds = statistics.median(record.found[machine].seconds for record in records)
        build.add(
            "cost",
            name,
            "",
            machine,
            "machine",
            seconds,
            note=note + (", base decoding included" if machine == HEAD else ""),
        )
    peaks = [record.peak_mib for record in records if record.peak_mib is not None]
    peak_note = "largest over pictures and points; external programs are not seen"
    build.add("cost", name, "", "", "peak", max(peaks) if peaks else None, note=peak_note)
    if codec.info.complexity is not None:
        cost = codec.info.complexity
        build.add("cost", name, "", "", "encode_kmac", cost.encode_kmac_per_px)
        build.add("cost", name, "", "", "decode_kmac", cost.decode_kmac_per_px)
        if cost.parameters is not None:
            build.add("cost", name, "", "", "parameters", float(cost.parameters))


def _references(build: _Builder, run: Run) -> None:
    for reference in run.references:
        for index, rate in enumerate(reference.rate):
            point = f"p{index + 1}"
            build.add("reference", reference.name, point, "", "bpp", rate, pictures=0, note="published, not run here")
            for name, values in reference.values.items():
                unit = metric(name).unit
                build.add("reference", reference.name, point, "", name, values[index], unit=unit, pictures=0)


def _higher(quantity: str, run: Run) -> bool:
    return run.protocol.task == "detection" or metric(quantity).higher_is_better


def _deltas(build: _Builder, run: Run, curves: _Curves, view: str, quantities: Sequence[str]) -> None:
    """BD rows of one view: each codec against the anchor, the anchor's front over scales, and published curves."""
    names = [codec.info.name for codec in run.codecs]
    anchor = next((name for name in run.protocol.anchors if name in names), None)
    means: dict[tuple[str, str], list[float]] = {}
    for quantity in quantities:
        resampled, fronts = _curves_of(run, curves, view, quantity)
        anchors = {name: resampled[name] for name in (anchor,) if name in resampled}
        anchors |= {name: curve for name, curve in fronts.items() if anchor is not None and name == f"{anchor}-front"}
        anchors |= _published(run, quantity)
        for against, base in anchors.items():
            for name, test in {**resampled, **fronts}.items():
                if name == against or len(test.curve.points) < 2:
                    continue
                deltas = compare_curves(base, test)
                _delta_rows(build, name, against, view, quantity, deltas)
                if deltas.rate is not None and quantity in run.protocol.bd_mean_of:
                    means.setdefault((name, against), []).append(deltas.rate)
    for (name, against), values in means.items():
        wanted, missing = len(run.protocol.bd_mean_of), len(run.protocol.bd_mean_of) - len(values)
        note = f"mean over {len(values)} of {wanted} metrics" + (
            f"; {missing} could not be computed" if missing else ""
        )
        build.add("bd", name, "", view, "bd_rate_mean", statistics.fmean(values), against=against, note=note)


def _curves_of(
    run: Run, curves: _Curves, view: str, quantity: str
) -> tuple[dict[str, ResampledCurve], dict[str, ResampledCurve]]:
    """Curves of codecs, and fronts over scales, by name."""
    names = [codec.info.name for codec in run.codecs if (codec.info.name, view, quantity) in curves]
    resampled = {name: _resampled(name, curves[name, view, quantity], run, quantity) for name in names}
    return resampled, dict(_fronts(resampled, _higher(quantity, run)))


def _ceiling(curves: _Curves, views: Sequence[View], view: str, quantity: str) -> tuple[str, Measured] | None:
    """Accuracy on uncompressed pictures, and whose it is: of the twins if there are any, else of the view itself."""
    judge = next((v for v in views if v.group), next(v for v in views if v.name == view))
    points = curves.get((UNCOMPRESSED, judge.name, quantity), [])
    whose = judge.members[0] if judge.group else judge.name
    return (whose, points[0][2]) if points and points[0][2].value > 0 else None


def _shares(
    build: _Builder, curves: _Curves, views: Sequence[View], heads: Sequence[str], quantities: Sequence[str]
) -> None:
    """What heads reach, in percent of the ceiling, on the same draws of pictures."""
    for name in heads:
        for quantity in quantities:
            ceiling = _ceiling(curves, views, views[0].name, quantity) if views else None
            if ceiling is None:
                continue
            whose, top = ceiling
            for point, _, measured in curves.get((name, views[0].name, quantity), []):
                with np.errstate(divide="ignore", invalid="ignore"):
                    samples = 100 * measured.samples / top.samples
                share = Measured(100 * measured.value / top.value, np.where(np.isfinite(samples), samples, np.nan))
                note = f"of {top.value:.2f} on uncompressed pictures"
                build.add_measured(
                    name, point, HEAD, quantity, share, section="share", unit="%", against=whose, note=note
                )


def _interval_deltas(
    build: _Builder, run: Run, curves: _Curves, view: str, views: Sequence[View], heads: Sequence[str]
) -> None:
    """BD-rates over the protocol's interval: codecs against the anchor and its front, and heads against every curve."""
    interval = run.protocol.interval
    if interval is None:
        return
    names = [codec.info.name for codec in run.codecs]
    anchor = next((name for name in run.protocol.anchors if name in names), None)
    for quantity in interval.accuracy:
        resampled, fronts = _curves_of(run, curves, view, quantity)
        ceiling = _ceiling(curves, views, view, quantity)
        if ceiling is None:
            continue
        whose, top = ceiling
        every = {
            name: relative(curve, top.value, top.samples)
            for name, curve in {**resampled, **fronts}.items()
            if len(curve.curve.points) > 1
        }
        share = f"over {interval.low:.0%} to {interval.high:.0%} of {whose}'s {top.value:.2f} on uncompressed pictures"
        for against, base in every.items():
            for name, test in every.items():
                if name == against or (against not in (anchor, f"{anchor}-front") and name not in heads):
                    continue
                delta = compare_within(base, test, 100 * interval.low, 100 * interval.high)
                build.add(
                    "bd", name, quantity, view, "bd_rate_interval", delta.rate, low=delta.low, high=delta.high,
                    against=against, note=f"{share}; {delta.note}",
                )  # fmt: skip
                note = "how much of the interval that BD-rate was integrated over"
                build.add("bd", name, quantity, view, "bd_rate_covered", delta.covered, against=against, note=note)


def _delta_rows(build: _Builder, name: str, against: str, view: str, quantity: str, deltas: Deltas) -> None:
    where = f"over {quantity}"
    note = f"{where}; {deltas.note}" if deltas.note else where
    low, high = deltas.rate_low, deltas.rate_high
    build.add("bd", name, quantity, view, "bd_rate", deltas.rate, low=low, high=high, against=against, note=note)
    build.add("bd", name, quantity, view, "bd_rate_akima", deltas.rate_akima, against=against, note=where)
    unit, note = "%" if view else metric(quantity).unit, deltas.accuracy_note
    build.add("bd", name, quantity, view, "bd_accuracy", deltas.accuracy, unit=unit, against=against, note=note)


def _resampled(name: str, points: Sequence[tuple[str, Measured, Measured]], run: Run, quantity: str) -> ResampledCurve:
    labelled = tuple(RDPoint(rate.value, value.value, label) for label, rate, value in points)
    rates, values = (
        np.stack([rate.samples for _, rate, _ in points]),
        np.stack([value.samples for _, _, value in points]),
    )
    return ResampledCurve(Curve(name, labelled, _higher(quantity, run)), rates, values)


def _fronts(curves: Mapping[str, ResampledCurve], higher: bool) -> Iterator[tuple[str, ResampledCurve]]:
    """For a codec that also ran on smaller pictures: all its points as one curve, whose Pareto front BD takes."""
    for name in curves:
        family = [curve for other, curve in curves.items() if other == name or other.startswith(f"{name}@")]
        if "@" in name or len(family) < 2:
            continue
        points = tuple(RDPoint(p.rate, p.metric, f"{c.curve.name} {p.label}") for c in family for p in c.curve.points)
        rates, values = np.concatenate([c.rates for c in family]), np.concatenate([c.metrics for c in family])
        front = f"{name}-front"
        yield front, ResampledCurve(Curve(front, points, higher), rates, values)


def _published(run: Run, quantity: str) -> dict[str, ResampledCurve]:
    found = {}
    for reference in run.references:
        if quantity in reference.values:
            rates, values = reference.rate, reference.values[quantity]
            curve = Curve.from_arrays(reference.name, rates, values, higher_is_better=_higher(quantity, run))
            # It is the same in every draw: nothing is known of its pictures one by one.
            shape = (len(rates), run.protocol.bootstrap)
            constant = (np.broadcast_to(np.array(row)[:, None], shape) for row in (rates, values))
            found[reference.name] = ResampledCurve(curve, *constant)
    return found
