"""Views of a run: through whose eyes curves are drawn. A machine, the better of a group's, or the best of all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vcm.errors import OptionError
from vcm.eval.machines.protocol import MachineInfo
from vcm.eval.run.worker import HEAD

__all__ = ["BEST", "UNCOMPRESSED", "Measured", "Measurement", "View", "check_names", "merge", "views_of"]

BEST = "best"
"""View of the best machine at each point and quantity, where there are several views."""
UNCOMPRESSED = "uncompressed"
"""Name of the codec that loses nothing: the ceiling."""


@dataclass(frozen=True, slots=True)
class View:
    """Machines behind one curve.

    Attributes:
        name: the machine's, the group's, or :data:`BEST`.
        members: machine names. The first one's accuracy on uncompressed pictures is the ceiling.
        group: whether the better member is taken at each point.
    """

    name: str
    members: tuple[str, ...]
    group: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """A quantity at a point: its value, and that in each draw."""

    value: float
    samples: npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Measurement:
    """What one machine, or a view, has of one quantity at a point.

    Attributes:
        machine: name of the machine or view; empty for distortion.
        quantity: its name.
        measured: value and draws.
        unit: of both.
        taken: for a view, the machine that it is of.
        candidates: for a group, what each of its machines has.
        ceiling: whether it is the group's ceiling: its first member's on uncompressed pictures.
    """

    machine: str
    quantity: str
    measured: Measured
    unit: str
    taken: str = ""
    candidates: tuple[tuple[str, float], ...] = ()
    ceiling: bool = False


def views_of(machines: Sequence[MachineInfo]) -> tuple[View, ...]:
    """A view for each group and for each machine that is in none, in the given order; where there are two, the best."""
    views: list[View] = []
    for machine in machines:
        if not machine.group:
            views.append(View(machine.name, (machine.name,)))
        elif machine.group not in [view.name for view in views]:
            members = tuple(m.name for m in machines if m.group == machine.group)
            views.append(View(machine.group, members, group=True))
    if len(views) > 1:
        views.append(View(BEST, tuple(machine.name for machine in machines)))
    return tuple(views)


def check_names(machines: Sequence[MachineInfo]) -> None:
    """Machines and views share the column of names, so that none may be another's.

    Raises:
        OptionError: two are the same.
    """
    names = [machine.name for machine in machines] + [HEAD, BEST] + [v.name for v in views_of(machines) if v.group]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise OptionError("a machine's name is taken", expected="other names", found=", ".join(twice))


def merge(found: Sequence[Measurement], views: Sequence[View], codec: str) -> list[Measurement]:
    """What groups and the best view have at a point, from what their machines have."""
    out: list[Measurement] = []
    for view in views:
        mine = [m for m in found if m.machine in view.members]
        if view.group:
            out += _better(mine, view, codec)
        elif view.name == BEST:
            out += _best(mine)
    return out


def _best(found: Sequence[Measurement]) -> list[Measurement]:
    best: dict[str, Measurement] = {}
    for m in found:
        known = best.get(m.quantity)
        if known is None or m.measured.value > known.measured.value:
            best[m.quantity] = Measurement(BEST, m.quantity, m.measured, m.unit, m.machine)
    return list(best.values())


def _better(found: Sequence[Measurement], view: View, codec: str) -> list[Measurement]:
    """The better member's of each quantity: no anchor is read by the worse twin. Uncompressed, the ceiling's."""
    out: list[Measurement] = []
    for quantity in dict.fromkeys(m.quantity for m in found):
        mine = {m.machine: m for m in found if m.quantity == quantity}
        better = max(mine, key=lambda name: mine[name].measured.value)
        ceiling = codec == UNCOMPRESSED and view.members[0] in mine
        taken = mine[view.members[0] if ceiling else better]
        values = tuple((name, m.measured.value) for name, m in mine.items())
        out.append(Measurement(view.name, quantity, taken.measured, taken.unit, taken.machine, values, ceiling))
    return out
