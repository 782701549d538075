"""``results.json`` and ``results.csv``: every number of a run, with what is needed to obtain it again."""

from __future__ import annotations

import csv
import io
import json
import os
import platform
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from vcm.errors import CurveError, FormatError
from vcm.eval.curves.bd import BDResult, Curve, RDPoint, bd_rate
from vcm.eval.metrics.distortion import metrics
from vcm.eval.report.summary import Row, Summary
from vcm.eval.run.runner import Run
from vcm.io.files import write_atomically

__all__ = [
    "FORMAT",
    "Comparison",
    "Results",
    "compare",
    "environment",
    "read_results",
    "write_results",
]

FORMAT = "vcm-eval/1"
"""First field of ``results.json``."""

_MAX_BYTES = 1 << 30
_PACKAGES = (
    "vcm", "numpy", "torch", "torchvision", "pillow", "pillow-heif", "imagecodecs", "compressai", "onnxruntime",
    "pycocotools", "piq", "scipy",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Results:
    """What ``results.json`` holds.

    Attributes:
        protocol: name, title, task, departures and settings.
        dataset: name, layout, folder, number of pictures, notes, ground truth.
        command: the exact command line.
        environment: machine, versions, time, commit.
        codecs, machines: what identifies each.
        skipped: pictures left out, with reasons.
        notes: what a reader must know.
        views, quantities: of the curves.
        rows: every number.
    """

    protocol: dict[str, Any]
    dataset: dict[str, Any]
    command: str
    environment: dict[str, str]
    codecs: tuple[dict[str, Any], ...]
    machines: tuple[dict[str, Any], ...]
    skipped: tuple[dict[str, str], ...]
    notes: tuple[str, ...]
    views: tuple[str, ...]
    quantities: tuple[str, ...]
    rows: tuple[Row, ...]

    @classmethod
    def of(cls, run: Run, summary: Summary, command: str) -> Results:
        """Gather the results of a run."""
        truth = run.dataset.ground_truth
        dataset = {
            "name": run.dataset.name,
            "layout": run.dataset.layout,
            "folder": str(run.dataset.root),
            "pictures": len(run.dataset.pictures),
            "ground_truth": truth.name if truth else None,
            "pseudo": bool(truth and truth.pseudo),
            "boxes": sum(truth.boxes_per_category()) if truth else 0,
            "notes": list(run.dataset.notes),
        }
        jobs = f"times were taken with {run.jobs} process{'es' if run.jobs > 1 else ''} at work, one thread each"
        return cls(
            run.protocol.model_dump(mode="json"), dataset, command, environment(),
            tuple(codec.info.to_json() for codec in run.codecs), tuple(m.to_json() for m in run.machines),
            tuple(asdict(skip) for skip in run.skipped), (*run.notes, jobs), summary.views, summary.quantities,
            summary.rows,
        )  # fmt: skip

    def find(self, section: str, **wanted: str) -> tuple[Row, ...]:
        """Rows of a section whose fields have these values."""
        return tuple(
            r for r in self.rows if r.section == section and all(getattr(r, k) == v for k, v in wanted.items())
        )

    def curve(self, codec: str, machine: str, quantity: str) -> list[tuple[Row, Row]]:
        """Points of a curve as pairs of rows (rate, value), in the order in which they were measured."""
        rates = {row.point: row for row in self.find("point", codec=codec, quantity="bpp")}
        rows = self.find("point", codec=codec, machine=machine, quantity=quantity)
        return [(rates[row.point], row) for row in rows if row.value is not None]


def environment() -> dict[str, str]:
    """Machine, versions of what was used, time, and our commit where vcm runs from its own checkout."""
    found = {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "system": platform.platform(),
        "cpu": _cpu(),
        "cores": str(os.cpu_count()),
    }
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    commit = _commit()
    if commit:
        found["commit"] = commit
    return found


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _commit() -> str:
    """Commit of our own checkout; empty where this file is not one of a checkout's own (an installed package)."""
    here = Path(__file__).resolve()
    # An installed copy may lie inside the user's repository, in a virtual environment say: its commit is not ours.
    if _git(here.parent, "rev-parse", "--show-toplevel") != str(here.parents[2]):
        return ""
    return _git(here.parent, "describe", "--always", "--dirty", "--abbrev=12")


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def write_results(results: Results, out: Path) -> None:
    """Write ``results.json`` and ``results.csv`` into a folder.

    Raises:
        OutputError: the folder cannot be written.
    """
    document = {"format": FORMAT, **asdict(results)}
    write_atomically(out / "results.json", json.dumps(document, indent=1, allow_nan=False))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = [field.name for field in fields(Row)]
    writer.writerow(names)
    for row in results.rows:
        values = (getattr(row, name) for name in names)
        writer.writerow(
            ["" if value is None else repr(value) if isinstance(value, float) else value for value in values]
        )
    write_atomically(out / "results.csv", text.getvalue())


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
        if not isinstance(data, dict) or data.pop("format", None) != FORMAT:
            raise FormatError(f"{path} holds no evaluation", expected=f"format {FORMAT}")
        data["rows"] = tuple(Row(**row) for row in data["rows"])
        for key in ("codecs", "machines", "skipped", "notes", "views", "quantities"):
            data[key] = tuple(data[key])
        return Results(**data)
    except OSError as error:
        raise FormatError(f"{path} cannot be read", found=error.strerror) from error
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise FormatError(f"{path} is not a results.json", found=str(error)) from error


@dataclass(frozen=True, slots=True)
class Comparison:
    """One curve that two results share.

    Attributes:
        codec, machine, quantity: which.
        bd_rate: of B against A in percent, ``None`` where it was refused.
        note: reason of a refusal.
        same: whether codec, version and settings are the same in both.
        points: (point, rate in A, rate in B, value in A, value in B) of the points that both have.
    """

    codec: str
    machine: str
    quantity: str
    bd_rate: float | None
    note: str
    same: bool
    points: tuple[tuple[str, float, float, float, float], ...]


def compare(a: Results, b: Results) -> tuple[Comparison, ...]:
    """Every curve that both have, B against A."""
    codecs_a, codecs_b = ({codec["name"]: codec for codec in results.codecs} for results in (a, b))
    quantities = [quantity for quantity in a.quantities if quantity in b.quantities]
    found = []
    for name in codecs_a:
        if name not in codecs_b:
            continue
        machines = dict.fromkeys(row.machine for row in a.find("point", codec=name) if row.quantity in quantities)
        for machine in machines:
            for quantity in quantities:
                first, second = a.curve(name, machine, quantity), b.curve(name, machine, quantity)
                if first and second:
                    same = codecs_a[name] == codecs_b[name]
                    found.append(_compared(name, machine, quantity, first, second, same))
    return tuple(found)


def _compared(
    codec: str,
    machine: str,
    quantity: str,
    first: Sequence[tuple[Row, Row]],
    second: Sequence[tuple[Row, Row]],
    same: bool,
) -> Comparison:
    higher = metrics()[quantity].higher_is_better if quantity in metrics() else True
    curves = []
    for label, pairs in (("A", first), ("B", second)):
        points = tuple(RDPoint(rate.value or 0.0, value.value or 0.0, value.point) for rate, value in pairs)
        curves.append(Curve(f"{codec} of {label}", points, higher))
    delta: BDResult | None = None
    note = ""
    try:
        delta = bd_rate(*curves)
    except CurveError as error:
        note = str(error)
    others = {point.label: point for point in curves[1].points}
    shared = tuple(
        (p.label, p.rate, others[p.label].rate, p.metric, others[p.label].metric)
        for p in curves[0].points
        if p.label in others
    )
    return Comparison(codec, machine, quantity, delta.value if delta else None, note, same, shared)
