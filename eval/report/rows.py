"""Every number of an evaluation, one numbered row each; one dataclass for each kind.

``results.csv`` has one line for each row, and the report names it by :attr:`Row.row`. What a row says is in fields:
nothing has to be read out of prose.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal, TypeVar

import numpy as np

from vcm.eval.metrics.bootstrap import percentile_interval
from vcm.eval.run.views import Measured

__all__ = [
    "UNITS", "ClassRow", "CostRow", "CountRow", "DeltaKind", "DeltaRow", "ExampleRow", "LayerRow", "PointRow",
    "ReferenceRow", "Row", "RowWriter", "Rows", "ShareRow", "interval_of", "select",
]  # fmt: skip

UNITS: Mapping[str, str] = {
    "bpp": "bit/px", "ap": "%", "ap50": "%", "person_ap50": "%", "ap50_frequent": "%", "ap75": "%", "person_ap": "%",
    "encode": "s", "decode": "s", "machine": "s", "peak": "MiB", "encode_kmac": "kMAC/px", "decode_kmac": "kMAC/px",
    "bytes": "byte",
}  # fmt: skip
"""Units of quantities that are not distortion metrics (those carry their own)."""

DeltaKind = Literal["bd_rate", "bd_rate_akima", "bd_accuracy", "bd_rate_interval", "bd_rate_mean"]
"""``bd_rate``: by PCHIP over what both curves reach. ``bd_rate_akima``: the same by Akima. ``bd_accuracy``: difference
of the quantity at equal rate. ``bd_rate_interval``: over the protocol's shares of the ceiling. ``bd_rate_mean``: mean
of ``bd_rate`` over several metrics."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What all rows have.

    Attributes:
        row: number, from 1, over all sections.
        value: ``None`` where it could not be computed.
        low, high: 95 % confidence interval over pictures, or ``None``.
        unit: of all three.
        pictures: that it was computed from.
    """

    section: ClassVar[str] = ""

    row: int
    value: float | None
    low: float | None = None
    high: float | None = None
    unit: str = ""
    pictures: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class PointRow(Row):
    """A quantity of a codec at one of its operating points.

    Attributes:
        codec: name.
        point: label, such as ``q=37``.
        machine: that found the objects; a group's name, ``best``, ``head`` (the codec's own), or empty for rate and
            distortion.
        quantity: ``bpp``, a metric's name, ``ap``, …
        taken: for a group or the best, the machine whose value it is.
        candidates: for a group, its machines and their values.
        ceiling: whether it is the group's accuracy on uncompressed pictures, which is its first member's.
    """

    section: ClassVar[str] = "point"

    codec: str
    point: str
    machine: str
    quantity: str
    taken: str = ""
    candidates: tuple[tuple[str, float], ...] = ()
    ceiling: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ShareRow(Row):
    """What a head reaches at a point, in percent of the ceiling.

    Attributes:
        codec, point, quantity: as of :class:`PointRow`.
        of: the machine whose accuracy on uncompressed pictures is the ceiling.
        ceiling: that accuracy.
    """

    section: ClassVar[str] = "share"

    codec: str
    point: str
    quantity: str
    of: str
    ceiling: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassRow(Row):
    """Accuracy of one class at a point.

    Attributes:
        codec, point, machine, quantity: as of :class:`PointRow`.
        name: of the class.
        boxes: annotated ones in the pictures.
        frequent: whether these are as many as ``ap50_frequent`` asks for.
    """

    section: ClassVar[str] = "class"

    codec: str
    point: str
    machine: str
    quantity: str
    name: str
    boxes: int
    frequent: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerRow(Row):
    """Bytes of a layer at a point, mean over pictures.

    Attributes:
        codec, point: as of :class:`PointRow`.
        layer: its name, as the codec has it.
    """

    section: ClassVar[str] = "layer"

    codec: str
    point: str
    layer: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CostRow(Row):
    """What a codec, or a machine that reads its pictures, costs: median over pictures and points, memory the largest.

    Attributes:
        codec: name.
        machine: name, empty where it is the codec's own cost. A head's time includes base decoding.
        quantity: ``encode``, ``decode``, ``machine`` (seconds), ``peak`` (MiB; external programs are not seen),
            ``encode_kmac``, ``decode_kmac``, ``parameters``.
    """

    section: ClassVar[str] = "cost"

    codec: str
    machine: str
    quantity: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CountRow(Row):
    """How many there are.

    Attributes:
        quantity: ``pictures``, ``pictures_skipped``, ``frequent_classes``, or ``off_target``: pictures whose rate is
            more than the protocol's tolerance from the point's target.
        codec, point: of ``off_target``.
    """

    section: ClassVar[str] = "count"

    quantity: str
    codec: str = ""
    point: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceRow(Row):
    """A number of a published curve, not measured here.

    Attributes:
        codec: name of the curve.
        point: ``p1``, ``p2``, … by ascending rate.
        quantity: ``bpp`` or a metric's name.
    """

    section: ClassVar[str] = "reference"

    codec: str
    point: str
    quantity: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DeltaRow(Row):
    """A Bjøntegaard delta of one curve against another.

    Attributes:
        kind: what it is the mean difference of.
        codec, front: the curve under test; ``front``: of the codec at every scale, the best points of all.
        against, against_front: the anchor's.
        view: through whose eyes; empty for distortion.
        over: the quantity that both curves show; empty for ``bd_rate_mean``.
        refusal: why there is no value, or no interval; empty where there are both.
        start, end: where it was integrated, in ``over``'s unit, or in percent of ``ceiling``.
        overlap: that range over the union of both curves' ranges, 0 … 1.
        dropped, against_dropped: points that are beaten by others of the same curve, and were left out.
        undefined, draws: bootstrap draws without a value, of how many.
        covered: how much of the protocol's interval was integrated, percent.
        ceiling_of, ceiling: for ``bd_rate_interval``, the machine and its accuracy on uncompressed pictures.
        metrics, metrics_wanted: for ``bd_rate_mean``, how many metrics it is the mean of, and how many were wanted.
    """

    section: ClassVar[str] = "delta"

    kind: DeltaKind
    codec: str
    front: bool
    against: str
    against_front: bool
    view: str
    over: str
    refusal: str = ""
    start: float | None = None
    end: float | None = None
    overlap: float | None = None
    dropped: tuple[str, ...] = ()
    against_dropped: tuple[str, ...] = ()
    undefined: int = 0
    draws: int = 0
    covered: float | None = None
    ceiling_of: str = ""
    ceiling: float | None = None
    metrics: int = 0
    metrics_wanted: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ExampleRow(Row):
    """A number of a picture that the report shows.

    Attributes:
        codec, point, picture: of the file; ``point`` and ``picture`` are empty for ``target_bpp``.
        machine: that found the objects.
        quantity: ``bpp``, ``objects``, or ``target_bpp``: the rate that the codecs' points were chosen for.
    """

    section: ClassVar[str] = "example"

    codec: str
    point: str
    picture: str
    machine: str
    quantity: str


@dataclass(frozen=True, slots=True)
class Rows:
    """All rows of an evaluation, by kind; within a kind by number."""

    points: tuple[PointRow, ...] = ()
    shares: tuple[ShareRow, ...] = ()
    classes: tuple[ClassRow, ...] = ()
    layers: tuple[LayerRow, ...] = ()
    costs: tuple[CostRow, ...] = ()
    counts: tuple[CountRow, ...] = ()
    references: tuple[ReferenceRow, ...] = ()
    deltas: tuple[DeltaRow, ...] = ()
    examples: tuple[ExampleRow, ...] = ()

    def every(self) -> tuple[Row, ...]:
        """All of them, by number."""
        return tuple(sorted((row for f in fields(self) for row in getattr(self, f.name)), key=lambda row: row.row))


_KINDS: Mapping[str, type[Row]] = {
    "points": PointRow, "shares": ShareRow, "classes": ClassRow, "layers": LayerRow, "costs": CostRow,
    "counts": CountRow, "references": ReferenceRow, "deltas": DeltaRow, "examples": ExampleRow,
}  # fmt: skip

_R = TypeVar("_R", bound=Row)


def select(rows: Iterable[_R], **wanted: object) -> tuple[_R, ...]:
    """Those whose fields have these values."""
    return tuple(row for row in rows if all(getattr(row, key) == value for key, value in wanted.items()))


class RowWriter:
    """Numbers rows in the order in which they are added.

    Args:
        pictures: that numbers are of, where nothing else is said.
    """

    def __init__(self, pictures: int) -> None:
        self._pictures = pictures
        self._rows: list[Row] = []

    def add(self, kind: type[_R], value: float | None, /, **values: Any) -> _R:
        """Add a row of this kind; its unit is that of its quantity where none is given."""
        values.setdefault("pictures", self._pictures)
        values.setdefault("unit", UNITS.get(values.get("quantity", ""), ""))
        row = kind(row=len(self._rows) + 1, value=value, **values)
        self._rows.append(row)
        return row

    def rows(self) -> Rows:
        """Everything that was added."""
        by_kind: dict[str, Any] = {name: tuple(r for r in self._rows if type(r) is k) for name, k in _KINDS.items()}
        return Rows(**by_kind)


def interval_of(measured: Measured) -> dict[str, float | None]:
    """``low`` and ``high`` of a measured quantity, for :meth:`RowWriter.add`."""
    if np.isnan(measured.samples).all():
        return {"low": None, "high": None}
    interval = percentile_interval(measured.samples, measured.value)
    return {"low": interval.low, "high": interval.high}
