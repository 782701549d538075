"""One self-contained HTML page for a run. It answers first: words, one table, one plot, pictures; the rest is folded.

Every number in it carries ``data-row``: the row of ``results.csv`` that it comes from.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from string import Template

from vcm.eval.report.answer import Answer, Part, answer
from vcm.eval.report.figures import Figure, row_range
from vcm.eval.report.gallery import Gallery
from vcm.eval.report.plot import render_plot
from vcm.eval.report.results import CodecEntry, MachineEntry, Results
from vcm.eval.report.rows import Row, select
from vcm.eval.report.tables import class_tables, cost_tables, delta_tables, number, point_tables, table, text
from vcm.eval.report.titles import title_of

__all__ = ["render_report"]

_TEMPLATE = Path(__file__).parent / "page.html"


def render_report(results: Results, figures: Sequence[Figure], gallery: Gallery | None) -> str:
    """The page.

    Args:
        results: every number.
        figures: of :func:`vcm.eval.report.figures.draw_figures`.
        gallery: of :func:`vcm.eval.report.gallery.make_gallery`.
    """
    found = answer(results)
    unfolded = [_head(results), _answer(results, found), _warnings(results), _plot(results, found), _gallery(gallery)]
    explained = "<p class='dim'>Negative: fewer bits for the same result. A dash is a refusal; the remark says why.</p>"
    folded = [
        ("curves", "All curves", _figures(figures)),
        ("bd", "All Bjøntegaard deltas", [explained, *delta_tables(results)]),
        ("points", "All points", point_tables(results)),
        ("classes", "Classes", class_tables(results, gallery)),
        ("costs", "Costs: time, memory, layers", cost_tables(results)),
        ("grounds", "What this rests on: departures, notes, versions, command", _grounds(results)),
    ]
    sections = [section for section in unfolded if section]
    sections += [_folded(name, title, parts) for name, title, parts in folded if parts]
    title = f"{results.protocol.title} · {results.dataset.name}"
    return Template(_TEMPLATE.read_text("utf-8")).substitute(title=escape(title), body="\n".join(sections))


def _folded(name: str, title: str, parts: Sequence[str]) -> str:
    body = "\n".join(parts)
    return f'<details id="{name}"><summary>{escape(title)}</summary>\n{body}\n</details>'


def _head(results: Results) -> str:
    counts = {row.quantity: row for row in results.rows.counts if not row.codec}
    return (
        f"<h1>{escape(results.protocol.title)}</h1>\n<p class='dim'>Protocol {escape(results.protocol.name)} ·"
        f" {escape(results.dataset.name)}, {number(counts['pictures'], tag='span')} pictures"
        f" · {escape(results.environment['time'])}</p>"
    )


def _answer(results: Results, found: Answer) -> str:
    words = "\n".join(f"<p>{''.join(map(_part, sentence))}</p>" for sentence in found.sentences)
    if not found.lines:
        return f'<div class="answer">{words}</div>'
    quantity = title_of(found.quantity)
    head = ["codec", *(f"bits against {against}, %" for against in found.anchors), f"best {quantity}", "at bit/px"]
    lines = []
    for line in found.lines:
        cells = [text(line.codec, "text own" if line.head else "text"), *map(_number_or_nothing, line.deltas)]
        lines.append([*cells, *(_number_or_nothing(row, interval=False) for row in (line.best, line.at))])
        if line.remarks:
            lines.append([f'<td class="why" colspan="{len(head)}">{escape(". ".join(line.remarks))}.</td>'])
    interval = results.protocol.interval
    ceiling = next((r.ceiling_of for line in found.lines for r in line.deltas if r is not None and r.ceiling_of), "")
    where = "over what both curves reach"
    if interval is not None and ceiling:
        span = f"{100 * interval.low:.0f} to {100 * interval.high:.0f} %"
        where += f" of {span} of what {ceiling} has on uncompressed pictures"
    caption = (
        f"Bits at equal {quantity}: difference in percent (BD-rate) {where}, with its 95 % interval over pictures. "
        "A dash: nothing can be said, and the line below tells why."
    )
    return f'<div class="answer">{words}\n{table(caption, head, lines)}</div>'


def _number_or_nothing(row: Row | None, *, interval: bool = True) -> str:
    return "<td></td>" if row is None else number(row, interval=interval)


def _part(part: Part) -> str:
    if isinstance(part, str):
        return escape(part)
    words, row = part
    return f'<b title="results.csv row {row}">{escape(words)}</b>'


def _warnings(results: Results) -> str:
    parts = []
    if results.dataset.pseudo:
        parts.append(
            f"<p class='warn'>The ground truth is {escape(results.dataset.ground_truth or '')}: what a detector finds"
            " on the uncompressed pictures. Accuracies say how much of its opinion is kept, not how right it is.</p>"
        )
    if results.skipped:
        (row,) = select(results.rows.counts, quantity="pictures_skipped")
        parts.append(
            f"<p class='warn'>{number(row, tag='span')} pictures could not be evaluated and count for no codec;"
            " the reasons stand under <a href='#grounds'>what this rests on</a>.</p>"
        )
    parts += [f"<p class='dim'>{escape(note[0].upper() + note[1:])}.</p>" for note in results.notes[:-1]]
    return "\n".join(parts)


def _plot(results: Results, found: Answer) -> str:
    plot = render_plot(results, found.view, found.quantity)
    if not plot:
        return ""
    said = [f"Decoded pictures are read by {found.view}."] if found.view else []
    if found.heads and found.view:
        said.append(f"The base layer of {', '.join(found.heads)} is read by its own head, without pixels (black).")
    said.append("Bands are 95 % intervals over pictures. Point at a mark to read it.")
    caption = f"<p class='dim'>{escape(' '.join(said))}</p>"
    return f'<h2 id="plot">{escape(title_of(found.quantity))} and rate</h2>\n{caption}\n{plot}'


def _figures(figures: Sequence[Figure]) -> list[str]:
    items = "\n".join(
        f"<figure>{figure.svg}<figcaption>{escape(figure.title)}; rows {row_range(figure.rows)} of results.csv"
        "</figcaption></figure>"
        for figure in figures
    )
    return [f'<div class="figures">{items}</div>'] if items else []


def _gallery(gallery: Gallery | None) -> str:
    if gallery is None:
        return ""
    blocks = []
    for line in gallery.tiles:
        figures = []
        for tile in line:
            objects = f", {number(tile.objects, tag='span')} objects" if tile.objects else ""
            preview = "; a preview, boxes are from latents" if tile.preview else ""
            caption = (
                f"<b>{escape(tile.codec)}</b> {escape(tile.point)}: {number(tile.bpp, tag='span')} bit/px{objects}"
            )
            alt = escape(f"{tile.picture} by {tile.codec}", quote=True)
            figures.append(
                f'<figure><img src="{tile.uri}" alt="{alt}" loading="lazy">'
                f"<figcaption>{caption}{preview}</figcaption></figure>"
            )
        if line:
            blocks.append(f"<h3>{escape(line[0].picture)}</h3>\n<div class='tiles'>{''.join(figures)}</div>")
    target = number(gallery.target, tag="span")
    return f'<h2 id="pictures">Pictures at about {target} bit/px</h2>\n' + "\n".join(blocks)


def _grounds(results: Results) -> list[str]:
    parts = [
        "<p>Rates are whole files, headers included, over source pixels. Brackets and bands are 95 % confidence"
        " intervals over pictures (paired bootstrap). Point at any number to see its row in results.csv.</p>",
        f"<pre>{escape(results.command)}</pre>",
        "<h3>Departures from the standard</h3>" + _list(results.protocol.departures),
    ]
    notes = [*results.dataset.notes, *results.notes]
    if notes:
        parts.append("<h3>Notes</h3>" + _list(notes))
    if results.skipped:
        rows = [[text(s.picture), text(s.codec), text(s.point), text(s.reason, "note")] for s in results.skipped]
        parts.append(table("Pictures left out everywhere", ("picture", "codec", "point", "reason"), rows))
    lines = []
    items: list[CodecEntry | MachineEntry] = [*results.codecs, *results.machines]
    for item in items:
        settings = ", ".join(f"{key}={value}" for key, value in item.settings.items())
        lines.append([text(item.name), text(item.version), text(settings, "note")])
    parts.append(table("Codecs and machines", ("name", "version", "settings"), lines))
    lines = [[text(key), text(value)] for key, value in results.environment.items()]
    parts.append(table("Environment", ("", ""), lines))
    return parts


def _list(items: Iterable[str]) -> str:
    return "<ul>" + "".join(f"<li>{escape(item)}</li>" for item in items) + "</ul>"
