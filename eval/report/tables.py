"""The tables of the report, as HTML. Every number carries ``data-row``: the row of ``results.csv`` that it is."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from html import escape

from vcm.eval.report.gallery import Gallery
from vcm.eval.report.results import Results
from vcm.eval.report.rows import CostRow, CountRow, DeltaRow, ExampleRow, LayerRow, PointRow, Row, select
from vcm.eval.report.titles import title_of
from vcm.eval.run.views import BEST
from vcm.eval.run.worker import HEAD

__all__ = ["class_tables", "cost_tables", "delta_tables", "format_value", "number", "point_tables", "table", "text"]

_COSTS = (
    ("encode", "encode, ms"), ("decode", "decode, ms"), ("machine", "machine, ms"), ("peak", "memory, MiB"),
    ("encode_kmac", "encode, kMAC/px"), ("decode_kmac", "decode, kMAC/px"), ("parameters", "parameters"),
)  # fmt: skip

_TEXT_COLUMNS = frozenset(
    {"", "against", "point", "remarks", "reason", "version", "settings", "codec", "taken", "over"}
)


def format_value(row: Row) -> str:
    """How the report writes a row's value."""
    if row.value is None:
        return "–"
    if row.unit == "s":
        return f"{1000 * row.value:.1f}"
    counted = isinstance(row, ExampleRow | CostRow) and row.quantity in ("objects", "parameters")
    if counted or isinstance(row, CountRow | LayerRow):
        return f"{row.value:,.0f}"
    if row.unit == "bit/px":
        return f"{row.value:.4f}" if row.value < 0.1 else f"{row.value:.3f}"
    if isinstance(row, DeltaRow):
        return f"{row.value:+.2f}"
    return f"{row.value:.4f}" if row.unit == "" else f"{row.value:.2f}"


def number(row: Row | None, *, tag: str = "td", interval: bool = True, shown: str | None = None) -> str:
    """A value, with its interval, in an element of its own.

    Args:
        row: the row; ``None`` gives a dash.
        tag: of the element.
        interval: show the interval where there is one.
        shown: text in place of the formatted value.
    """
    if row is None:
        return f"<{tag}>–</{tag}>"
    value = escape(format_value(row) if shown is None else shown)
    if interval and row.low is not None and row.high is not None:
        low, high = (escape(format_value(replace(row, value=end))) for end in (row.low, row.high))
        value += f" <small>[{low}, {high}]</small>"
    return f'<{tag} data-row="{row.row}" title="results.csv row {row.row}">{value}</{tag}>'


def text(value: str, kind: str = "text") -> str:
    """A cell of words."""
    return f'<td class="{kind}">{escape(value)}</td>'


