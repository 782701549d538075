"""The large plot of the report: an SVG whose points name themselves when they are pointed at, without scripts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from vcm.eval.report.lines import Line, ceiling_of, lines_of
from vcm.eval.report.results import Results
from vcm.eval.report.rows import Row
from vcm.eval.report.titles import title_of

__all__ = ["render_plot"]


@dataclass(frozen=True, slots=True)
class _Shape:
    """Size of a drawing in its own units, and room at the left and below for the axes."""

    name: str
    width: int
    height: int
    left: int
    ticks: int
    font: int


_SHAPES = (_Shape("wide", 1140, 560, 56, 6, 14), _Shape("narrow", 400, 420, 40, 5, 12))
_TOP, _BELOW, _RIGHT = 34, 44, 12


def render_plot(results: Results, view: str, quantity: str) -> str:
    """HTML of the plot with its legend; empty where there is no curve. Drawn twice, and the page shows what fits.

    Args:
        results: of an evaluation.
        view, quantity: what to draw.
    """
    lines = lines_of(results, view, quantity)
    if not lines:
        return ""
    ceiling = ceiling_of(results, view, quantity)
    drawings = "\n".join(_svg(shape, lines, ceiling, quantity) for shape in _SHAPES)
    items = "".join(f"<li>{_swatch(line)}{escape(line.label)}</li>" for line in lines)
    if ceiling is not None:
        items += '<li><svg width="34" height="12"><path d="M1 6H33" class="ceiling"/></svg>uncompressed</li>'
    return f'<div class="plot">\n{drawings}\n<ul class="legend">{items}</ul></div>'


@dataclass(frozen=True, slots=True)
class _Axes:
    """From values to places in a drawing: rates on a logarithmic axis, values on a linear one."""

    shape: _Shape
    x: tuple[float, float]
    y: tuple[float, float]

    @property
    def right(self) -> float:
        return self.shape.width - _RIGHT

    @property
    def bottom(self) -> float:
        return self.shape.height - _BELOW

    def at(self, rate: float, value: float) -> tuple[float, float]:
        across = (math.log10(rate) - self.x[0]) / (self.x[1] - self.x[0])
        up = (value - self.y[0]) / (self.y[1] - self.y[0])
        return (
            round(self.shape.left + across * (self.right - self.shape.left), 1),
            round(self.bottom - up * (self.bottom - _TOP), 1),
        )


def _axes(shape: _Shape, lines: Sequence[Line], ceiling: Row | None) -> _Axes:
    rates = [math.log10(rate.value or 1.0) for line in lines for rate, _ in line.points]
    values = [value.value or 0.0 for line in lines for _, value in line.points]
    values += [ceiling.value or 0.0] if ceiling else []
    pad = 0.05 * (max(rates) - min(rates)) or 0.1
    rise = 0.06 * (max(values) - min(values)) or 1.0
    low = min(values) - rise
    return _Axes(
        shape, (min(rates) - pad, max(rates) + pad), (max(low, 0.0) if min(values) >= 0 else low, max(values) + rise)
    )


def _svg(shape: _Shape, lines: Sequence[Line], ceiling: Row | None, quantity: str) -> str:
    axes = _axes(shape, lines, ceiling)
    unit = next((value.unit for line in lines for _, value in line.points), "")
    title = f"{title_of(quantity)}{f', {unit}' if unit else ''}"
    parts = [_grid(axes), f'<text x="4" y="{shape.font + 2}" class="axis">{escape(title)}</text>']
    parts.append(
        f'<text x="{axes.right}" y="{shape.height - 6}" text-anchor="end" class="axis">'
        "bits per source pixel, whole files</text>"
    )
    if ceiling is not None:
        _, y = axes.at(10 ** axes.x[0], ceiling.value or 0.0)
        parts.append(
            f'<path d="M{shape.left} {y}H{axes.right}" class="ceiling"/>'
            f'<text x="{shape.left + 6}" y="{y - 5}" class="axis">uncompressed {ceiling.value:.1f}</text>'
        )
    # Heads come last: they lie on top. Points lie above all lines, for the pointer.
    ordered = sorted(lines, key=lambda line: line.kind == "head")
    parts += [_curve(axes, line) for line in ordered]
    parts += [_points(axes, line) for line in ordered]
    body = "\n".join(parts)
    return (
        f'<svg class="{shape.name}" viewBox="0 0 {shape.width} {shape.height}" role="img" '
        f'aria-label="{escape(title, quote=True)} against rate" font-size="{shape.font}">\n{body}\n</svg>'
    )


def _grid(axes: _Axes) -> str:
    parts = []
    for value in _even(axes.y, axes.shape.ticks):
        _, y = axes.at(10 ** axes.x[0], value)
        parts.append(f'<path d="M{axes.shape.left} {y}H{axes.right}" class="grid"/>')
        parts.append(f'<text x="{axes.shape.left - 6}" y="{y + 4}" text-anchor="end" class="tick">{value:g}</text>')
    for rate, named in _decades(axes.x):
        x, _ = axes.at(rate, axes.y[0])
        parts.append(f'<path d="M{x} {_TOP}V{axes.bottom}" class="grid"/>')
        if named:
            parts.append(f'<text x="{x}" y="{axes.bottom + 17}" text-anchor="middle" class="tick">{rate:g}</text>')
    return "\n".join(parts)


def _even(span: tuple[float, float], count: int) -> list[float]:
    """About ``count`` round values inside the span."""
    raw = (span[1] - span[0]) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * m for m in (1, 2, 5, 10) if power * m >= raw)
    first = math.ceil(span[0] / step)
    return [round(step * k, 10) for k in range(first, math.floor(span[1] / step) + 1)]


def _decades(span: tuple[float, float]) -> list[tuple[float, bool]]:
    """1, 2, 5 of each decade inside the span; those with a name, of which there are at most eight."""
    found = [
        (round(m * 10.0**k, 12), m)
        for k in range(math.floor(span[0]), math.ceil(span[1]) + 1)
        for m in (1, 2, 5)
        if span[0] <= math.log10(m) + k <= span[1]
    ]
    return [(rate, len(found) <= 8 or m == 1) for rate, m in found]


def _curve(axes: _Axes, line: Line) -> str:
    places = [axes.at(rate.value or 1.0, value.value or 0.0) for rate, value in line.points]
    band = [(rate, value) for rate, value in line.points if value.low is not None and value.high is not None]
    shade = ""
    if band and line.kind in ("codec", "head"):
        over = [axes.at(rate.value or 1.0, _inside(value.high, axes)) for rate, value in band]
        under = [axes.at(rate.value or 1.0, _inside(value.low, axes)) for rate, value in reversed(band)]
        shade = f'<path d="M{_path([*over, *under])}Z" fill="{line.colour}" class="band"/>'
    return f'{shade}<path d="M{_path(places)}" stroke="{line.colour}" class="{line.kind}"/>'


def _inside(value: float | None, axes: _Axes) -> float:
    return min(max(value or 0.0, axes.y[0]), axes.y[1])


def _path(places: Sequence[tuple[float, float]]) -> str:
    return "L".join(f"{x} {y}" for x, y in places)


def _points(axes: _Axes, line: Line) -> str:
    parts = []
    for rate, value in line.points:
        x, y = axes.at(rate.value or 1.0, value.value or 0.0)
        text = f"{line.label} {value.point}: {rate.value:.4g} bit/px, {value.value:.4g}"
        if value.low is not None and value.high is not None:
            text += f" [{value.low:.4g}, {value.high:.4g}]"
        mark = _mark(line, x, y)
        parts.append(
            f'<g class="pt" tabindex="0"><circle cx="{x}" cy="{y}" r="11" fill="transparent"/>{mark}'
            f'<text x="{axes.shape.left + 6}" y="{_TOP + axes.shape.font}" class="tip">{escape(text)}</text>'
            f"<title>{escape(text)}; results.csv rows {rate.row}, {value.row}</title></g>"
        )
    return "\n".join(parts)


def _mark(line: Line, x: float, y: float) -> str:
    if line.kind == "head":
        return f'<path d="M{x} {y - 6}l6 6l-6 6l-6 -6Z" fill="{line.colour}"/>'
    fill = "#fff" if line.kind in ("resampled", "published") else line.colour
    return f'<circle cx="{x}" cy="{y}" r="3.4" fill="{fill}" stroke="{line.colour}" stroke-width="1.5"/>'


def _swatch(line: Line) -> str:
    return (
        f'<svg width="34" height="12"><path d="M1 6H33" stroke="{line.colour}" class="{line.kind}"/>'
        f"{_mark(line, 17, 6)}</svg>"
    )
