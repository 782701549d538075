"""One self-contained HTML page for a run: curves, BD tables, costs, pictures with boxes, and what it all rests on.

Every number in it carries ``data-row``: the row of ``results.csv`` that it comes from.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from string import Template

from vcm.eval.report.figures import Figure, row_range
from vcm.eval.report.gallery import Gallery
from vcm.eval.report.results import Results
from vcm.eval.report.summary import BEST, Row
from vcm.eval.report.titles import title_of
from vcm.eval.run.worker import HEAD

__all__ = ["format_value", "render_report"]

_TEMPLATE = Path(__file__).parent / "page.html"
_COSTS = (
    ("encode", "encode, ms"), ("decode", "decode, ms"), ("machine", "machine, ms"), ("peak", "memory, MiB"),
    ("encode_kmac", "encode, kMAC/px"), ("decode_kmac", "decode, kMAC/px"), ("parameters", "parameters"),
)  # fmt: skip

_TEXT_COLUMNS = frozenset({"", "against", "point", "remarks", "reason", "version", "settings", "codec", "taken"})


def format_value(row: Row) -> str:
    """How the report writes a row's value."""
    if row.value is None:
        return "–"
    if row.unit == "s":
        return f"{1000 * row.value:.1f}"
    if row.section == "count" or row.quantity in ("objects", "parameters", "bytes"):
        return f"{row.value:,.0f}"
    if row.unit == "bit/px":
        return f"{row.value:.4f}" if row.value < 0.1 else f"{row.value:.3f}"
    if row.quantity.startswith("bd_"):
        return f"{row.value:+.2f}"
    return f"{row.value:.4f}" if row.unit == "" else f"{row.value:.2f}"


def render_report(results: Results, figures: Sequence[Figure], gallery: Gallery | None) -> str:
    """The page."""
    sections = [
        _head(results),
        _figures(figures),
        _deltas(results),
        _points(results),
        _classes(results, gallery),
        _costs(results),
        _gallery(gallery),
        _grounds(results),
    ]
    title = f"{results.protocol['title']} · {results.dataset['name']}"
    body = "\n".join(section for section in sections if section)
    return Template(_TEMPLATE.read_text("utf-8")).substitute(title=escape(title), body=body)


def _number(row: Row | None, *, tag: str = "td", interval: bool = True) -> str:
    if row is None:
        return f"<{tag}>–</{tag}>"
    text = escape(format_value(row))
    if interval and row.low is not None and row.high is not None:
        low, high = (format_value(_with(row, value)) for value in (row.low, row.high))
        text += f" <small>[{escape(low)}, {escape(high)}]</small>"
    return f'<{tag} data-row="{row.row}" title="results.csv row {row.row}">{text}</{tag}>'


def _with(row: Row, value: float) -> Row:
    return Row(row.row, row.section, "", "", "", row.quantity, value, unit=row.unit)


