"""What an evaluation says, in words and one table: at equal accuracy, how many bits; or why nothing can be said."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vcm.eval.report.results import Results
from vcm.eval.report.rows import DeltaRow, PointRow, ShareRow, select
from vcm.eval.report.titles import higher_is_better, title_of
from vcm.eval.run.views import BEST, UNCOMPRESSED

__all__ = ["Answer", "AnswerLine", "Part", "answer"]

Part = str | tuple[str, int]
"""A piece of a sentence: words, or a number together with the row that it comes from."""


@dataclass(frozen=True, slots=True)
class AnswerLine:
    """One codec against one anchor.

    Attributes:
        codec: as it is called: ``avif, best scales`` for a codec at every scale.
        against: the anchor, likewise.
        delta: the row, with a value or a refusal.
        range: over which accuracies both curves were compared, in words; empty where they were not.
        remark: why there is no value, or what must be known of it; may be empty.
        best: row with the highest value that the codec's curve reaches, or ``None``.
        at: row with the rate there, or ``None``.
    """

    codec: str
    against: str
    delta: DeltaRow
    range: str
    remark: str
    best: PointRow | None
    at: PointRow | None


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer.

    Attributes:
        quantity: the protocol's main quantity.
        view: through whose eyes; empty for distortion.
        sentences: the answer in words.
        lines: the table, fewest bits first, refusals last.
        heads: names of codecs that are read by a head of their own.
    """

    quantity: str
    view: str
    sentences: tuple[tuple[Part, ...], ...]
    lines: tuple[AnswerLine, ...]
    heads: tuple[str, ...]


def answer(results: Results) -> Answer:
    """The answer of an evaluation for its protocol's main quantity.

    Where that has no curve (no class is frequent, say) the next quantity that has one takes its place.
    """
    quantity = _quantity(results)
    view = next(iter([*results.groups(), *(name for name in results.views if name != BEST)]), "")
    rows = _deltas(results, view, quantity)
    lines = sorted((_line(results, view, quantity, row) for row in rows), key=_order)
    heads = tuple(codec.name for codec in results.codecs if codec.head)
    sentences = [*_winner(results, view, quantity, lines), *_shares(results, quantity, heads), *_silence(lines)]
    return Answer(quantity, view, tuple(sentences), tuple(lines), heads)


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


def _line(results: Results, view: str, quantity: str, row: DeltaRow) -> AnswerLine:
    curve = results.curve(row.codec, view, quantity) or results.curve(row.codec, "head", quantity)
    best = (max if higher_is_better(quantity) else min)(curve, key=lambda pair: pair[1].value or 0.0, default=None)
    at, top = best if best is not None and not row.front else (None, None)
    return AnswerLine(
        _called(row.codec, row.front), _called(row.against, row.against_front), row, _range(row), _remark(row), top, at
    )


def _called(name: str, front: bool) -> str:
    return f"{name}, best scales" if front else name


def _order(line: AnswerLine) -> tuple[str, bool, bool, float]:
    return (line.delta.against, line.delta.against_front, line.delta.value is None, line.delta.value or 0.0)


def _range(row: DeltaRow) -> str:
    if row.start is None or row.end is None:
        return ""
    if row.ceiling is None:
        return f"{row.start:.4g} to {row.end:.4g}"
    return f"{row.start:.0f} to {row.end:.0f} % of {row.ceiling_of}'s {row.ceiling:.1f}"


def _remark(row: DeltaRow) -> str:
    parts = [row.refusal] if row.refusal else []
    if row.covered is not None and row.covered < 50:
        parts.append(f"rests on {row.covered:.0f} % of the interval")
    elif row.covered is None and row.overlap is not None and row.overlap < 0.25:
        parts.append(f"the curves share {row.overlap:.0%} of their range")
    if row.undefined:
        parts.append(f"undefined in {row.undefined} of {row.draws} draws of pictures")
    return "; ".join(parts)


def _bits(row: DeltaRow) -> str:
    """``86 % fewer bits``, ``91 % more bits``, ``3.1 times the bits``."""
    value = row.value or 0.0
    if value >= 200:
        return f"{1 + value / 100:.1f} times the bits"
    return f"{abs(value):.0f} % {'fewer' if value < 0 else 'more'} bits"


def _winner(results: Results, view: str, quantity: str, lines: Sequence[AnswerLine]) -> list[tuple[Part, ...]]:
    """Codecs in comparison with the anchor, those with a head of their own first, then the best of the others."""
    seen = f" (decoded pictures read by {view})" if view else ""
    found: list[tuple[Part, ...]] = []
    for against in dict.fromkeys(line.against for line in lines):
        said = [line for line in lines if line.against == against and line.delta.value is not None]
        chosen = [line for line in said if _is_head(results, line.delta)] or said[:1]
        for line in chosen:
            row = line.delta
            within = "" if row.low is None or row.high is None else f" (95 %: {row.low:+.0f} to {row.high:+.0f} %)"
            found.append(
                (f"At equal {title_of(quantity)}{seen}, {line.codec} needs ", (_bits(row), row.row), f"{within} ",
                 f"compared with {against}, over {line.range}.")
            )  # fmt: skip
    return found


def _is_head(results: Results, row: DeltaRow) -> bool:
    return not row.front and any(codec.head and codec.name == row.codec for codec in results.codecs)


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
    silent = list(dict.fromkeys(line.codec for line in lines if line.delta.value is None))
    if not lines:
        return [("Nothing can be compared: no two codecs have a curve of this quantity, or none is the anchor.",)]
    return [(f"Not everything can be compared for {', '.join(silent)}: the table says why.",)] if silent else []
