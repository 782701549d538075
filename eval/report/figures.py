"""Rate–accuracy and rate–distortion figures, by matplotlib, from the rows of a run."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from vcm.errors import MissingDependencyError
from vcm.eval.report.lines import ceiling_of, lines_of
from vcm.eval.report.results import Results
from vcm.eval.report.titles import title_of

__all__ = ["Figure", "draw_figures"]

_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
_DASHES = {"codec": "-", "head": "-", "resampled": "--", "published": ":"}


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


def _draw(results: Results, view: str, quantity: str) -> Figure | None:
    lines = lines_of(results, view, quantity)
    if not lines:
        return None
    figure, axes = _axes()
    shown: list[int] = []
    for line in lines:
        head = line.kind == "head"
        marker = "D" if head else _MARKERS[line.order % len(_MARKERS)]
        x, y = ([pair[i].value for pair in line.points] for i in (0, 1))
        axes.plot(
            x, y, label=line.label, linestyle=_DASHES[line.kind], marker=marker, color=line.colour,
            markersize=6 if head else 4, linewidth=2.4 if head else 1.4, zorder=3 if head else 2,
        )  # fmt: skip
        bounded = [pair for pair in line.points if pair[1].low is not None]
        if bounded:
            axes.fill_between(
                [rate.value for rate, _ in bounded], [value.low for _, value in bounded],
                [value.high for _, value in bounded], color=line.colour, alpha=0.08, linewidth=0,
            )  # fmt: skip
        shown += [row.row for pair in line.points for row in pair]
    ceiling = ceiling_of(results, view, quantity)
    if ceiling is not None:
        axes.axhline(ceiling.value, color="#444444", linewidth=0.9, linestyle=(0, (6, 3)), label="uncompressed")
        shown.append(ceiling.row)
    axes.set_xlabel("rate, bits per source pixel (whole files)")
    unit, title = lines[0].points[0][1].unit, title_of(quantity)
    axes.set_ylabel(f"{title}, {unit}" if unit else title)
    axes.legend(fontsize=8, frameon=False)
    caption = f"{title}; decoded pictures are read by {view}" if view else title
    if any(line.kind == "head" for line in lines):
        caption += ", heads read latents"
    figure.suptitle(f"{caption} · {results.dataset.name}, {results.dataset.pictures} pictures", fontsize=10)
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
