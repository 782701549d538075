"""From records to results: curves with intervals, what lies between them, costs. Every number is one numbered row."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from vcm.eval.metrics.bootstrap import draw_resamples
from vcm.eval.metrics.detection import evaluate_detections
from vcm.eval.metrics.distortion import metric
from vcm.eval.report.comparisons import Curves, add_deltas, add_interval_deltas, add_shares, shown_in
from vcm.eval.report.points import (
    accuracies,
    add_costs,
    add_layers,
    add_measurement,
    add_off_target,
    distortions,
    rate_of,
)
from vcm.eval.report.rows import CountRow, PointRow, ReferenceRow, RowWriter, interval_of
from vcm.eval.run.runner import Run
from vcm.eval.run.views import merge, views_of
from vcm.eval.run.worker import HEAD

__all__ = ["Summary", "summarise"]


@dataclass(frozen=True, slots=True)
class Summary:
    """All results of a run.

    Attributes:
        rows: what every number was added to; :func:`vcm.eval.report.gallery.make_gallery` adds its own.
        views: whose eyes curves are drawn through, or one empty name for a distortion protocol.
        quantities: what curves show, by name.
    """

    rows: RowWriter
    views: tuple[str, ...]
    quantities: tuple[str, ...]


def summarise(run: Run, progress: Callable[[str], None] = lambda text: None) -> Summary:
    """Compute every number of a run.

    Args:
        run: the records.
        progress: told what is being computed; accuracies and intervals take a while.
    """
    names = [picture.name for picture in sorted(run.dataset.pictures, key=lambda picture: picture.id)]
    draws = draw_resamples(len(names), run.protocol.bootstrap, seed=run.protocol.seed)
    out = RowWriter(len(names))
    _add_counts(out, run)
    views = views_of(run.machines)
    curves = Curves(run, views)
    for codec in run.codecs:
        progress(codec.info.name)
        name = codec.info.name
        for point in codec.points:
            label, records = point.label, [codec.records[point.label][picture] for picture in names]
            rate = rate_of(records, draws)
            out.add(PointRow, rate.value, **interval_of(rate), codec=name, point=label, machine="", quantity="bpp")
            add_off_target(out, run, name, label, point.target_bpp, records)
            add_layers(out, name, label, records)
            found = [*distortions(run, records, draws), *accuracies(out, run, name, label, records, draws)]
            for m in (*found, *merge(found, views, name)):
                add_measurement(out, name, label, m)
                if m.machine == HEAD and name not in curves.heads:
                    curves.heads.append(name)
                for view in shown_in(m.machine, views):
                    curves.add(name, view, m.quantity, label, rate, m.measured)
        add_costs(out, codec)
    quantities = run.protocol.accuracy if run.protocol.task == "detection" else run.metrics
    progress("BD")
    _add_references(out, run)
    add_shares(out, curves, quantities)
    shown = tuple(view.name for view in views) if run.protocol.task == "detection" else ("",)
    for view in shown:
        add_deltas(out, curves, view, quantities)
        add_interval_deltas(out, curves, view)
    return Summary(out, shown, tuple(quantities))


def _add_counts(out: RowWriter, run: Run) -> None:
    out.add(CountRow, float(len(run.dataset.pictures)), quantity="pictures")
    out.add(CountRow, float(len({skip.picture for skip in run.skipped})), quantity="pictures_skipped")
    truth = run.dataset.ground_truth
    if run.protocol.task == "detection" and truth is not None:
        # Fewer classes are frequent where only some of a data set's pictures are evaluated.
        ids = [picture.id for picture in run.dataset.pictures]
        found = evaluate_detections(truth, [], ids, frequent_boxes=run.protocol.frequent_boxes)
        out.add(CountRow, float(len(found.frequent_category_ids)), quantity="frequent_classes")


def _add_references(out: RowWriter, run: Run) -> None:
    for reference in run.references:
        for index, rate in enumerate(reference.rate):
            of = {"codec": reference.name, "point": f"p{index + 1}", "pictures": 0}
            out.add(ReferenceRow, rate, quantity="bpp", **of)
            for name, values in reference.values.items():
                out.add(ReferenceRow, values[index], quantity=name, unit=metric(name).unit, **of)