def _table(caption: str, head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    left = ' class="text"'
    cells = "".join(f"<th{left if title in _TEXT_COLUMNS else ''}>{escape(title)}</th>" for title in head)
    lines = "\n".join(f"<tr>{''.join(row)}</tr>" for row in rows)
    return (
        f'<div class="wide"><table><caption>{escape(caption)}</caption>'
        f"<thead><tr>{cells}</tr></thead><tbody>\n{lines}\n</tbody></table></div>"
    )


def _text(value: str, kind: str = "text") -> str:
    return f'<td class="{kind}">{escape(value)}</td>'


def _one(results: Results, section: str, **wanted: str) -> Row | None:
    return next(iter(results.find(section, **wanted)), None)


def _head(results: Results) -> str:
    data = results.dataset
    counts = {row.quantity: row for row in results.find("count") if not row.codec}
    pictures = _number(counts["pictures"], tag="span")
    parts = [
        f"<h1>{escape(results.protocol['title'])}</h1>",
        f"<p class='dim'>Protocol {escape(results.protocol['name'])} · data {escape(data['name'])}, {pictures} pictures"
        f" · {escape(results.environment['time'])}</p>",
        "<p>Rates are whole files, headers included, over source pixels. Brackets and bands are 95 % confidence"
        " intervals over pictures (paired bootstrap). Point at any number to see its row in results.csv.</p>",
        f"<pre>{escape(results.command)}</pre>",
    ]
    if data["pseudo"]:
        parts.append(
            f"<p class='warn'>The ground truth is {escape(data['ground_truth'])}: what a detector finds on the"
            " uncompressed pictures. Accuracies say how much of its opinion is kept, not how right it is.</p>"
        )
    if results.skipped:
        skipped = _number(counts["pictures_skipped"], tag="span")
        parts.append(
            f"<p class='warn'>{skipped} pictures could not be evaluated and count for no codec;"
            " <a href='#grounds'>the reasons</a>.</p>"
        )
    return "\n".join(parts)


def _figures(figures: Sequence[Figure]) -> str:
    items = "\n".join(
        f"<figure>{figure.svg}<figcaption>{escape(figure.title)}<details><summary>rows of results.csv</summary>"
        f"{row_range(figure.rows)}</details></figcaption></figure>"
        for figure in figures
    )
    return f'<h2 id="curves">Curves</h2>\n<div class="figures">{items}</div>' if items else ""


def _deltas(results: Results) -> str:
    tables = []
    for view in results.views:
        for quantity in results.quantities:
            rows = results.find("bd", machine=view, point=quantity, quantity="bd_rate")
            lines = [_delta_line(results, row) for row in rows]
            where = f" as {view} sees it" if view else ""
            if lines:
                head = ("codec", "against", "BD-rate, %", "Akima, %", "BD of the quantity", "remarks")
                tables.append(_table(f"{title_of(quantity)}{where}", head, lines))
            rows = results.find("bd", machine=view, point=quantity, quantity="bd_rate_interval")
            if rows:
                caption = f"{title_of(quantity)}{where}, {rows[0].note.partition('; ')[0]}"
                tables.append(_table(caption, ("codec", "against", "BD-rate, %", "remarks"), map(_interval_line, rows)))
    for row in results.find("bd", quantity="bd_rate_mean"):
        tables.append(
            f"<p>{escape(row.codec)} against {escape(row.against)}: {_number(row, tag='b')} % ({escape(row.note)})</p>"
        )
    explained = "<p class='dim'>Negative: fewer bits for the same result. A dash is a refusal; the remark says why.</p>"
    return '<h2 id="bd">Bjøntegaard deltas</h2>\n' + explained + "\n".join(tables) if tables else ""


def _delta_line(results: Results, rate: Row) -> list[str]:
    wanted = {"codec": rate.codec, "machine": rate.machine, "point": rate.point, "against": rate.against}
    akima, accuracy = (_one(results, "bd", quantity=q, **wanted) for q in ("bd_rate_akima", "bd_accuracy"))
    return [
        _text(rate.codec), _text(rate.against), _number(rate), _number(akima), _number(accuracy),
        _text(rate.note.partition("; ")[2], "note"),
    ]  # fmt: skip


def _interval_line(row: Row) -> list[str]:
    note = row.note.partition("; ")[2]
    return [_text(row.codec), _text(row.against), _number(row), _text(note, "note")]


def _points(results: Results) -> str:
    tables = []
    machines = list(dict.fromkeys(row.machine for row in results.find("point") if row.quantity != "bpp"))
    groups = {machine["group"] for machine in results.machines if "group" in machine}
    for machine in machines:
        quantities = list(
            dict.fromkeys(row.quantity for row in results.find("point", machine=machine) if row.quantity != "bpp")
        )
        lines = []
        for rate in results.find("point", quantity="bpp"):
            cells = [
                _one(results, "point", codec=rate.codec, point=rate.point, machine=machine, quantity=q)
                for q in quantities
            ]
            if any(cells):
                taken = [_text(next(cell.against for cell in cells if cell))] if machine in groups else []
                lines.append([_text(rate.codec), _text(rate.point), _number(rate), *map(_number, cells), *taken])
        caption = {"": "Distortion", HEAD: "Own head on base latents", BEST: "The best machine for each quantity"}
        caption |= {group: f"The better {group} at each point" for group in groups}
        title = caption.get(machine, f"Machine {machine}")
        head = ("codec", "point", "rate, bit/px", *map(title_of, quantities))
        tables.append(_table(title, (*head, "taken") if machine in groups else head, lines))
    tables += _shares(results)
    off = [row for row in results.find("count", quantity="off_target") if row.value]
    if off:
        lines = [[_text(row.codec), _text(row.point), _number(row), _text(row.note, "note")] for row in off]
        tables.append(_table("Target rates that were not met", ("codec", "point", "pictures", ""), lines))
    return '<h2 id="points">Points</h2>\n' + "\n".join(tables)


def _shares(results: Results) -> list[str]:
    """What heads reach, in percent of the ceiling."""
    rows = results.find("share")
    quantities = [quantity for quantity in results.quantities if any(row.quantity == quantity for row in rows)]
    lines = []
    for codec, point in dict.fromkeys((row.codec, row.point) for row in rows):
        rate = _one(results, "point", codec=codec, point=point, quantity="bpp")
        cells = [_one(results, "share", codec=codec, point=point, quantity=quantity) for quantity in quantities]
        lines.append([_text(codec), _text(point), _number(rate), *map(_number, cells)])
    if not lines:
        return []
    title = f"Own head, percent of what {rows[0].against} reaches on uncompressed pictures"
    return [_table(title, ("codec", "point", "rate, bit/px", *map(title_of, quantities)), lines)]


def _classes(results: Results, gallery: Gallery | None) -> str:
    """AP50 of the frequent classes, each codec at its point nearest to the matched rate."""
    rows = results.find("class", quantity="ap50")
    if not rows or gallery is None:
        return ""
    points = {tile.codec: tile.point for line in gallery.tiles for tile in line}
    rows = tuple(row for row in rows if row.note.endswith("frequent") and points.get(row.codec) == row.point)
    columns = list(dict.fromkeys((row.codec, row.point, row.machine) for row in rows))
    cells = {(row.against, row.codec, row.machine): row for row in rows}
    lines = [
        [_text(name), *(_number(cells.get((name, codec, machine))) for codec, _, machine in columns)]
        for name in dict.fromkeys(row.against for row in rows)
    ]
    if not lines:
        return ""
    head = (
        "class",
        *(f"{codec} {point}" + (f", {machine}" if machine == HEAD else "") for codec, point, machine in columns),
    )
    caption = "AP50, %, of classes with many boxes, at points of about one rate; all classes are in results.csv"
    return '<h2 id="classes">Classes</h2>\n' + _table(caption, head, lines)


def _costs(results: Results) -> str:
    lines = []
    for codec in results.codecs:
        rows: dict[str, Row] = {}
        for row in results.find("cost", codec=codec["name"]):
            rows.setdefault(row.quantity, row)
        lines.append([_text(codec["name"]), *(_number(rows.get(quantity)) for quantity, _ in _COSTS)])
    tables = [_table("Times: median for one picture, after a warm-up", ("codec", *(t for _, t in _COSTS)), lines)]
    layers = results.find("layer")
    names = list(dict.fromkeys(row.against for row in layers))
    if layers:
        keys = dict.fromkeys((row.codec, row.point) for row in layers)
        cells = {(row.codec, row.point, row.against): row for row in layers}
        lines = [[_text(c), _text(p), *(_number(cells.get((c, p, name))) for name in names)] for c, p in keys]
        tables.append(_table("Bytes of each layer, mean over pictures", ("codec", "point", *names), lines))
    return '<h2 id="costs">Costs</h2>\n' + "\n".join(tables)


def _gallery(gallery: Gallery | None) -> str:
    if gallery is None:
        return ""
    blocks = []
    for line in gallery.tiles:
        figures = []
        for tile in line:
            objects = f", {_number(tile.objects, tag='span')} objects" if tile.objects else ""
            preview = ", preview; boxes from latents" if tile.preview else ""
            caption = (
                f"{escape(tile.codec)} {escape(tile.point)}: {_number(tile.bpp, tag='span')} bit/px{objects}{preview}"
            )
            alt = escape(f"{tile.picture} by {tile.codec}", quote=True)
            figures.append(f'<figure><img src="{tile.uri}" alt="{alt}"><figcaption>{caption}</figcaption></figure>')
        if line:
            blocks.append(f"<h3>{escape(line[0].picture)}</h3>\n<div class='tiles'>{''.join(figures)}</div>")
    target = _number(gallery.target, tag="span")
    return f'<h2 id="pictures">Pictures at about {target} bit/px</h2>\n' + "\n".join(blocks)


def _grounds(results: Results) -> str:
    parts = ['<h2 id="grounds">What this rests on</h2>']
    parts.append("<h3>Departures from the standard</h3>" + _list(results.protocol["departures"]))
    notes = [*results.dataset["notes"], *results.notes]
    if notes:
        parts.append("<h3>Notes</h3>" + _list(notes))
    if results.skipped:
        keys = ("picture", "codec", "point")
        lines = [[*(_text(s[key]) for key in keys), _text(s["reason"], "note")] for s in results.skipped]
        parts.append(_table("Pictures left out everywhere", (*keys, "reason"), lines))
    lines = []
    for item in (*results.codecs, *results.machines):
        settings = ", ".join(f"{key}={value}" for key, value in item["settings"].items())
        lines.append([_text(item["name"]), _text(item["version"]), _text(settings, "note")])
    parts.append(_table("Codecs and machines", ("name", "version", "settings"), lines))
    lines = [[_text(key), _text(value)] for key, value in results.environment.items()]
    parts.append(_table("Environment", ("", ""), lines))
    return "\n".join(parts)


def _list(items: Iterable[str]) -> str:
    return "<ul>" + "".join(f"<li>{escape(item)}</li>" for item in items) + "</ul>"