def table(caption: str, head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A table that scrolls by itself where the page is narrow."""
    left = ' class="text"'
    cells = "".join(f"<th{left if title in _TEXT_COLUMNS else ''}>{escape(title)}</th>" for title in head)
    lines = "\n".join(f"<tr>{''.join(row)}</tr>" for row in rows)
    return (
        f'<div class="wide"><table><caption>{escape(caption)}</caption>'
        f"<thead><tr>{cells}</tr></thead><tbody>\n{lines}\n</tbody></table></div>"
    )


def _one(rows: Iterable[Row], **wanted: object) -> Row | None:
    return next(iter(select(rows, **wanted)), None)


def _curve_name(name: str, front: bool) -> str:
    return f"{name} at best scales" if front else name


def _remark(row: DeltaRow) -> str:
    """What a delta rests on, or why there is none, in words."""
    parts = [row.refusal] if row.refusal else []
    if row.start is not None and row.end is not None:
        share = "" if row.overlap is None else f" ({row.overlap:.0%} of the curves' range)"
        share = share if row.covered is None else f" % of the ceiling, {row.covered:.0f} % of the interval"
        parts.append(f"over {row.start:.4g} to {row.end:.4g}{share}")
    for name, labels in ((row.codec, row.dropped), (row.against, row.against_dropped)):
        if labels:
            parts.append(f"beaten by other points and left out: {', '.join(labels)} of {name}")
    if row.undefined:
        parts.append(f"undefined in {row.undefined} of {row.draws} draws")
    return "; ".join(parts)


def delta_tables(results: Results) -> list[str]:
    """BD-rates and BD-accuracies by view and quantity, then over the protocol's interval, then their means."""
    tables = []
    deltas = results.rows.deltas
    for view in results.views:
        where = f", decoded pictures read by {view}" if view else ""
        for quantity in results.quantities:
            rows = select(deltas, view=view, over=quantity, kind="bd_rate")
            if rows:
                head = ("codec", "against", "BD-rate, %", "Akima, %", "BD of the quantity", "remarks")
                tables.append(table(f"{title_of(quantity)}{where}", head, (_delta_line(results, row) for row in rows)))
            rows = select(deltas, view=view, over=quantity, kind="bd_rate_interval")
            interval = results.protocol.interval
            if rows and interval is not None:
                span = f"{100 * interval.low:.0f} to {100 * interval.high:.0f} %"
                over = f"over {span} of {rows[0].ceiling_of}'s {rows[0].ceiling:.2f} on uncompressed pictures"
                columns = ("codec", "against", "BD-rate, %", "remarks")
                lines = ([*_names(row), number(row), text(_remark(row), "note")] for row in rows)
                tables.append(table(f"{title_of(quantity)}{where}, {over}", columns, lines))
    for row in select(deltas, kind="bd_rate_mean"):
        missing = row.metrics_wanted - row.metrics
        note = f"mean over {row.metrics} of {row.metrics_wanted} metrics"
        note += f"; {missing} could not be computed" if missing else ""
        names = f"{_curve_name(row.codec, row.front)} against {_curve_name(row.against, row.against_front)}"
        tables.append(f"<p>{escape(names)}: {number(row, tag='b')} % ({note})</p>")
    return tables


def _names(row: DeltaRow) -> list[str]:
    return [text(_curve_name(row.codec, row.front)), text(_curve_name(row.against, row.against_front))]


def _delta_line(results: Results, rate: DeltaRow) -> list[str]:
    same = {name: getattr(rate, name) for name in ("codec", "front", "against", "against_front", "view", "over")}
    akima, accuracy = (_one(results.rows.deltas, kind=kind, **same) for kind in ("bd_rate_akima", "bd_accuracy"))
    return [*_names(rate), number(rate), number(akima), number(accuracy), text(_remark(rate), "note")]


def point_tables(results: Results) -> list[str]:
    """Every point: a table for each machine, group and head, then shares of the ceiling and rates that were missed."""
    tables = []
    points = results.rows.points
    rates = select(points, quantity="bpp")
    groups = results.groups()
    captions = {"": "Distortion", HEAD: "Own head on base latents", BEST: "The best machine for each quantity"}
    captions |= {group: f"The better {group} at each point" for group in groups}
    for machine in dict.fromkeys(row.machine for row in points if row.quantity != "bpp"):
        mine = {(row.codec, row.point, row.quantity): row for row in points if row.machine == machine}
        quantities = list(dict.fromkeys(q for _, _, q in mine if q != "bpp"))
        lines = []
        for rate in rates:
            cells: list[PointRow | None] = [mine.get((rate.codec, rate.point, quantity)) for quantity in quantities]
            if any(cells):
                taken = [text(next(cell.taken for cell in cells if cell))] if machine in groups else []
                lines.append([text(rate.codec), text(rate.point), number(rate), *map(number, cells), *taken])
        head = ["codec", "point", "rate, bit/px", *map(title_of, quantities)]
        head += ["taken"] if machine in groups else []
        tables.append(table(captions.get(machine, f"Machine {machine}"), head, lines))
    off = [row for row in select(results.rows.counts, quantity="off_target") if row.value]
    if off:
        caption = f"Pictures more than {results.protocol.rate_tolerance:.0%} off the target rate"
        lines = [[text(row.codec), text(row.point), number(row)] for row in off]
        tables.append(table(caption, ("codec", "point", "pictures"), lines))
    return tables + _share_tables(results)


def _share_tables(results: Results) -> list[str]:
    rows = results.rows.shares
    quantities = [quantity for quantity in results.quantities if any(row.quantity == quantity for row in rows)]
    lines = []
    for codec, point in dict.fromkeys((row.codec, row.point) for row in rows):
        rate = _one(results.rows.points, codec=codec, point=point, quantity="bpp")
        cells = [_one(rows, codec=codec, point=point, quantity=quantity) for quantity in quantities]
        lines.append([text(codec), text(point), number(rate), *map(number, cells)])
    if not lines:
        return []
    caption = f"Own head, percent of what {rows[0].of} reaches on uncompressed pictures"
    return [table(caption, ("codec", "point", "rate, bit/px", *map(title_of, quantities)), lines)]


def class_tables(results: Results, gallery: Gallery | None) -> list[str]:
    """AP50 of the frequent classes, each codec at its point nearest to the matched rate."""
    if gallery is None:
        return []
    near = {tile.codec: tile.point for line in gallery.tiles for tile in line}
    rows = [
        row for row in select(results.rows.classes, quantity="ap50", frequent=True) if near.get(row.codec) == row.point
    ]
    columns = list(dict.fromkeys((row.codec, row.point, row.machine) for row in rows))
    cells = {(row.name, row.codec, row.machine): row for row in rows}
    lines = [
        [text(name), *(number(cells.get((name, codec, machine))) for codec, _, machine in columns)]
        for name in dict.fromkeys(row.name for row in rows)
    ]
    head = ("class", *(f"{codec} {point}, {machine}" for codec, point, machine in columns))
    caption = "AP50, %, of classes with many boxes, at points of about one rate; all classes are in results.csv"
    return [table(caption, head, lines)] if lines else []


def cost_tables(results: Results) -> list[str]:
    """Times, memory, operations; bytes of each layer."""
    lines = []
    for codec in results.codecs:
        rows: dict[str, CostRow] = {}
        for row in select(results.rows.costs, codec=codec.name):
            rows.setdefault(row.quantity, row)
        lines.append([text(codec.name), *(number(rows.get(quantity)) for quantity, _ in _COSTS)])
    caption = (
        "Times: median for one picture, after a warm-up; a head's includes base decoding. "
        "Memory: the largest, external programs not seen"
    )
    tables = [table(caption, ("codec", *(title for _, title in _COSTS)), lines)]
    layers = results.rows.layers
    if layers:
        names = list(dict.fromkeys(row.layer for row in layers))
        keys = dict.fromkeys((row.codec, row.point) for row in layers)
        cells = {(row.codec, row.point, row.layer): row for row in layers}
        lines = [[text(c), text(p), *(number(cells.get((c, p, name))) for name in names)] for c, p in keys]
        tables.append(table("Bytes of each layer, mean over pictures", ("codec", "point", *names), lines))
    return tables
