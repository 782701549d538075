"""What an evaluation says of the project's targets: the rows of the table of issue 6 that follow from its results.

Only numbers of ``results.csv`` are used; each target names the rows that it rests on.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from vcm.errors import OptionError
from vcm.eval.report.results import Results
from vcm.eval.report.summary import Row
from vcm.eval.run.views import BEST, UNCOMPRESSED

__all__ = ["COVERED", "LOW_RATE", "Target", "targets"]

LOW_RATE = 0.02
"""Bits per pixel of the row that asks what is left at a very low rate."""
COVERED = 50.0
"""Percent of its interval that a BD-rate must be integrated over to reach a level."""


@dataclass(frozen=True, slots=True)
class Target:
    """One row of the table.

    Attributes:
        name: what is asked.
        value: what was measured, or ``None``; ``note`` then says why.
        low, high: 95 % interval over pictures, or ``None``.
        unit: of all numbers.
        cpu, gpu: floor for weights that were trained on a CPU, and on a GPU; ``None`` where it is only reported.
        target, stretch: what is wanted, and what would be splendid; ``None`` where nothing is asked.
        lower_is_better: rates and BD-rates.
        rows: rows of ``results.csv``, of the Kodak results where the name says so.
        covered: how much of its interval a BD-rate was integrated over, percent.
        note: at which point, over which interval, why not.
    """

    name: str
    value: float | None = None
    low: float | None = None
    high: float | None = None
    unit: str = "%"
    cpu: float | None = None
    gpu: float | None = None
    target: float | None = None
    stretch: float | None = None
    lower_is_better: bool = False
    rows: tuple[int, ...] = ()
    covered: float | None = None
    note: str = ""

    @property
    def reached(self) -> str:
        """The highest of ``stretch``, ``target``, ``GPU floor`` and ``CPU floor`` that is met, or ``none``.

        ``partial`` where less than :data:`COVERED` percent of the interval was integrated; empty where nothing was
        measured or asked.
        """
        levels = (("stretch", self.stretch), ("target", self.target), ("GPU floor", self.gpu), ("CPU floor", self.cpu))
        asked = [(name, level) for name, level in levels if level is not None]
        if self.value is None or not asked:
            return ""
        if self.covered is not None and self.covered < COVERED:
            return "partial"
        sign = -1 if self.lower_is_better else 1
        name = next((name for name, level in asked if sign * self.value >= sign * level), "none")
        return "floor" if name == "GPU floor" and self.cpu == self.gpu else name


_TWIN_PERSON = Target("pixel twin, uncompressed: person AP50", cpu=45, gpu=54, target=60, stretch=64)
_TWIN_ALL = Target("pixel twin, uncompressed: 80-class AP50", cpu=10, gpu=22, target=30, stretch=40)
_TWIN_FREQUENT = Target("pixel twin, uncompressed: AP50 of frequent classes")
_SHARE = Target("base at its best quality: person AP50, share of the twin's", cpu=95, gpu=95, target=98, stretch=99)
_UNDERTRAINED = "; the twin is under-trained: the base beats it beyond the interval"
_SHARE_FREQUENT = Target("there: AP50 of frequent classes, share of the twin's")
_BITS = Target("there: rate", unit="bit/px", cpu=0.06, gpu=0.06, target=0.03, stretch=0.015, lower_is_better=True)
_LOW = Target(f"base at no more than {LOW_RATE:g} bit/px: person AP50, share", cpu=85, gpu=85, target=93, stretch=97)
_LOW_FREQUENT = Target(f"base at no more than {LOW_RATE:g} bit/px: AP50 of frequent classes, share")
_FULL_SIZE = Target(
    "BD-rate against {} with the twins", cpu=-70, gpu=-70, target=-85, stretch=-95, lower_is_better=True
)
_FRONT = Target(
    "BD-rate against the front of resampled {} with the twins",
    cpu=-45, gpu=-45, target=-65, stretch=-85, lower_is_better=True,
)  # fmt: skip
_ABSOLUTE = Target(
    "absolute: BD-rate against the front of resampled {} with all machines",
    target=-40, stretch=-75, lower_is_better=True,
)  # fmt: skip
_KODAK = Target(
    "Kodak: full file, BD-rate over RGB PSNR against VTM", gpu=79, target=25, stretch=0, lower_is_better=True
)


def targets(
    results: Results,
    kodak: Results | None = None,
    *,
    model: str = "vcm-s",
    anchor: str = "vvc",
    best: float | None = None,
) -> tuple[Target, ...]:
    """The rows of the table that follow from results.

    Args:
        results: of a detection protocol with ``--machine twin``.
        kodak: of ``kodak-psnr``.
        model: our codec; ``MODEL-base`` is its base layer.
        anchor: the codec that the base is compared with.
        best: the quality that counts as the base's best, where it was chosen on other pictures; by default the one
            with the highest share here.

    Raises:
        OptionError: the results have no group of pixel twins, or the base was not measured at ``best``.
    """
    group = next((machine["group"] for machine in results.machines if machine.get("group")), None)
    if group is None:
        names = ", ".join(machine["name"] for machine in results.machines) or "no machine"
        raise OptionError("these results have no pixel twins", expected="vcm eval … --machine twin", found=names)
    base = f"{model}-base"
    found = [
        _twin(_TWIN_PERSON, results, group, "person_ap50"),
        _frequent(_twin(_TWIN_FREQUENT, results, group, "ap50_frequent"), results),
        _twin(_TWIN_ALL, results, group, "ap50"),
    ]
    shares = {row.point: row for row in results.find("share", codec=base, quantity="person_ap50")}
    frequent = {row.point: row for row in results.find("share", codec=base, quantity="ap50_frequent")}
    rates = {row.point: row for row in results.find("point", codec=base, quantity="bpp")}
    top = _highest(shares.values()) if best is None else shares.get(f"q={best:g}")
    if best is not None and top is None:
        raise OptionError(f"no share of {base} at q={best:g}", expected=" or ".join(shares) or None)
    at = top.point if top else ""
    none = f"no share of {base}: nothing to compare, or no frequent class"
    warning = _UNDERTRAINED if top and (top.low or 0.0) > 100 else ""
    found += [
        _of(_SHARE, top, f"at {at}{warning}", missing=f"no share of {base}"),
        _of(_SHARE_FREQUENT, frequent.get(at), f"at {at}", missing=none),
        _of(_BITS, rates.get(at), f"at {at}", missing=f"no rate of {base}"),
    ]
    slim = [row for row in shares.values() if (rates[row.point].value or 0.0) <= LOW_RATE]
    low = _highest(slim)
    where = f"at {low.point}, {rates[low.point].value:.4f} bit/px" if low else ""
    missing = f"no point of {base} at or below {LOW_RATE:g} bit/px"
    found += [
        _of(_LOW, low, where, missing=missing),
        _of(_LOW_FREQUENT, frequent.get(low.point) if low else None, where, missing=none if low else missing),
    ]
    for target, view, against in (
        (_FULL_SIZE, group, anchor),
        (_FRONT, group, f"{anchor}-front"),
        (_ABSOLUTE, BEST, f"{anchor}-front"),
    ):
        found += [_delta(target, results, base, anchor, view, against, q) for q in ("person_ap50", "ap50_frequent")]
    found.append(_kodak(kodak, model))
    return tuple(found)


def _twin(target: Target, results: Results, group: str, quantity: str) -> Target:
    rows = results.find("point", codec=UNCOMPRESSED, machine=group, quantity=quantity)
    members = [machine["name"] for machine in results.machines if machine.get("group") == group]
    values = [
        f"{row.machine} {row.value:.2f}"
        for row in results.find("point", codec=UNCOMPRESSED, quantity=quantity)
        if row.machine in members
    ]
    return _of(target, rows[0] if rows else None, "; ".join(values), missing="not measured on uncompressed pictures")


def _frequent(target: Target, results: Results) -> Target:
    """The same, saying how many classes that is."""
    counts = [row.value for row in results.find("count", quantity="frequent_classes") if row.value is not None]
    return replace(target, note=f"{counts[0]:.0f} classes; {target.note}") if counts else target


def _highest(rows: Iterable[Row]) -> Row | None:
    """Of rows with a value the highest; of equal ones the first, which has the lower rate."""
    return max((row for row in rows if row.value is not None), key=lambda row: row.value or 0.0, default=None)


def _of(target: Target, row: Row | None, note: str, *, missing: str) -> Target:
    if row is None:
        return replace(target, note=missing)
    return replace(target, value=row.value, low=row.low, high=row.high, rows=(row.row,), note=note)


def _delta(target: Target, results: Results, base: str, anchor: str, view: str, against: str, quantity: str) -> Target:
    title = {"person_ap50": "person AP50", "ap50_frequent": "AP50 of frequent classes"}[quantity]
    named = replace(target, name=f"{target.name.format(anchor)}, over {title}")
    if view not in results.views:
        return replace(named, note="only the twins were used: add --machine yolox_nano.yaml")
    rows = results.find("bd", codec=base, machine=view, against=against, quantity="bd_rate_interval", point=quantity)
    if not rows:
        known = [codec["name"] for codec in results.codecs]
        lacks = next((name for name in (base, anchor) if name not in known), None)
        why = f"{lacks} was not among the codecs" if lacks else f"no such comparison, of {base} and {against}"
        return replace(named, note=why)
    of = {"codec": base, "machine": view, "against": against, "point": quantity}
    covered = results.find("bd", quantity="bd_rate_covered", **of)
    return replace(_of(named, rows[0], rows[0].note, missing=""), covered=covered[0].value if covered else None)


def _kodak(kodak: Results | None, model: str) -> Target:
    if kodak is None:
        return replace(_KODAK, note="no Kodak results were given: --kodak DIR")
    references = {row.codec for row in kodak.find("reference")}
    rows = [row for row in kodak.find("bd", codec=model, quantity="bd_rate", point="psnr") if row.against in references]
    return _of(_KODAK, rows[0] if rows else None, rows[0].note if rows else "", missing="no published curve in there")
