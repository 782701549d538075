"""Rows of single operating points: rates, distortions, accuracies, classes, layers, costs."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

import numpy as np

from vcm.eval.metrics.bootstrap import Resamples, resample_accuracy, resample_bpp, resample_mean
from vcm.eval.metrics.detection import DetectionAccuracy, evaluate_detections
from vcm.eval.metrics.distortion import metric
from vcm.eval.report.rows import ClassRow, CostRow, CountRow, LayerRow, PointRow, RowWriter, interval_of
from vcm.eval.run.records import Record
from vcm.eval.run.runner import CodecRun, Run
from vcm.eval.run.views import Measured, Measurement

__all__ = ["accuracies", "add_costs", "add_layers", "add_measurement", "add_off_target", "distortions", "rate_of"]


def rate_of(records: Sequence[Record], draws: Resamples) -> Measured:
    """Bits of all files over pixels of all pictures."""
    sizes, pixels = [r.bytes for r in records], [r.width * r.height for r in records]
    return Measured(8 * sum(sizes) / sum(pixels), resample_bpp(sizes, pixels, draws))


def distortions(run: Run, records: Sequence[Record], draws: Resamples) -> list[Measurement]:
    """Means of the metrics that every picture has."""
    found: list[Measurement] = []
    for name in run.metrics:
        values = np.array([record.metrics.get(name, np.nan) for record in records])
        if np.isnan(values).any():
            continue  # a head's codec has none, and a picture may be too small: a mean over others would not compare
        measured = Measured(float(values.mean()), resample_mean(values, draws))
        found.append(Measurement("", name, measured, metric(name).unit))
    return found


def accuracies(
    out: RowWriter, run: Run, codec: str, point: str, records: Sequence[Record], draws: Resamples
) -> list[Measurement]:
    """What each machine reaches of the protocol's accuracies; AP75, person AP and classes are added to ``out``."""
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
        _add_further(out, codec, point, machine, accuracy)
    return found


def _add_further(out: RowWriter, codec: str, point: str, machine: str, accuracy: DetectionAccuracy) -> None:
    for quantity in ("ap75", "person_ap"):
        value = getattr(accuracy, quantity)
        out.add(PointRow, value, codec=codec, point=point, machine=machine, quantity=quantity)
    for row in accuracy.per_class:
        if not row.boxes:
            continue
        frequent = row.boxes >= accuracy.frequent_boxes
        for quantity, value in (("ap", row.ap), ("ap50", row.ap50)):
            out.add(
                ClassRow, value, codec=codec, point=point, machine=machine, quantity=quantity, name=row.name,
                boxes=row.boxes, frequent=frequent,
            )  # fmt: skip


def add_measurement(out: RowWriter, codec: str, point: str, found: Measurement) -> None:
    """A row for what a machine, or a view, has at a point."""
    out.add(
        PointRow, found.measured.value, **interval_of(found.measured), unit=found.unit, codec=codec, point=point,
        machine=found.machine, quantity=found.quantity, taken=found.taken, candidates=found.candidates,
        ceiling=found.ceiling,
    )  # fmt: skip


def add_off_target(
    out: RowWriter, run: Run, codec: str, point: str, target: float | None, records: Sequence[Record]
) -> None:
    """How many pictures missed the point's target rate, where it has one."""
    if target is None:
        return
    rates = [8 * r.bytes / (r.width * r.height) for r in records]
    off = sum(abs(rate / target - 1) > run.protocol.rate_tolerance for rate in rates)
    out.add(CountRow, float(off), quantity="off_target", codec=codec, point=point)


def add_layers(out: RowWriter, codec: str, point: str, records: Sequence[Record]) -> None:
    """Mean bytes of each layer."""
    for layer in dict.fromkeys(name for record in records for name in record.layers):
        mean = statistics.fmean(record.layers.get(layer, 0) for record in records)
        out.add(LayerRow, mean, codec=codec, point=point, layer=layer, unit="byte")


def add_costs(out: RowWriter, codec: CodecRun) -> None:
    """Times, memory, and what a network says of itself."""
    records = [record for by_name in codec.records.values() for record in by_name.values()]

    def add(quantity: str, value: float | None, machine: str = "") -> None:
        out.add(CostRow, value, codec=codec.info.name, machine=machine, quantity=quantity)

    add("encode", statistics.median(r.encode_s for r in records))
    add("decode", statistics.median(r.decode_s for r in records))
    for machine in dict.fromkeys(m for record in records for m in record.found):
        add("machine", statistics.median(record.found[machine].seconds for record in records), machine)
    add("peak", max((r.peak_mib for r in records if r.peak_mib is not None), default=None))
    if codec.info.complexity is not None:
        cost = codec.info.complexity
        add("encode_kmac", cost.encode_kmac_per_px)
        add("decode_kmac", cost.decode_kmac_per_px)
        if cost.parameters is not None:
            add("parameters", float(cost.parameters))
