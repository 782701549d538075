"""Rate–accuracy and rate–distortion figures, by matplotlib, from the rows of a run."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from vcm.errors import MissingDependencyError
from vcm.eval.report.results import Results
from vcm.eval.report.summary import Row
from vcm.eval.report.titles import title_of
from vcm.eval.run.worker import HEAD

__all__ = ["Figure", "draw_figures"]

# Okabe and Ito's palette: told apart by people who see colours differently; then the same again with other markers.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c8c8c", "#000000")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure.

    Attributes:
        name: file stem.
        title: caption.
        svg, png: the files.
        rows: numbers of the rows that it shows.
    """

    name: str
    title: str
    svg: str
    png: bytes
    rows: tuple[int, ...]


def draw_figures(results: Results) -> tuple[Figure, ...]:
    """One figure for each view and quantity that has a curve.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    figures = []
    for view in results.views:
        for quantity in results.quantities:
            figure = _draw(results, view, quantity)
            if figure is not None:
                figures.append(figure)
    return tuple(figures)


def _curves(results: Results, view: str, quantity: str) -> dict[str, list[tuple[Row, Row]]]:
    """Curves by label. A head's curve stands in every view."""
    found = {}
    for codec in results.codecs:
        name = codec["name"]
        for machine, label in ((view, name), (HEAD, f"{name} (own head)")):
            pairs = results.curve(name, machine, quantity)
            if pairs and (machine != HEAD or view):
                found[label] = sorted(pairs, key=lambda pair: pair[0].value or 0.0)
    for reference in dict.fromkeys(row.codec for row in results.find("reference")):
        rates = results.find("reference", codec=reference, quantity="bpp")
        values = {row.point: row for row in results.find("reference", codec=reference, quantity=quantity)}
        if values:
            found[reference] = [(rate, values[rate.point]) for rate in rates]
    return found


def _draw(results: Results, view: str, quantity: str) -> Figure | None:
    curves = _curves(results, view, quantity)
    rated = {label: pairs for label, pairs in curves.items() if label != "uncompressed"}
    if not rated:
        return None
    figure, axes = _axes()
    shown: list[int] = []
    for index, (label, pairs) in enumerate(rated.items()):
        style = {"color": _COLOURS[index % len(_COLOURS)], "marker": _MARKERS[index // len(_COLOURS) % len(_MARKERS)]}
        line = "--" if "@" in label else ":" if "published" in label else "-"
        x, y = ([pair[i].value for pair in pairs] for i in (0, 1))
        axes.plot(x, y, label=label, linestyle=line, markersize=4, linewidth=1.4, **style)
        bounded = [pair for pair in pairs if pair[1].low is not None]
        if bounded:
            axes.fill_between(
                [rate.value for rate, _ in bounded], [value.low for _, value in bounded],
                [value.high for _, value in bounded], color=style["color"], alpha=0.08, linewidth=0,
            )  # fmt: skip
        shown += [row.row for pair in pairs for row in pair]
    ceiling = curves.get("uncompressed", [])
    for _, value in ceiling:
        axes.axhline(value.value, color="#444444", linewidth=0.9, linestyle=(0, (6, 3)), label="uncompressed")
        shown.append(value.row)
    axes.set_xlabel("rate, bits per source pixel (whole files)")
    unit = next(pair[1].unit for pairs in rated.values() for pair in pairs)
    title = title_of(quantity)
    axes.set_ylabel(f"{title}, {unit}" if unit else title)
    axes.legend(fontsize=8, frameon=False)
    caption = f"{title} of {view}" if view else title
    figure.suptitle(f"{caption} · {results.dataset['name']}, {results.dataset['pictures']} pictures", fontsize=10)
    name = "-".join(part for part in (view, quantity) if part)
    return Figure(name, caption, _saved(figure, "svg").decode("utf-8"), _saved(figure, "png"), tuple(shown))


def _axes() -> tuple[Any, Any]:
    try:
        from matplotlib.figure import Figure as Canvas
        from matplotlib.ticker import FuncFormatter, LogLocator
    except ImportError as error:
        raise MissingDependencyError("reports need matplotlib: pip install 'vcm[eval]'") from error
    figure = Canvas(figsize=(7.0, 4.6), layout="constrained")
    axes = figure.add_subplot()
    axes.grid(which="both", linewidth=0.3, color="#cccccc")
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)

    def plain(value: float, position: int) -> str:
        return f"{value:g}"

    def minor(value: float, position: int) -> str:
        return f"{value:g}" if f"{value:e}"[0] in "25" else ""

    axes.xaxis.set_major_locator(LogLocator(10))
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(FuncFormatter(plain))
    axes.xaxis.set_minor_formatter(FuncFormatter(minor))
    axes.tick_params(which="both", labelsize=8)
    return figure, axes


def _saved(figure: Any, kind: str) -> bytes:
    import matplotlib

    out = io.BytesIO()
    # A fixed salt and no date: the same results give the same bytes. Text as text: it can be searched and read aloud.
    with matplotlib.rc_context({"svg.hashsalt": "vcm", "svg.fonttype": "none"}):
        figure.savefig(out, format=kind, dpi=150, metadata={"Date": None} if kind == "svg" else None)
    data = out.getvalue()
    # Inside a page only the element counts, not the XML prolog.
    return data[data.index(b"<svg") :] if kind == "svg" else data


def row_range(rows: Sequence[int]) -> str:
    """``3–7, 12`` for row numbers in any order."""
    runs: list[list[int]] = []
    for row in sorted(set(rows)):
        if runs and row == runs[-1][1] + 1:
            runs[-1][1] = row
        else:
            runs.append([row, row])
    return ", ".join(str(a) if a == b else f"{a}–{b}" for a, b in runs)
