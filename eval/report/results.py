"""``results.json`` and ``results.csv``: every number of a run, with what is needed to obtain it again."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

import pydantic

from vcm.errors import FormatError
from vcm.eval.report.environment import environment
from vcm.eval.report.rows import (
    ClassRow,
    CostRow,
    CountRow,
    DeltaRow,
    ExampleRow,
    LayerRow,
    PointRow,
    ReferenceRow,
    Rows,
    ShareRow,
    select,
)
from vcm.eval.report.summary import Summary
from vcm.eval.run.protocols import Protocol
from vcm.eval.run.runner import Run, Skipped
from vcm.io.files import write_atomically

__all__ = [
    "FORMAT", "CodecEntry", "DatasetEntry", "MachineEntry", "Results", "read_results", "write_results",
]  # fmt: skip

FORMAT: Literal["vcm-eval/2"] = "vcm-eval/2"
"""First field of ``results.json``. Version 1 had one kind of row for everything."""

_MAX_BYTES = 1 << 30


@dataclass(frozen=True, slots=True)
class DatasetEntry:
    """The pictures.

    Attributes:
        name, layout, folder: of the data set.
        pictures: that were evaluated.
        ground_truth: its name, ``None`` for a distortion protocol.
        pseudo: whether that is what a detector found on the uncompressed pictures.
        boxes: annotated ones in the pictures, crowds not counted.
        notes: what a reader must know of the data.
    """

    name: str
    layout: str
    folder: str
    pictures: int
    ground_truth: str | None
    pseudo: bool
    boxes: int
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CodecEntry:
    """What identifies a codec's numbers.

    Attributes:
        name, version, settings: as of :class:`vcm.codecs.protocol.CodecInfo`.
        family: name of the codec that codes: for one on smaller pictures the inner one's, else its own.
        percent: scale of each side for one on smaller pictures, else ``None``.
        head: whether it was read by a head of its own.
    """

    name: str
    version: str
    settings: dict[str, str | int | float | bool]
    family: str
    percent: int | None
    head: bool


@dataclass(frozen=True, slots=True)
class MachineEntry:
    """What identifies a machine's numbers, as of :class:`vcm.eval.machines.MachineInfo`."""

    name: str
    version: str
    settings: dict[str, str]
    group: str


@dataclass(frozen=True, slots=True)
class Results:
    """What ``results.json`` holds.

    Attributes:
        format: :data:`FORMAT`.
        protocol: what was measured.
        dataset: the pictures.
        command: the exact command line.
        environment: machine, versions, time, commit.
        codecs, machines: what identifies each.
        skipped: pictures left out, with reasons.
        notes: what a reader must know.
        views: whose eyes curves are drawn through: machines, groups, ``best``; one empty name for distortion.
        quantities: what curves show.
        rows: every number.
    """

    format: Literal["vcm-eval/2"]
    protocol: Protocol
    dataset: DatasetEntry
    command: str
    environment: dict[str, str]
    codecs: tuple[CodecEntry, ...]
    machines: tuple[MachineEntry, ...]
    skipped: tuple[Skipped, ...]
    notes: tuple[str, ...]
    views: tuple[str, ...]
    quantities: tuple[str, ...]
    rows: Rows

    @classmethod
    def of(cls, run: Run, summary: Summary, command: str) -> Results:
        """Gather the results of a run.

        Args:
            run, summary: what was measured and computed.
            command: the exact command line.
        """
        truth, rows = run.dataset.ground_truth, summary.rows.rows()
        dataset = DatasetEntry(
            run.dataset.name, run.dataset.layout, str(run.dataset.root), len(run.dataset.pictures),
            truth.name if truth else None, bool(truth and truth.pseudo),
            sum(truth.boxes_per_category()) if truth else 0, run.dataset.notes,
        )  # fmt: skip
        heads = {row.codec for row in rows.points if row.machine == "head"}
        codecs = tuple(
            CodecEntry(c.info.name, c.info.version, dict(c.info.settings), c.family, c.percent, c.info.name in heads)
            for c in run.codecs
        )
        machines = tuple(MachineEntry(m.name, m.version, dict(m.settings), m.group) for m in run.machines)
        jobs = f"times were taken with {run.jobs} process{'es' if run.jobs > 1 else ''} at work, one thread each"
        return cls(
            FORMAT, run.protocol, dataset, command, environment(), codecs, machines, run.skipped, (*run.notes, jobs),
            summary.views, summary.quantities, rows,
        )  # fmt: skip

    def curve(self, codec: str, machine: str, quantity: str) -> list[tuple[PointRow, PointRow]]:
        """Points of a curve as pairs of rows (rate, value), in the order in which they were measured.

        Args:
            codec: its name.
            machine: a machine, a view, ``head``, or empty for distortion.
            quantity: what the curve shows.
        """
        rates = {row.point: row for row in select(self.rows.points, codec=codec, quantity="bpp")}
        rows = select(self.rows.points, codec=codec, machine=machine, quantity=quantity)
        return [(rates[row.point], row) for row in rows if row.value is not None]

    def groups(self) -> tuple[str, ...]:
        """Names of the groups of machines."""
        return tuple(dict.fromkeys(machine.group for machine in self.machines if machine.group))


_RESULTS: pydantic.TypeAdapter[Results] = pydantic.TypeAdapter(Results)

_KINDS = (PointRow, ShareRow, ClassRow, LayerRow, CostRow, CountRow, ReferenceRow, DeltaRow, ExampleRow)
_COLUMNS = ("row", "section", *dict.fromkeys(f.name for kind in _KINDS for f in fields(kind) if f.name != "row"))


def write_results(results: Results, out: Path) -> None:
    """Write ``results.json`` and ``results.csv`` into a folder.

    Raises:
        OutputError: the folder cannot be written.
    """
    document = _RESULTS.dump_python(results, mode="json")
    write_atomically(out / "results.json", json.dumps(document, indent=1, allow_nan=False))
    text = io.StringIO()
    writer = csv.DictWriter(text, _COLUMNS, lineterminator="\n")
    writer.writeheader()
    for row in results.rows.every():
        values = {f.name: _cell(getattr(row, f.name)) for f in fields(row)}
        writer.writerow({"section": row.section, **values})
    write_atomically(out / "results.csv", text.getvalue())


def _cell(value: Any) -> object:
    if isinstance(value, tuple):
        return "; ".join(" ".join(map(str, item)) if isinstance(item, tuple) else str(item) for item in value)
    return "" if value is None else repr(value) if isinstance(value, float) else value


def read_results(path: Path) -> Results:
    """Read a ``results.json``, or that of a folder.

    Raises:
        FormatError: it cannot be read or is no such file.
    """
    path = path / "results.json" if path.is_dir() else path
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise FormatError(f"{path} is too large", expected=f"at most {_MAX_BYTES} bytes", found=path.stat().st_size)
        data = json.loads(path.read_bytes())
        found = data.get("format") if isinstance(data, Mapping) else None
        if found != FORMAT:
            raise FormatError(f"{path} holds no evaluation", expected=f"format {FORMAT}", found=found)
        return _RESULTS.validate_python(data)
    except OSError as error:
        raise FormatError(f"{path} cannot be read", found=error.strerror) from error
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise FormatError(f"{path}: {where}", expected=first["msg"], found=first.get("input")) from error
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{path} is not a results.json", found=str(error)) from error
