"""What an evaluation says, in words and one table: at equal accuracy, how many bits; or why nothing can be said."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vcm.eval.report.results import Results
from vcm.eval.report.rows import DeltaRow, PointRow, ShareRow, select
from vcm.eval.report.titles import higher_is_better, title_of
from vcm.eval.run.views import BEST, UNCOMPRESSED
from vcm.eval.run.worker import HEAD

__all__ = ["Answer", "AnswerLine", "Part", "answer"]

Part = str | tuple[str, int]
"""A piece of a sentence: words, or a number together with the row that it comes from."""


@dataclass(frozen=True, slots=True)
class AnswerLine:
    """One codec.

    Attributes:
        codec: as it is called: ``avif at best scales`` for a codec at every scale.
        head: whether it is read by a head of its own.
        deltas: against each of :attr:`Answer.anchors`: a row with a value or a refusal; ``None`` against itself.
        remarks: why there is no value, or what must be known of one, with the anchor; maybe none.
        best: row with the best value that the codec's curve reaches, or ``None``.
        at: row with the rate there, or ``None``.
    """

    codec: str
    head: bool
    deltas: tuple[DeltaRow | None, ...]
    remarks: tuple[str, ...]
    best: PointRow | None
    at: PointRow | None


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer.

    Attributes:
        quantity: the protocol's main quantity.
        view: through whose eyes; empty for distortion.
        sentences: the answer in words.
        anchors: what the table compares with, as it is called.
        lines: the table, fewest bits first, refusals last.
        heads: names of codecs that are read by a head of their own.
    """

    quantity: str
    view: str
    sentences: tuple[tuple[Part, ...], ...]
    anchors: tuple[str, ...]
    lines: tuple[AnswerLine, ...]
    heads: tuple[str, ...]


def answer(results: Results) -> Answer:
    """The answer of an evaluation for its protocol's main quantity.

    Where that has no curve (no class is frequent, say) the next quantity that has one takes its place.
    """
    quantity = _quantity(results)
    view = next(iter([*results.groups(), *(name for name in results.views if name != BEST)]), "")
    rows = _deltas(results, view, quantity)
    anchors = tuple(dict.fromkeys(_called(row.against, row.against_front) for row in rows))
    tests = dict.fromkeys((row.codec, row.front) for row in rows)
    lines = sorted((_line(results, view, quantity, rows, anchors, test) for test in tests), key=_order)
    heads = tuple(codec.name for codec in results.codecs if codec.head)
    sentences = [*_winners(view, quantity, anchors, lines), *_shares(results, quantity, heads), *_silence(lines)]
    return Answer(quantity, view, tuple(sentences), anchors, tuple(lines), heads)


def _quantity(results: Results) -> str:
    wanted = results.protocol.main_quantity
    known = {row.quantity for row in results.rows.points if row.codec != UNCOMPRESSED}
    return next((q for q in (wanted, *results.quantities) if q in known), wanted)


def _deltas(results: Results, view: str, quantity: str) -> list[DeltaRow]:
    """Over the protocol's interval where it has one, else over all that curves share."""
    rows = select(results.rows.deltas, view=view, over=quantity)
    found = select(rows, kind="bd_rate_interval") or select(rows, kind="bd_rate")
    published = {row.codec for row in results.rows.references}
    names = {codec.name for codec in results.codecs}
    anchor = next((name for name in results.protocol.anchors if name in names), "")
    return [row for row in found if row.against == anchor or row.against in published]


def _line(
    results: Results, view: str, quantity: str, rows: Sequence[DeltaRow], anchors: Sequence[str], test: tuple[str, bool]
) -> AnswerLine:
    name, front = test
    mine = {_called(row.against, row.against_front): row for row in rows if (row.codec, row.front) == test}
    remarks = [(against, _remark(row)) for against, row in mine.items()]
    curve = [] if front else results.curve(name, view, quantity) or results.curve(name, HEAD, quantity)
    best = (max if higher_is_better(quantity) else min)(curve, key=lambda pair: pair[1].value or 0.0, default=None)
    return AnswerLine(
        _called(name, front),
        not front and any(codec.head and codec.name == name for codec in results.codecs),
        tuple(mine.get(against) for against in anchors),
        tuple(f"Against {against}: {remark}" for against, remark in remarks if remark),
        best[1] if best else None,
        best[0] if best else None,
    )


