"""The curves of a figure: whose they are, and how they are drawn, alike in every figure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from vcm.eval.report.results import Results
from vcm.eval.report.rows import PointRow, ReferenceRow, select
from vcm.eval.run.views import UNCOMPRESSED
from vcm.eval.run.worker import HEAD

__all__ = ["COLOURS", "HEAD_COLOUR", "Line", "ceiling_of", "lines_of"]

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c6bb1", "#7f7f7f")
"""Okabe and Ito's palette, and two more: told apart by people who see colours differently."""

HEAD_COLOUR = "#111111"
"""Heads have one colour of their own, apart from what others' decoded pictures are drawn in."""

Kind = Literal["codec", "resampled", "head", "published"]


@dataclass(frozen=True, slots=True)
class Line:
    """One curve of a figure.

    Attributes:
        label: in the legend.
        kind: a codec's decoded pictures; those of a codec on smaller pictures; a head; a published curve.
        colour: ``#rrggbb``; codecs of one family share it.
        order: among lines of one kind and colour, from 0.
        points: (rate, value), by ascending rate.
    """

    label: str
    kind: Kind
    colour: str
    order: int
    points: tuple[tuple[PointRow | ReferenceRow, PointRow | ReferenceRow], ...]


def lines_of(results: Results, view: str, quantity: str) -> tuple[Line, ...]:
    """All curves of a quantity through one pair of eyes; a head's stands in every view. Without the ceiling.

    Args:
        results: of an evaluation.
        view: one of its views.
        quantity: one of its quantities.
    """
    found: list[Line] = []
    families = list(dict.fromkeys(c.family for c in results.codecs if c.name != UNCOMPRESSED))

    def add(label: str, kind: Kind, colour: str, points: list[tuple[PointRow, PointRow]]) -> None:
        order = sum(line.kind == kind and line.colour == colour for line in found)
        found.append(Line(label, kind, colour, order, tuple(sorted(points, key=lambda pair: pair[0].value or 0.0))))

    for codec in results.codecs:
        if codec.name == UNCOMPRESSED:
            continue
        colour = COLOURS[families.index(codec.family) % len(COLOURS)]
        if points := results.curve(codec.name, view, quantity):
            add(codec.name, "codec" if codec.percent is None else "resampled", colour, points)
        if view and (points := results.curve(codec.name, HEAD, quantity)):
            add(f"{codec.name}, own head", "head", HEAD_COLOUR, points)
    for name in dict.fromkeys(row.codec for row in results.rows.references):
        rates = {row.point: row for row in select(results.rows.references, codec=name, quantity="bpp")}
        values = select(results.rows.references, codec=name, quantity=quantity)
        if values:
            found.append(Line(name, "published", "#555555", 0, tuple((rates[row.point], row) for row in values)))
    return tuple(found)


def ceiling_of(results: Results, view: str, quantity: str) -> PointRow | None:
    """The row with the value on uncompressed pictures."""
    pairs = results.curve(UNCOMPRESSED, view, quantity)
    return pairs[0][1] if pairs else None
