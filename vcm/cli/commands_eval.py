"""``vcm eval`` and ``vcm compare``: curves, and two evaluations side by side."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from vcm.cli.options import MODEL, Json

__all__ = ["register"]

_CODECS = "vcm-s,jpeg,webp,heic,avif"


def register(app: typer.Typer) -> None:
    """Adds the commands of this module."""
    app.command(name="eval")(evaluate)
    app.command()(compare)


_Protocol = Annotated[
    str,
    typer.Argument(
        metavar="PROTOCOL|HEAD",
        help="vcm-detection, jpeg-ai, kodak-psnr, a YAML file, or a head's file.",
        show_default=False,
    ),
]
_Data = Annotated[
    Path,
    typer.Option("--data", metavar="DIR", help="Pictures: COCO, OpenImages, Kodak, CLIC or plain.", show_default=False),
]
_Out = Annotated[
    Path,
    typer.Option("--out", "-o", metavar="DIR", help="Results and cache; run again to continue.", show_default=False),
]
_Codecs = Annotated[
    str, typer.Option("--codecs", help="Comma-separated: NAME[@PERCENT][:KEY=VALUE;…], such as vvc@50:preset=medium.")
]
_Machines = Annotated[
    list[str] | None,
    typer.Option(
        "--machine",
        metavar="M",
        help="Detector on decoded pixels: twin (our own, on pixels) or twin:PATH[,PATH], yolox_nano.yaml or another "
        "descriptor, torchvision:NAME[:WEIGHTS], detectron2:CONFIG[:WEIGHTS]. May be repeated.",
    ),
]
_Weights = Annotated[
    list[Path] | None, typer.Option("--weights", metavar="DIR", help="Where ONNX files lie. May be repeated.")
]
_Layout = Annotated[str, typer.Option("--layout", help="auto, coco, openimages, kodak, clic or plain.")]
_Limit = Annotated[int | None, typer.Option("--limit", min=1, help="Only the first N pictures.")]
_Jobs = Annotated[int, typer.Option("--jobs", "-j", min=1, max=256, help="Processes.")]
_Pseudo = Annotated[
    bool, typer.Option("--pseudo", help="Truth is what the first machine finds on the uncompressed pictures.")
]
_Streams = Annotated[
    Path | None,
    typer.Option("--streams", metavar="DIR", help="Keep all coded files here: other detectors need no encoder."),
]
_Ceiling = Annotated[
    Path | None, typer.Option("--ceiling", metavar="FILE", help="Of a head: the same, trained on the twin's features.")
]
_Model = Annotated[str, typer.Option("--model", metavar="MODEL", help="Of a head: shipped codec or weights file.")]
_Twin = Annotated[str, typer.Option("--twin", metavar="TWIN", help="Of a head: pixel twin of the ceiling, or none.")]
_Qualities = Annotated[str, typer.Option("--qualities", metavar="LIST", help="Of a head: base qualities.")]


def evaluate(
    protocol: _Protocol,
    data: _Data,
    out: _Out,
    codecs: _Codecs = _CODECS,
    machine: _Machines = None,
    weights: _Weights = None,
    layout: _Layout = "auto",
    limit: _Limit = None,
    jobs: _Jobs = 1,
    pseudo: _Pseudo = False,
    streams: _Streams = None,
    ceiling: _Ceiling = None,
    model: _Model = MODEL,
    twin: _Twin = "vcm-s-twin",
    qualities: _Qualities = "0,20,40,60,80,100",
    as_json: Json = False,
) -> int:
    """Measure rate–accuracy or rate–distortion curves and write a report.

    A run that was stopped continues where it was. Broken pictures are reported, counted and left out for every codec.
    For a head's file: real base-only files at --qualities, the head on their latents, and the pixel twin as ceiling.
    """
    if protocol.endswith(".safetensors"):
        from vcm.cli.head_curves import evaluate_head

        return evaluate_head(Path(protocol), data, out, ceiling, model, twin, qualities, as_json)
    from vcm.cli import output as screen
    from vcm.errors import OptionError
    from vcm.eval.data.datasets import load_dataset
    from vcm.eval.evaluate import evaluate as run_protocol
    from vcm.eval.machines.load import load_machines
    from vcm.eval.report.answer import answer
    from vcm.eval.run.codecs import load_codecs
    from vcm.eval.run.protocols import load_protocol

    plan = load_protocol(protocol)
    pictures = load_dataset(data, layout).first(limit)  # type: ignore[arg-type]
    places = [Path(place) for place in weights or ()]
    machines = load_machines(machine or (), weights=places)
    chosen = load_codecs([spec for spec in codecs.split(",") if spec.strip()], base=plan.task == "detection")
    if pseudo and not machines:
        raise OptionError("--pseudo needs a machine", expected="--machine")
    command = shlex.join(["vcm", *sys.argv[1:]])
    truth = machines[0].name if pseudo else None
    with screen.steps() as progress:
        measured, results = run_protocol(
            plan, pictures, chosen, machines, out, command=command, jobs=jobs, pseudo=truth, streams=streams,
            progress=progress,
        )  # fmt: skip
    for skip in measured.skipped:
        where = " ".join(part for part in (skip.codec, skip.point) if part)
        screen.line(f"left out: {skip.picture}: {f'{where}: ' if where else ''}{skip.reason}")
    for note in measured.notes:
        screen.line(f"note: {note}")
    files = {name: str(out / name) for name in ("report.html", "results.json", "results.csv")}
    if as_json:
        counts = {"pictures": len(measured.dataset.pictures), "skipped": len({s.picture for s in measured.skipped})}
        screen.print_json({**files, **counts, "computed": measured.computed, "cached": measured.cached})
        return 0
    found = answer(results)
    for sentence in found.sentences:
        screen.say("".join(part if isinstance(part, str) else part[0] for part in sentence))
    table = []
    for line in found.lines:
        cells = ("–" if row is None or row.value is None else f"{row.value:+.1f} %" for row in line.deltas)
        table.append((line.codec, *cells, "; ".join(line.remarks)))
    if table:
        columns = ("codec", *(f"bits against {anchor}" for anchor in found.anchors), "remarks")
        screen.print_table(columns, table, left=(0, len(columns) - 1))
    kept = len(measured.dataset.pictures)
    screen.say(
        f"{kept} pictures, {measured.computed} measured now, {measured.cached} from the cache: {files['report.html']}"
    )
    return 0


def compare(
    first: Annotated[Path, typer.Argument(metavar="A", help="results.json or its folder.", show_default=False)],
    second: Annotated[Path, typer.Argument(metavar="B", help="results.json or its folder.", show_default=False)],
    as_json: Json = False,
) -> int:
    """Compare two evaluations: BD-rate of B against A for every curve that both have."""
    from dataclasses import asdict

    from vcm.cli import output as screen
    from vcm.eval.report.compare import compare as compare_results
    from vcm.eval.report.results import read_results

    a, b = read_results(first), read_results(second)
    for key in ("name", "pictures", "ground_truth"):
        one, other = getattr(a.dataset, key), getattr(b.dataset, key)
        if one != other:
            screen.line(f"warning: different data: {key} {one} and {other}")
    found = compare_results(a, b)
    if as_json:
        screen.print_json([asdict(row) for row in found])
        return 0
    table = []
    for row in found:
        delta = "–" if row.bd_rate is None else f"{row.bd_rate:+.2f} %"
        largest = max((abs(y_b - y_a) for _, _, _, y_a, y_b in row.points), default=None)
        shift = "" if largest is None else f"{largest:.3g}"
        table.append((row.codec, row.machine, row.quantity, delta, shift, "yes" if row.same else "no", row.refusal))
    columns = ("codec", "machine", "quantity", "BD-rate of B", "largest shift at a point", "same settings", "remark")
    screen.print_table(columns, table, left=(0, 1, 2, 6))
    return 0