def _called(name: str, front: bool) -> str:
    return f"{name} at best scales" if front else name


def _order(line: AnswerLine) -> tuple[tuple[bool, float], ...]:
    return tuple((row is None or row.value is None, (row and row.value) or 0.0) for row in line.deltas)


def _range(row: DeltaRow) -> str:
    if row.ceiling is None:
        return f"{row.start:.4g} to {row.end:.4g}"
    return f"{row.start:.0f} to {row.end:.0f} % of {row.ceiling_of}'s {row.ceiling:.1f}"


def _remark(row: DeltaRow) -> str:
    if row.value is None:
        return row.refusal
    parts = ["no 95 % interval, undefined in too many draws of pictures"] if row.refusal else []
    if row.covered is not None and row.covered < 75:
        parts.append(f"only {row.covered:.0f} % of the interval can be compared, {_range(row)}")
    elif row.covered is None and row.overlap is not None and row.overlap < 0.25:
        parts.append(f"the curves share only {100 * row.overlap:.0f} % of their range")
    return "; ".join(parts)


def _bits(row: DeltaRow) -> tuple[str, str]:
    """``86 % fewer bits`` and ``than``, or ``3.1 times the bits`` and ``of``."""
    value = row.value or 0.0
    if value >= 200:
        return f"{1 + value / 100:.1f} times the bits", "of"
    return f"{abs(value):.0f} % {'fewer' if value < 0 else 'more'} bits", "than"


def _winners(view: str, quantity: str, anchors: Sequence[str], lines: Sequence[AnswerLine]) -> list[tuple[Part, ...]]:
    """Against each anchor, the codecs with a head of their own; where none can be compared, the one of fewest bits."""
    seen = f" (decoded pictures read by {view})" if view else ""
    found: list[tuple[Part, ...]] = []
    for k, against in enumerate(anchors):
        said = [(line, row) for line in lines if (row := line.deltas[k]) is not None and row.value is not None]
        fewest = sorted(said, key=lambda pair: pair[1].value or 0.0)[:1]
        for line, row in [pair for pair in said if pair[0].head] or fewest:
            words, than = _bits(row)
            ends = "no 95 % interval" if row.low is None else f"95 %: {row.low:+.0f} to {row.high:+.0f} %"
            found.append(
                (f"At equal {title_of(quantity)}{seen}, {line.codec} needs ", (words, row.row), f" {than} {against}",
                 f" ({ends}), over {_range(row)}.")
            )  # fmt: skip
    return found


def _shares(results: Results, quantity: str, heads: Sequence[str]) -> list[tuple[Part, ...]]:
    """How much of the ceiling a head reaches at its best point and at its smallest files."""
    found: list[tuple[Part, ...]] = []
    for name in heads:
        rows = [row for row in select(results.rows.shares, codec=name, quantity=quantity) if row.value is not None]
        rates = {row.point: row for row in select(results.rows.points, codec=name, quantity="bpp")}
        if not rows:
            continue
        best, least = max(rows, key=lambda r: r.value or 0.0), min(rows, key=lambda r: rates[r.point].value or 0.0)

        def reaches(row: ShareRow, rates: dict[str, PointRow] = rates) -> tuple[Part, ...]:
            rate = rates[row.point]
            return ((f"{row.value:.1f} %", row.row), " at ", (f"{rate.value:.4f}", rate.row), f" bit/px ({row.point})")

        top = f" of the {best.ceiling:.1f} that {best.of} has on uncompressed pictures"
        also: tuple[Part, ...] = () if best is least else (", and ", *reaches(least))
        found.append((f"{name}, read by its own head, reaches ", *reaches(best), f"{top}", *also, "."))
    return found


def _silence(lines: Sequence[AnswerLine]) -> list[tuple[Part, ...]]:
    if not lines:
        return [("Nothing can be compared: no two codecs have a curve of this quantity, or none is the anchor.",)]
    silent = [f"“{line.codec}”" for line in lines if any(row is not None and row.value is None for row in line.deltas)]
    return [(f"Not everything can be compared for {', '.join(silent)}: the table says why.",)] if silent else []
